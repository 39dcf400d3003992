"""The Fourier-Bessel transform of partly seen images: basis (3)(4), pair (5)(6), estimate (9), scaling (10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.fbt.coefficients import (
        complex_from_real,
        energy_per_order,
        energy_per_radial_index,
        log_scale,
        log_unscale,
        normalise,
        real_from_complex,
        rotate,
        with_negative_orders,
    )
    from dvfb_stream.fbt.device import find_device
    from dvfb_stream.fbt.elastic_net import Solution
    from dvfb_stream.fbt.estimator import FourierBessel
    from dvfb_stream.fbt.projection import Projections
    from dvfb_stream.fbt.settings import CentreRounding, FourierBesselSettings, PenaltyReading, Solver

__all__ = [
    "CentreRounding",
    "FourierBessel",
    "FourierBesselSettings",
    "PenaltyReading",
    "Projections",
    "Solution",
    "Solver",
    "complex_from_real",
    "energy_per_order",
    "energy_per_radial_index",
    "find_device",
    "log_scale",
    "log_unscale",
    "normalise",
    "real_from_complex",
    "rotate",
    "with_negative_orders",
]

__getattr__ = lazy_names(__name__, __file__)
