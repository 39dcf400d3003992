"""The Fourier-Bessel transform of partly seen images: basis (3)(4), pair (5)(6), estimate (9), scaling (10)."""

from dvfb_stream.fbt.cache import PlanCache
from dvfb_stream.fbt.coefficients import (
    complex_from_real,
    energy_per_order,
    energy_per_radial_index,
    hermitian_from_printed,
    real_from_complex,
    rotate,
    with_negative_orders,
)
from dvfb_stream.fbt.device import find_device
from dvfb_stream.fbt.elastic_net import Solution
from dvfb_stream.fbt.log_scaling import log_scale, log_unscale, normalise
from dvfb_stream.fbt.plan import FourierBessel
from dvfb_stream.fbt.projection import Projections
from dvfb_stream.fbt.settings import CentreRounding, FourierBesselSettings, PenaltyReading, Solver
from dvfb_stream.reproduction.encoders import LinearEncoder, UnrolledEncoder
from dvfb_stream.reproduction.printed import estimate_early_stopped, estimate_printed
from dvfb_stream.reproduction.quadrature import inverse_transform, synthesise, transform

__all__ = [
    "CentreRounding",
    "FourierBessel",
    "FourierBesselSettings",
    "LinearEncoder",
    "PenaltyReading",
    "PlanCache",
    "Projections",
    "Solution",
    "Solver",
    "UnrolledEncoder",
    "complex_from_real",
    "energy_per_order",
    "energy_per_radial_index",
    "estimate_early_stopped",
    "estimate_printed",
    "find_device",
    "hermitian_from_printed",
    "inverse_transform",
    "log_scale",
    "log_unscale",
    "normalise",
    "real_from_complex",
    "rotate",
    "synthesise",
    "transform",
    "with_negative_orders",
]
