"""PCANet: two layers of filters learned without labels, as principal components of patches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.models.branches import IMAGE_SIDE, halve
from dvfb_stream.reproduction.descriptors.batches import halved_batches

SIDE = IMAGE_SIDE // 2
"""Extent of what PCANet looks at: views averaged over 2 x 2 valid pixels, twice. On whole views it would be 16
times as slow, and a patch of 7 pixels would see a quarter of the width."""

MOST_BITS = 12
"""Second-stage filters at most: each doubles the length of a histogram, and blocks have no more than 4096 pixels."""

LEAST_RESPONSE = 1e-3
"""Response, in units of the view's 0..255, up to which a filter found nothing: rounding on even ground is below."""


class PcaNet(BaseEstimator, TransformerMixin):  # type: ignore[misc]
    """PCANet, two stages, binary hashing and block histograms, on views averaged to 64 x 64 pixels.

    Each stage takes the patch around every valid pixel, removes its mean, and projects it on the principal
    components of such patches. The signs of the second stage's responses to one map of the first are the bits of
    one number a pixel, and these numbers are counted block by block.

    Parameters
    ----------
    filters
        Number of filters of either stage; the publication's are (8, 8).
    patch
        Side of the patches in pixels, odd.
    block
        Side of a histogram's block in pixels.
    overlap
        Share of its side, 0 or more and below 1, that a block has in common with the next. Pixels behind the last
        whole block are not counted.

    Attributes
    ----------
    features : int
        Length of a descriptor: first filters x blocks x 2^(second filters); 32,768 by default (8 x 16 x 256).
    first_filters_ : NDArray[np.float32]
        (first filters, patch, patch), orthonormal, by falling share of the variance; the entry that is largest in
        magnitude is positive, since the sign of a component is arbitrary.
    second_filters_ : NDArray[np.float32]
        (second filters, patch, patch), likewise.

    Notes
    -----
    Two things are not as published, for detectors with gaps and beamstops. Pixels that are invalid or outside the
    view take no part: a patch has the mean of its valid pixels removed, and the others are zero after that rather
    than before. Histograms are shares of the block's valid pixels, not counts, which for blocks that are wholly
    valid differ by a factor.

    References
    ----------
    Chan, Jia, Gao, Lu, Zeng and Ma (2015), PCANet: a simple deep learning baseline for image classification?
    Equations 1 to 10.

    Examples
    --------
    >>> import numpy as np
    >>> views = np.random.default_rng(0).random((4, 256, 256)) * 255
    >>> PcaNet().fit(views).transform(views).shape
    (4, 32768)
    """

    def __init__(
        self,
        *,
        filters: tuple[int, int] = (8, 8),
        patch: int = 7,
        block: int = 16,
        overlap: float = 0.0,
    ) -> None:
        self.filters = filters
        self.patch = patch
        self.block = block
        self.overlap = overlap

    @property
    def features(self) -> int:
        """Length of a descriptor."""
        blocks_a_side = (SIDE - self.block) // self._step + 1
        return int(self.filters[0] * blocks_a_side**2 * 2 ** self.filters[1])

    def fit(self, X: Any, y: object = None, *, masks: Any = None) -> PcaNet:
        """Learn the filters of both stages.

        Parameters
        ----------
        X
            (N, 256, 256) views, 0..255 and 0 where invalid; anything that slices like an array.
        y
            Not looked at.
        masks
            (N, 256, 256) boolean, True = valid; None: every pixel is.

        Raises
        ------
        SettingsError
            When a setting is out of range.
        FrameError
            When shapes do not fit, or there are no views.
        """
        del y
        self._check_settings()
        if not len(X):
            raise FrameError("PCANet learns from views, and there are none")
        scatter = torch.zeros(self.patch**2, self.patch**2, dtype=torch.float64)
        for images, valid in _quartered(X, masks):
            scatter += _scatter(images, valid, self.patch)
        self.first_filters_ = _principal(scatter, self.filters[0])
        scatter.zero_()
        first = torch.from_numpy(self.first_filters_)
        for images, valid in _quartered(X, masks):
            for each_map in respond(images, valid, first).unbind(1):
                scatter += _scatter(each_map, valid, self.patch)
        self.second_filters_ = _principal(scatter, self.filters[1])
        return self

    def transform(self, X: Any, *, masks: Any = None) -> NDArray[np.float32]:
        """Return descriptors, (N, `features`): for each first filter, block (rows first) and number, a share.

        Parameters
        ----------
        X, masks
            As `fit` takes them.

        Raises
        ------
        FrameError
            When shapes do not fit.
        """
        check_is_fitted(self)
        first, second = torch.from_numpy(self.first_filters_), torch.from_numpy(self.second_filters_)
        descriptors = np.empty((len(X), self.features), dtype=np.float32)
        done = 0
        for images, valid in _quartered(X, masks):
            codes = torch.stack(
                [
                    hash_signs(respond(each_map, valid, second))
                    for each_map in respond(images, valid, first).unbind(1)
                ],
                dim=1,
            )
            counted = block_histograms(codes, valid, self.block, self._step, 2 ** len(second))
            descriptors[done : done + len(images)] = counted.flatten(1).numpy()
            done += len(images)
        return descriptors

    def fit_transform(self, X: Any, y: object = None, *, masks: Any = None) -> NDArray[np.float32]:
        """Learn from views and return their descriptors."""
        return self.fit(X, y, masks=masks).transform(X, masks=masks)

    @property
    def _step(self) -> int:
        return max(1, round(self.block * (1 - self.overlap)))

    def _check_settings(self) -> None:
        if self.patch < 3 or self.patch % 2 == 0 or self.patch > SIDE:
            raise SettingsError(f"patch must be an odd number from 3 to {SIDE - 1}, not {self.patch}")
        # A patch without its mean has one direction fewer than pixels.
        most = self.patch**2 - 1, min(self.patch**2 - 1, MOST_BITS)
        if len(self.filters) != 2 or not all(1 <= n <= m for n, m in zip(self.filters, most, strict=True)):
            raise SettingsError(f"filters must be 1 to {most[0]} and 1 to {most[1]}, not {self.filters}")
        if not 1 <= self.block <= SIDE:
            raise SettingsError(f"block must be 1 to {SIDE} pixels, not {self.block}")
        if not 0 <= self.overlap < 1:
            raise SettingsError(f"overlap must be 0 or more and below 1, not {self.overlap}")


