"""Speckles: what a coherent beam makes of scattering that would be smooth."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dvfb_stream.simulation.beamline.raster import VIEW_PIXELS, Raster
from dvfb_stream.simulation.physics.rings import FWHM_PER_SIGMA


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
