"""How unlike the scattering that a network was trained on a frame looks: the score and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

STATISTICS = 7
"""Numbers that `statistics_of` returns for a frame."""
NEARLY_FULL = 254.0
"""Of 255: the detector's limit."""
FRAMES_IN_CACHE = 2
"""Whose statistics are computed at a time: half a megabyte, gone over a dozen times, stays near a processor."""
REGULARISATION = 0.1
"""C of the logistic regression."""
QUANTILES = 513
LEAST_DEVIATION = 1e-6


def statistics_of(images: Tensor, masks: Tensor) -> Tensor:
    """Return what can be said of a view without a network: how bright, how full, and how rough from pixel to pixel.

    Scattering is smooth but for the noise of its counts; what is shuffled, torn or switched off is not.

    Parameters
    ----------
    images
        (B, 256, 256) float32 views, 0..255, 0 where invalid.
    masks
        (B, 256, 256) bool, True = valid; or (1, 256, 256), the same for all.

    Returns
    -------
    Tensor
        (B, 7): mean and deviation over valid pixels, logarithms of the shares of empty and of full pixels, and
        logarithms of the mean steps along rows and along columns over the deviation, and over each other.
    """
    same = _Seen.of(masks) if len(masks) == 1 else None
    parts = [
        slice(start, start + FRAMES_IN_CACHE) for start in range(0, max(len(images), 1), FRAMES_IN_CACHE)
    ]
    return torch.cat([_statistics_of_few(images[part], same or _Seen.of(masks[part])) for part in parts])


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What masks leave of views: 1 where a pixel, or both of a pair, is valid, else 0, and how many are."""

    pixels: Tensor
    """(B, pixels), rows one after the other."""
    counts: Tensor
    """(B,), at least 1."""
    beside: Mapping[int, Tensor]
    """By how many places two pixels are apart: 1 along rows, a row's length along columns; (B, pixels - apart)."""

    @classmethod
    def of(cls, masks: Tensor) -> _Seen:
        """Return it for (B, rows, columns); sums are of float32: torch counts booleans ten times as slowly."""
        valid = masks.float()
        pixels, columns = valid.flatten(1), masks.shape[2]
        along_rows = valid.clone()
        along_rows[:, :, -1] = 0  # what comes after the last of a row is not beside it
        return cls(
            pixels,
            pixels.sum(1).clamp_min(1.0),
            {
                1: along_rows.flatten(1)[:, :-1] * pixels[:, 1:],
                columns: pixels[:, :-columns] * pixels[:, columns:],
            },
        )


FULL = float(np.nextafter(np.float32(NEARLY_FULL), np.float32(0)))


def _statistics_of_few(images: Tensor, seen: _Seen) -> Tensor:
    pixels = images.flatten(1)
    # One after the other in the same memory: new memory costs as much as what is done in it.
    memory = torch.empty_like(pixels)
    mean = pixels.sum(1) / seen.counts
    torch.sub(pixels, mean[:, None], out=memory).mul_(seen.pixels)
    deviation = torch.linalg.vector_norm(memory, dim=1) / seen.counts.sqrt()
    empty = (seen.counts - torch.sign(pixels, out=memory).sum(1)) / seen.counts
    full = torch.clamp(pixels, min=FULL, out=memory).sub_(FULL).sign_().sum(1) / seen.counts

    def step(apart: int) -> Tensor:
        both = seen.beside[apart]
        difference = torch.sub(pixels[:, apart:], pixels[:, :-apart], out=memory[:, :-apart])
        return difference.mul_(both).abs_().sum(1) / both.sum(1).clamp_min(1.0) + 0.05

    across, down = step(1), step(images.shape[2])
    return torch.stack(
        [
            mean / 50.0,
            deviation / 50.0,
            torch.log(empty.clamp_min(0.0) + 1e-3),
            torch.log(full + 1e-3),
            torch.log(across / (deviation + 0.5)),
            torch.log(down / (deviation + 0.5)),
            torch.log(across / down),
        ],
        dim=1,
    )


INVARIANT_STATISTICS = 6
"""Of these, such as no quarter turn or mirror image changes."""


def number_of_statistics(*, invariant: bool) -> int:
    """Return how many statistics a network's novelty takes besides its activations."""
    return INVARIANT_STATISTICS if invariant else STATISTICS


