"""The set-ups of the two domains: one that never changes, and many on detectors that the simulator does not have."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.reproduction.independent_sets.setup import Pose, Setup, binned_shape, build

SMALL_ANGLE = (
    "pilatus900k", "pilatus6m", "pilatus4_1m", "pilatus4_2m", "eiger9m", "eiger2_16m", "eiger500k", "rayonix133",
    "rayonixmx170", "rayonixsx165", "lambda2m", "lambda750k", "maxipix2x2", "maxipix5x1", "jungfrau4m", "xpad_flat",
    "hf_2m", "frelon",
)  # fmt: skip
WIDE_ANGLE = (
    "perkin", "mar345", "mar555", "pixium", "dexela2923", "rayonixlx255", "pilatus300kw", "rayonixmx225",
    "adsc_q315", "jungfrau8m", "titan", "apex2",
)  # fmt: skip
"""pyFAI's names."""


def single(rng: Generator) -> Setup:
    """Return a set-up such as CHX's for small angles: an Eiger 4M 16 m from the sample, a masked beamstop."""
    pose = Pose(detector="eiger4m", center=(0.41, 0.46), distance=16.03, wavelength=1.2848)
    shape = binned_shape(pose.detector)
    stop = _disc(shape, pose, radius=11.0, arm=3.0, azimuth=np.radians(250.0))
    return build(pose, mask=~stop & _alive(shape, rng, 40))


def mixed(rng: Generator) -> Setup:
    """Return another set-up each time: detector, distance, beam, tilt, beamstop and mask."""
    wide = rng.random() < 0.3
    detector = str(rng.choice(WIDE_ANGLE if wide else SMALL_ANGLE))
    center = rng.uniform(0.3, 0.7, 2)
    if rng.random() < 0.45:  # near an edge or a corner, now and then off the image
        center = rng.uniform(-0.08, 1.08, 2)
    tilt = rng.normal(0.0, 0.12, 2) if wide and rng.random() < 0.5 else np.zeros(2)
    pose = Pose(
        detector=detector,
        center=(float(center[0]), float(center[1])),
        distance=float(rng.uniform(0.15, 0.5) if wide else np.exp(rng.uniform(np.log(1.5), np.log(12.0)))),
        wavelength=float(rng.uniform(0.2, 0.7) if wide else rng.uniform(0.7, 1.6)),
        rot1=float(tilt[0]),
        rot2=float(tilt[1]),
        polarisation=float(rng.uniform(0.9, 1.0)),
    )
    shape = binned_shape(detector)
    transmission = np.where(beamstop(shape, pose, rng), rng.choice([0.0, 1e-3, 1e-2]), 1.0)
    mask = _alive(shape, rng, int(rng.integers(0, 60)))
    if rng.random() < 0.45:
        mask &= transmission == 1.0
    if rng.random() < 0.12:
        mask &= _window(shape, pose, rng)
    return build(pose, transmission, mask=mask)


def _polar(shape: tuple[int, int], pose: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return distance from the beam, pixels, and azimuth of each pixel."""
    y, x = np.indices(shape, dtype=float)
    x, y = x - (pose.center[0] * shape[1] - 0.5), y - (pose.center[1] * shape[0] - 0.5)
    return np.hypot(x, y), np.arctan2(y, x)


def _disc(
    shape: tuple[int, int], pose: Pose, *, radius: float, arm: float, azimuth: float
) -> NDArray[np.bool_]:
    """Return where a disc on an arm shades the detector."""
    r, chi = _polar(shape, pose)
    held = (np.abs(r * np.sin(chi - azimuth)) < arm) & (np.cos(chi - azimuth) > 0)
    shaded: NDArray[np.bool_] = (r < radius) | held
    return shaded


def beamstop(shape: tuple[int, int], pose: Pose, rng: Generator) -> NDArray[np.bool_]:
    """Return where a beamstop shades a detector of `shape`: a disc on an arm, a disc on a wire, or a bar."""
    size, azimuth = max(shape), rng.uniform(0.0, 2.0 * np.pi)
    match rng.integers(3):
        case 0:
            arm = rng.uniform(0.002, 0.008) * size
            return _disc(shape, pose, radius=rng.uniform(0.012, 0.05) * size, arm=arm, azimuth=azimuth)
        case 1:  # a wire without a holder
            return _disc(shape, pose, radius=rng.uniform(0.012, 0.04) * size, arm=0.0, azimuth=azimuth)
        case _:  # a bar that ends at the beam
            arm = rng.uniform(0.01, 0.025) * size
            return _disc(shape, pose, radius=1.3 * arm, arm=arm, azimuth=azimuth)


def _window(shape: tuple[int, int], pose: Pose, rng: Generator) -> NDArray[np.bool_]:
    """Return what a round exit window around the beam lets through; never less than a third of the frame."""
    r, _ = _polar(shape, pose)
    seen: NDArray[np.bool_] = r < np.quantile(r, rng.uniform(0.6, 0.95))
    return seen


def _alive(shape: tuple[int, int], rng: Generator, dead: int) -> NDArray[np.bool_]:
    alive = np.ones(shape, dtype=bool)
    alive[rng.integers(0, shape[0], dead), rng.integers(0, shape[1], dead)] = False
    return alive
