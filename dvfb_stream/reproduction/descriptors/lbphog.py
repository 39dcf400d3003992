"""lbpphog: local binary patterns and a pyramid of oriented gradients, what was used before deep networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, minimum_filter
from sklearn.base import BaseEstimator, TransformerMixin

from dvfb_stream.errors import SettingsError
from dvfb_stream.models.branches import IMAGE_SIDE
from dvfb_stream.reproduction.descriptors.batches import halved_batches

POINTS_PER_PIXEL = 8
"""Points on a circle of local binary patterns by its radius in pixels: about as many as it crosses pixels."""


class _Transforms(NamedTuple):
    """The two functions of scikit-image."""

    local_binary_pattern: Callable[..., NDArray[np.float64]]
    hog: Callable[..., NDArray[np.float64]]


class LbpHog(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """Local binary patterns on a grid, and oriented gradients on a pyramid, of views averaged to 128 x 128 pixels.

    Nothing is learned. Needs scikit-image.

    Parameters
    ----------
    radii
        Of the circles of local binary patterns, pixels; 8 points on each pixel of radius.
    grid
        Cells a side of the histograms of patterns.
    levels
        Of the pyramid: level l has 2^l cells a side.
    orientations
        Bins of a cell's gradient directions, over 180 degrees.

    Attributes
    ----------
    features : int
        Length of a descriptor: grid² Σ (8 radius + 2) + orientations Σ 4^level; 1,629 by default (864 + 765).

    Notes
    -----
    Patterns are the uniform ones, which do not change when the image turns: the length of the arc of brighter
    points, or that there is more than one. Only pixels whose whole circle is valid and inside the view are
    counted, as shares of the cell. Gradients have no such choice: invalid pixels take the value of the nearest
    valid one, so that the edges of gaps and beamstops are no edges of the image.

    References
    ----------
    Kiapour, Yager, Berg and Berg (2014), Materials discovery: fine-grained classification of X-ray scattering
    images; reference 13 of the paper. Ojala, Pietikäinen and Mäenpää (2002), Multiresolution gray-scale and
    rotation invariant texture classification with local binary patterns. Bosch, Zisserman and Munoz (2007),
    Representing shape with a spatial pyramid kernel.

    Examples
    --------
    >>> import numpy as np
    >>> views = np.random.default_rng(0).random((4, 256, 256)) * 255
    >>> LbpHog().fit_transform(views).shape
    (4, 1629)
    """

    def __init__(
        self,
        *,
        radii: tuple[int, ...] = (1, 2, 3),
        grid: int = 4,
        levels: int = 4,
        orientations: int = 9,
    ) -> None:
        self.radii = radii
        self.grid = grid
        self.levels = levels
        self.orientations = orientations

    @property
    def features(self) -> int:
        """Length of a descriptor."""
        patterns = sum(POINTS_PER_PIXEL * radius + 2 for radius in self.radii)
        cells: int = sum(4**level for level in range(self.levels))
        return self.grid**2 * patterns + self.orientations * cells

    def fit(self, X: Any = None, y: object = None, *, masks: Any = None) -> LbpHog:
        """Check the settings and that scikit-image is there; nothing is learned.

        Raises
        ------
        SettingsError
            When a setting is out of range, or scikit-image is not installed.
        """
        del X, y, masks
        self._check_settings()
        _transforms()
        return self

    def transform(self, X: Any, *, masks: Any = None) -> NDArray[np.float32]:
        """Return descriptors, (N, `features`): patterns by radius, cell (rows first) and kind; gradients by level.

        Parameters
        ----------
        X
            (N, 256, 256) views, 0..255 and 0 where invalid; anything that slices like an array.
        masks
            (N, 256, 256) boolean, True = valid; None: every pixel is.

        Raises
        ------
        SettingsError
            When a setting is out of range, or scikit-image is not installed.
        FrameError
            When shapes do not fit.
        """
        self._check_settings()
        transforms = _transforms()
        descriptors = np.empty((len(X), self.features), dtype=np.float32)
        done = 0
        for images, valid in halved_batches(X, masks):
            for image, mask in zip(images.numpy(), valid.numpy(), strict=True):
                descriptors[done] = np.concatenate(
                    [self._patterns(transforms, image, mask), self._gradients(transforms, image, mask)]
                )
                done += 1
        return descriptors

    def fit_transform(self, X: Any, y: object = None, *, masks: Any = None) -> NDArray[np.float32]:
        """Return the descriptors of views."""
        return self.fit(X, y, masks=masks).transform(X, masks=masks)

    def _patterns(
        self, transforms: _Transforms, image: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        # Whole numbers, as the comparison of floats would read rounding on even ground as texture.
        levels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        cells = _cells(self.grid)
        histograms = []
        for radius in self.radii:
            points = POINTS_PER_PIXEL * radius
            found = transforms.local_binary_pattern(levels, points, radius, method="uniform").astype(np.int64)
            whole = minimum_filter(mask, size=2 * radius + 1, mode="constant", cval=0)
            kinds = points + 2
            counts = np.bincount((cells * kinds + found)[whole], minlength=self.grid**2 * kinds)
            counts = counts.reshape(-1, kinds)
            histograms.append((counts / np.maximum(counts.sum(1, keepdims=True), 1)).ravel())
        return np.concatenate(histograms)

    def _gradients(
        self, transforms: _Transforms, image: NDArray[np.float32], mask: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        if not mask.all():
            nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
            image = image[tuple(nearest)]
        return np.concatenate(
            [
                transforms.hog(
                    image,
                    orientations=self.orientations,
                    pixels_per_cell=(IMAGE_SIDE >> level, IMAGE_SIDE >> level),
                    cells_per_block=(1, 1),
                    # The usual L2-Hys cuts at 0.2, which in a block of one cell is nearly every bin.
                    block_norm="L1",
                )
                for level in range(self.levels)
            ]
        )

    def _check_settings(self) -> None:
        if not self.radii or not all(1 <= radius < IMAGE_SIDE // 2 for radius in self.radii):
            raise SettingsError(
                f"radii must be 1 to {IMAGE_SIDE // 2 - 1} pixels, at least one, not {self.radii}"
            )
        if not 1 <= self.grid <= IMAGE_SIDE:
            raise SettingsError(f"grid must be 1 to {IMAGE_SIDE} cells a side, not {self.grid}")
        # The gradient of a cell needs pixels on either side; cells of the sixth level have four a side.
        if not 1 <= self.levels <= 6:
            raise SettingsError(f"levels must be 1 to 6, not {self.levels}")
        if self.orientations < 1:
            raise SettingsError(f"orientations must be at least 1, not {self.orientations}")


def _cells(grid: int) -> NDArray[np.int64]:
    """Return which cell each pixel is in, rows first, (128, 128)."""
    along = np.arange(IMAGE_SIDE) * grid // IMAGE_SIDE
    cells: NDArray[np.int64] = along[:, None] * grid + along
    return cells


def _transforms() -> _Transforms:
    try:
        from skimage.feature import hog, local_binary_pattern
    except ModuleNotFoundError as error:
        raise SettingsError(
            "the descriptor LbpHog needs scikit-image, which is not installed; "
            "install it with: pip install 'dvfb-stream[evaluate]'"
        ) from error
    return _Transforms(local_binary_pattern, hog)
