"""Counts photons, and breaks what a coherent beam scatters into speckles."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from scipy.special import pdtrc
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import VIEW_PIXELS, Raster
from dvfb_stream.simulation.physics.intensities import FWHM_PER_SIGMA

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
    return next(count for count in itertools.count(1) if pdtrc(count - 1, mean) <= LEAST_UNIFORM / 2)


def speckle_field(raster: Raster, *, grain: float, contrast: float, generator: torch.Generator) -> Tensor:
    """Return 1 + β (|z|² - 1), (H, W), mean 1: z a complex Gaussian field with grains of `grain` view pixels.

    |z|² has the negative exponential distribution of fully developed speckle (Goodman, Speckle Phenomena
    in Optics, 2007, section 3.2); β is the contrast that partial coherence leaves. The field is drawn on the pixels
    of the 256 x 256 view, finer than any grain, and interpolated on other rasters: they show the same speckles.
    """
    # |z|² of a field with correlation exp(-r²/(4 σ²)) has exp(-r²/(2 σ²)): its grains are as wide as the kernel.
    sigma = grain / FWHM_PER_SIGMA
    reach = math.ceil(2.5 * sigma)
    steps = torch.arange(-reach, reach + 1, device=generator.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / torch.linalg.vector_norm(kernel)  # so that |z|² has mean 1
    side = VIEW_PIXELS + 2 * reach
    white = torch.randn((2, side, side), generator=generator, device=generator.device)
    # By shifts: a convolution of one channel takes twice as long.
    weights = kernel.tolist()
    across = white[:, :, :VIEW_PIXELS] * weights[0]
    for shift, weight in enumerate(weights[1:], start=1):
        across.add_(white[:, :, shift : shift + VIEW_PIXELS], alpha=weight)
    smooth = across[:, :VIEW_PIXELS] * weights[0]
    for shift, weight in enumerate(weights[1:], start=1):
        smooth.add_(across[:, shift : shift + VIEW_PIXELS], alpha=weight)
    if raster.step != 1.0:
        places = [
            (at + centre).clamp(0.0, VIEW_PIXELS - 1.0)
            for at, centre in zip((raster.x, raster.y), raster.view_center, strict=True)
        ]
        grid = torch.stack(places, dim=-1) * (2.0 / (VIEW_PIXELS - 1)) - 1.0
        smooth = torch.nn.functional.grid_sample(
            smooth[None], grid[None], mode="bilinear", padding_mode="border", align_corners=True
        )[0]
        # Between two values of correlation ρ their mean is weaker than either, by 1 - 2 t (1 - t) (1 - ρ) in |z|².
        alike = float((kernel[:-1] * kernel[1:]).sum())
        for at in places:
            share = at - at.floor()
            smooth = smooth / torch.sqrt(1.0 - 2.0 * share * (1.0 - share) * (1.0 - alike))
    intensity: Tensor = 0.5 * (smooth**2).sum(dim=0)
    return 1.0 + contrast * (intensity - 1.0)
