"""Frames that are no scattering, made of frames that are: what the novelty score learns to tell apart."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.simulation import Simulator
from dvfb_stream.training.dataset import FRAMES_PER_EXPERIMENT, default_simulation
from dvfb_stream.training.examples import Encoded, by_geometry, encode
from dvfb_stream.view import VIEW_SIZE

Counts = NDArray[np.float64]

FULL = 65000.0
"""Counts of a detector's limit that nothing marks as invalid: at 65535, a 16-bit one's, no pixel is left."""


def _noise(source: Counts, rng: Generator) -> Counts:
    """Draw flat illumination of any level, or next to none."""
    return rng.poisson(10 ** rng.uniform(-2.5, 3.5), source.shape).astype(float)


def _blank(source: Counts, rng: Generator) -> Counts:
    """Draw one and the same count everywhere, or the slight unrest of a dark camera."""
    level = float(rng.integers(0, 500)) * (rng.random() < 0.7)
    return np.maximum(level + rng.normal(0.0, rng.uniform(0.0, 3.0), source.shape), 0.0)


def _saturated(source: Counts, rng: Generator) -> Counts:
    """Expose the frame so much longer that most of it is at the limit."""
    glow = source + 0.03 * max(float(source.mean()), 0.5)
    return np.minimum(glow * (FULL / np.quantile(glow, rng.uniform(0.01, 0.5))), FULL)


def _shuffled(source: Counts, rng: Generator) -> Counts:
    """Put the frame's counts at random places."""
    return rng.permutation(source.ravel()).reshape(source.shape)


def _striped(source: Counts, rng: Generator) -> Counts:
    """Draw rows or columns of a readout gone wrong: random gains for bands of random width."""
    edges = np.sort(rng.integers(0, source.shape[0], int(rng.integers(4, 120))))
    bands = np.searchsorted(edges, np.arange(source.shape[0]))
    gains = 10 ** rng.uniform(-2.0, 2.0, len(edges) + 1)
    level = 10 ** rng.uniform(0.0, 3.5)
    striped = rng.poisson(level * gains[bands][:, None] * np.ones(source.shape)).astype(float)
    return striped.T if rng.random() < 0.5 else striped


def _in_pieces(source: Counts, rng: Generator) -> Counts:
    """Put the frame's tiles at one another's places."""
    side = source.shape[0] // int(rng.integers(3, 14))
    count = source.shape[0] // side
    tiles = source[: count * side, : count * side].reshape(count, side, count, side).swapaxes(1, 2)
    mixed = rng.permutation(tiles.reshape(count * count, side, side)).reshape(count, count, side, side)
    pieces = source.copy()
    pieces[: count * side, : count * side] = mixed.swapaxes(1, 2).reshape(count * side, count * side)
    return pieces


def _scene(source: Counts, rng: Generator) -> Counts:
    """Draw clouds with the spectrum of photographs, a power of the frequency, and edges across them."""
    side = source.shape[0]
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    frequency[0, 0] = 1 / side
    spectrum = np.fft.fft2(rng.normal(size=source.shape)) * frequency ** -rng.uniform(0.8, 2.0)
    clouds = np.fft.ifft2(spectrum).real
    scene = clouds / clouds.std()
    y, x = np.indices(source.shape)
    for _ in range(int(rng.integers(0, 8))):  # things in front of one another
        angle, width = rng.uniform(0, np.pi, 2), rng.uniform(8, side / 2, 2)
        middle = rng.uniform(0, side, 2)
        inside = np.ones(source.shape, dtype=bool)
        for direction, extent in zip(angle, width, strict=True):
            along = (x - middle[0]) * np.cos(direction) + (y - middle[1]) * np.sin(direction)
            inside &= np.abs(along) < extent
        scene[inside] = rng.normal(0.0, 1.5) + 0.3 * scene[inside]
    level, depth = 10 ** rng.uniform(0.0, 3.0), rng.uniform(0.3, 1.2)
    counts: Counts = rng.poisson(level * np.exp(depth * scene.clip(-4, 4))).astype(float)
    return counts


OUTLIERS: Mapping[str, Callable[[Counts, Generator], Counts]] = {
    "noise": _noise,
    "blank": _blank,
    "saturated": _saturated,
    "shuffled": _shuffled,
    "striped": _striped,
    "in_pieces": _in_pieces,
    "scene": _scene,
}
"""Kinds by name; each takes square counts and leaves them as they are."""

LABELLED = ("noise", "blank", "saturated")
"""Kinds that the further labels `empty` and `saturated` are for."""


def encoded_outliers(
    seed: int,
    *,
    experiments: int,
    frames: int,
    settings: FourierBesselSettings,
    kinds: Collection[str] = tuple(OUTLIERS),
    sizes: Sequence[int] = (VIEW_SIZE,),
) -> Iterator[Encoded]:
    """Yield outliers of every kind, those of one geometry together, as the networks are shown them.

    Parameters
    ----------
    seed
        Of the simulator, whose frames are their material.
    experiments
        Geometries.
    frames
        Of each kind and geometry, at most `FRAMES_PER_EXPERIMENT`.
    settings
        Of the estimate.
    kinds
        Of `OUTLIERS`.
    sizes
        Of the rasters that geometries have, one after another.
    """
    simulators = [Simulator(seed, settings=replace(default_simulation(), size=size)) for size in sizes]
    rng = np.random.default_rng(seed)
    for number in range(experiments):
        simulator = simulators[number % len(simulators)]
        first = number * FRAMES_PER_EXPERIMENT
        for geometry, pixels, _ in by_geometry(simulator, first, first + frames):
            sources = pixels.astype(float)
            made = [
                make(source, rng) for kind, make in OUTLIERS.items() if kind in kinds for source in sources
            ]
            encoded = encode(made, geometry, settings)
            if encoded is not None:
                yield encoded