def _quartered(X: Any, masks: Any) -> Iterator[tuple[Tensor, Tensor]]:
    for images, valid in halved_batches(X, masks):
        yield halve(images, valid)


def patches(images: Tensor, valid: Tensor, patch: int) -> Tensor:
    """Return the mean-removed patch around every pixel.

    Parameters
    ----------
    images, valid
        (B, H, W) float32 and boolean, True = valid.

    Returns
    -------
    Tensor
        (B, patch², H W); zero around invalid pixels.
    """
    known = valid.to(images.dtype)
    values, weights = (
        functional.unfold(field[:, None], patch, padding=patch // 2) for field in (images * known, known)
    )
    mean = values.sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1.0)
    return (values - weights * mean) * known.flatten(1)[:, None]


def respond(images: Tensor, valid: Tensor, filters: Tensor) -> Tensor:
    """Return the projections of mean-removed patches on filters, (B, filters, H, W); zero at invalid pixels.

    Parameters
    ----------
    images, valid
        (B, H, W) float32 and boolean, True = valid.
    filters
        (filters, patch, patch).
    """
    known = valid.to(images.dtype)[:, None]
    kernels = torch.cat([filters, torch.ones_like(filters[:1])])[:, None]
    margin = filters.shape[-1] // 2
    values = functional.conv2d(images[:, None] * known, kernels, padding=margin)
    weights = functional.conv2d(known, kernels, padding=margin)
    mean = values[:, -1:] / weights[:, -1:].clamp_min(1.0)
    return (values[:, :-1] - mean * weights[:, :-1]) * known


def hash_signs(responses: Tensor) -> Tensor:
    """Return, (B, H, W), the number whose bit of value 2^l says whether response l of (B, bits, H, W) is positive."""
    values = 2 ** torch.arange(responses.shape[1])
    return ((responses > LEAST_RESPONSE) * values[:, None, None]).sum(1)


def block_histograms(codes: Tensor, valid: Tensor, block: int, step: int, numbers: int) -> Tensor:
    """Return what share of a block's valid pixels has which number.

    Parameters
    ----------
    codes
        (B, maps, H, W) integers below `numbers`.
    valid
        (B, H, W) boolean.
    block, step
        Side of a block and way to the next, pixels.

    Returns
    -------
    Tensor
        (B, maps, blocks, numbers) float32, blocks rows first; zero where a block has no valid pixel.
    """
    inside = _blocks(codes, block, step)
    counted = _blocks(valid[:, None], block, step).to(torch.float32)
    weights = counted / counted.sum(-1, keepdim=True).clamp_min(1.0)
    extent = inside.shape[:-1]
    offsets = torch.arange(extent.numel()).reshape(*extent, 1) * numbers
    shares = torch.bincount(
        (inside + offsets).flatten(),
        weights.expand(inside.shape).flatten(),
        minlength=extent.numel() * numbers,
    )
    return shares.reshape(*extent, numbers).to(torch.float32)


def _blocks(fields: Tensor, block: int, step: int) -> Tensor:
    """Return (B, maps, blocks, block²) of (B, maps, H, W)."""
    return fields.unfold(-2, block, step).unfold(-2, block, step).flatten(-2).flatten(2, 3)


def _scatter(images: Tensor, valid: Tensor, patch: int) -> Tensor:
    found = patches(images, valid, patch)
    return (found @ found.transpose(1, 2)).sum(0).double()


def _principal(scatter: Tensor, count: int) -> NDArray[np.float32]:
    """Return the leading eigenvectors of (patch², patch²) as filters, (count, patch, patch)."""
    vectors = np.linalg.eigh(scatter.numpy())[1][:, ::-1][:, :count].T
    largest = np.abs(vectors).argmax(1)
    vectors = vectors * np.sign(vectors[np.arange(count), largest])[:, None]
    side = round(len(scatter) ** 0.5)
    filters: NDArray[np.float32] = vectors.reshape(count, side, side).astype(np.float32)
    return filters