def _invariant(statistics: Tensor) -> Tensor:
    """Return (B, 6) of (B, 7): the steps along rows and columns together, and how much they differ."""
    together = statistics[:, 4:6].mean(dim=1, keepdim=True)
    return torch.cat([statistics[:, :4], together, statistics[:, 6:].abs()], dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """A logistic regression on features and statistics, told from scattering what is none.

    Fitted to simulated frames that show something and to frames made of the same counts that show nothing of the kind
    (outlier exposure). Novelty is the share of held-out simulated frames that look more like scattering: 0.5 is
    ordinary, 1 beyond them all.

    References
    ----------
    Hendrycks, Mazeika and Dietterich (2019), Deep anomaly detection with outlier exposure, ICLR.
    """

    weights: NDArray[np.float32]
    """(hidden + `number_of_statistics`,)."""
    offset: NDArray[np.float32]
    """(1,)."""
    quantiles: NDArray[np.float32]
    """Scores of held-out frames at evenly spaced shares 0..1, ascending."""

    @classmethod
    def fit(
        cls,
        familiar: NDArray[np.floating],
        outliers: NDArray[np.floating],
        held_out: NDArray[np.floating],
    ) -> Novelty:
        """Fit the score to what is scattering and what is not, and its scale to frames held out.

        Parameters
        ----------
        familiar, outliers, held_out
            (N, hidden + `number_of_statistics`) each, as of `novelty_inputs`.
        """
        from sklearn.linear_model import LogisticRegression  # only fitting needs it

        both = np.concatenate([familiar, outliers]).astype(np.float64)
        mean, deviation = both.mean(0), np.maximum(both.std(0), LEAST_DEVIATION)
        unfamiliar = np.repeat([False, True], [len(familiar), len(outliers)])
        regression = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=3000)
        regression.fit((both - mean) / deviation, unfamiliar)
        weights = regression.coef_[0] / deviation
        offset = regression.intercept_[0] - mean @ weights
        fitted = cls(
            weights.astype(np.float32), np.array([offset], dtype=np.float32), np.zeros(1, dtype=np.float32)
        )
        shares = np.linspace(0, 1, QUANTILES)
        quantiles = np.quantile(fitted.score(held_out), shares).astype(np.float32)
        return cls(fitted.weights, fitted.offset, quantiles)

    def score(self, inputs: ArrayLike) -> NDArray[np.float64]:
        """Return, (B,), the log odds that frames are no scattering; inputs as `fit`'s."""
        values = np.asarray(inputs, dtype=np.float64)
        return np.asarray(values @ self.weights.astype(np.float64) + float(self.offset[0]), dtype=np.float64)

    def novelty(self, inputs: ArrayLike) -> NDArray[np.float64]:
        """Return, (B,), the share of held-out frames that look more like scattering."""
        shares = np.linspace(0, 1, len(self.quantiles))
        return np.asarray(np.interp(self.score(inputs), self.quantiles, shares))

    def tensors(self) -> dict[str, Tensor]:
        """Return what `from_tensors` takes."""
        return {field.name: torch.from_numpy(getattr(self, field.name)).clone() for field in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Novelty:
        """Return the score stored as tensors.

        Raises
        ------
        ValueError
            When a tensor is missing or not of one dimension.
        """
        values = {}
        for field in fields(cls):
            tensor = tensors.get(field.name)
            if tensor is None or tensor.dim() != 1 or not len(tensor):
                raise ValueError(f"the novelty score needs {field.name} of one dimension")
            values[field.name] = tensor.numpy().astype(np.float32)
        return cls(**values)


def novelty_inputs(hidden: Tensor, images: Tensor, masks: Tensor, *, invariant: bool) -> NDArray[np.float32]:
    """Return what `Novelty` takes, (B, hidden + `number_of_statistics`), on the CPU.

    Parameters
    ----------
    hidden
        (B, hidden) activations of the first fully connected layer.
    images, masks
        Of `statistics_of`.
    invariant
        Whether the network's own inputs do not change with turns and mirror images: then nothing here does.
    """
    statistics = statistics_of(images, masks)
    joined = torch.cat([hidden.float(), _invariant(statistics) if invariant else statistics], dim=1)
    return np.asarray(joined.cpu().numpy(), dtype=np.float32)
