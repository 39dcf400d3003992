"""Counts photons: what a detector makes of the expected intensity."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from scipy.stats import poisson as poisson_distribution
from torch import Tensor

LEAST_NORMAL = 10.0
"""Mean from which a Poisson variable is taken from a normal one; the distributions differ by 6e-4 (total variation)
at this mean and less above, as a test finds."""
REVIEWED = 4
"""Numbers after which those that are settled are left out."""
LEAST_UNIFORM = 2.0**-20
"""Smaller uniform numbers are taken for this one. The chance of a larger number is known to 3.2e-7, what float32
leaves of a sum of 1; compared with less than that, a pixel would be given photons for as long as its neighbours
are."""


def poisson(mean: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return Poisson variables of the given means, float32; those of a frame follow from its seed alone.

    On a GPU torch has a sampler. On a CPU its sampler takes one number after the other, 1 to 5 ms for 256 x 256;
    here whole arrays are inverted, a quarter of that. From a mean λ of 10 on, with a standard normal w, the variable
    is ⌊λ + √λ w + 1/3 + w²/6 - (w/36 + w³/72) / √λ⌋: the asymptotic inverse of the distribution function (Giles,
    ACM Trans. Math. Softw. 42 (2016) 7, equation 3.1). Below, the distribution function is summed up.

    Parameters
    ----------
    mean
        (n, ...) float32, not negative.
    seeds
        Of the frames, n.
    """
    if mean.device.type != "cpu":
        generator = torch.Generator(mean.device)
        frames = [
            torch.poisson(frame, generator=generator.manual_seed(seed))
            for frame, seed in zip(mean, seeds, strict=True)
        ]
        return torch.stack(frames)
    if not mean.numel():
        return torch.empty_like(mean)
    flat = mean.flatten(1)
    few = flat < LEAST_NORMAL
    low_ones = few.sum(dim=1).tolist()
    normal, uniform = torch.zeros_like(flat), torch.empty(sum(low_ones))
    generator, start = torch.Generator(), 0
    for frame, (seed, low) in enumerate(zip(seeds, low_ones, strict=True)):
        generator.manual_seed(seed)
        if low < flat.shape[1]:
            torch.randn(flat.shape[1:], generator=generator, out=normal[frame])
        if low:
            torch.rand(low, generator=generator, out=uniform[start : start + low])
        start += low
    if len(uniform) == flat.numel():
        return _summed_up(flat.reshape(-1), uniform).view_as(mean)
    counts = _from_normal(flat, normal)
    if len(uniform):
        places = torch.nonzero(few.view(-1))[:, 0]
        counts.view(-1)[places] = _summed_up(flat.view(-1)[places], uniform)
    return counts.view_as(mean)


def _from_normal(mean: Tensor, normal: Tensor) -> Tensor:
    root = mean.clamp(min=LEAST_NORMAL).sqrt_()
    square = normal * normal
    # w (√λ - (1/36 + w²/72) / √λ) + w²/6 + 1/3 + λ, in place of one temporary array each.
    slope = square.div(-72.0).sub_(1.0 / 36.0).div_(root).add_(root)
    counts = slope.mul_(normal).add_(square.div_(6.0)).add_(1.0 / 3.0).add_(mean)
    return counts.floor_().clamp_(min=0.0)


def _summed_up(mean: Tensor, uniform: Tensor) -> Tensor:
    """Count how often the chance of a larger number still exceeds a uniform one."""
    uniform = uniform.clamp_(min=LEAST_UNIFORM)
    exactly = torch.exp(-mean)
    more = torch.expm1(-mean).neg_()
    result = torch.zeros_like(mean)
    counts, places = result, None
    most = _most(float(mean.max()))
    for number in range(1, most + 1):
        counts += more > uniform
        exactly.mul_(mean).mul_(1.0 / number)
        more.sub_(exactly)
        if number % REVIEWED == 0 or number == most:
            # Most are soon done: go on with those that are not.
            going = torch.nonzero(more > uniform)[:, 0]
            if 2 * len(going) > len(more) and number < most:
                continue
            if places is not None:
                result[places] = counts
            places = going if places is None else places[going]
            if not len(places) or number == most:
                break
            mean, uniform, exactly, more = (v[going] for v in (mean, uniform, exactly, more))
            counts = result[places]
    return result


def _most(mean: float) -> int:
    """Return the largest number that a uniform number of float32 can ask for."""
    for bound in (0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0):
        if mean <= bound:
            return _most_of(bound)
    return _most_of(LEAST_NORMAL)


@functools.cache
def _most_of(mean: float) -> int:
    return int(poisson_distribution.isf(LEAST_UNIFORM / 2, mean)) + 1
