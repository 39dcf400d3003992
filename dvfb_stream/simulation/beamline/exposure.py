"""Counts photons: what a detector makes of the expected intensity."""

from __future__ import annotations

import functools

import torch
from scipy.stats import poisson as poisson_distribution
from torch import Tensor

LEAST_NORMAL = 10.0
"""Mean from which a Poisson variable is taken from a normal one; the distributions differ by 6e-4 (total variation)
at this mean and less above, as a test finds."""
REVIEWED = 3
"""Numbers after which those that are settled are left out."""
LEAST_UNIFORM = 2.0**-24
"""Smallest uniform number in float32."""


def poisson(mean: Tensor, generator: torch.Generator) -> Tensor:
    """Return Poisson variables of the given means, float32; the same for the same state of `generator`.

    On a GPU torch has a sampler. On a CPU its sampler takes one number after the other, 1 to 5 ms for 256 x 256; here
    whole arrays are inverted, a tenth of that. From a mean λ of 10 on, with a standard normal w, the variable is
    ⌊λ + √λ w + 1/3 + w²/6 - (w/36 + w³/72) / √λ⌋: the asymptotic inverse of the distribution function (Giles, ACM
    Trans. Math. Softw. 42 (2016) 7, equation 3.1). Below, the distribution function is summed up.

    Parameters
    ----------
    mean
        Any shape, float32, not negative.
    generator
        On the device of `mean`.
    """
    if mean.device.type != "cpu":
        return torch.poisson(mean, generator=generator)
    flat = mean.reshape(-1)
    low = torch.nonzero(flat < LEAST_NORMAL)[:, 0]
    if len(low) == len(flat):
        return _summed_up(flat, generator).view_as(mean)
    counts = _from_normal(flat, generator)
    if len(low):
        counts[low] = _summed_up(flat[low], generator)
    return counts.view_as(mean)


def _from_normal(mean: Tensor, generator: torch.Generator) -> Tensor:
    normal = torch.randn(mean.shape, generator=generator)
    root = mean.clamp(min=LEAST_NORMAL).sqrt_()
    square = normal * normal
    # w (√λ - (1/36 + w²/72) / √λ) + w²/6 + 1/3 + λ, in place of one temporary array each.
    slope = square.div(-72.0).sub_(1.0 / 36.0).div_(root).add_(root)
    counts = slope.mul_(normal).add_(square.div_(6.0)).add_(1.0 / 3.0).add_(mean)
    return counts.floor_().clamp_(min=0.0)


def _summed_up(mean: Tensor, generator: torch.Generator) -> Tensor:
    """Count how often the chance of a larger number still exceeds a uniform one."""
    # From above: 1 - rand is never 0, which no number of photons would satisfy.
    uniform = torch.rand(mean.shape, generator=generator).neg_().add_(1.0)
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
    return int(poisson_distribution.isf(LEAST_UNIFORM, mean)) + 1
