"""What is done to a frame of which the labels must stay the same, and in how many ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from dvfb_stream.frames import Frame
from dvfb_stream.training.real_frames import alterations
from dvfb_stream.training.real_frames.alterations import Settled
from dvfb_stream.training.real_frames.beamstop import with_beamstop_otherwise
from dvfb_stream.training.real_frames.continuation import continued

CENTRE_ERROR = 3.0
"""Detector pixels: what centres from a calibrant of another day are off by."""
LARGER = 1.5
"""Times as long and wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """In how many ways a frame is turned and moved."""

    symmetries: tuple[tuple[int, bool], ...]
    """Quarters of a circle, and whether mirrored before, each."""
    rotations: int
    """By angles drawn evenly from the whole circle."""
    centres: int
    """Of the four sides to which the centre is off."""


THOROUGH = Ways(
    symmetries=tuple((quarters, mirrored) for mirrored in (False, True) for quarters in range(4))[1:],
    rotations=3,
    centres=4,
)
QUICK = Ways(symmetries=((1, False), (1, True)), rotations=1, centres=1)
"""A quarter turn and a mirrored one: whatever changes nothing in these changes nothing in any of the seven."""


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What is drawn by chance for a frame."""

    counts: np.random.Generator
    """Counting noise, each frame's own."""
    mounting: np.random.Generator
    """Angles and sides, the same for all frames of one geometry: what a model keeps by geometry serves all."""


Alteration = Callable[[Settled, Ways, Draws], Iterator[Frame]]


def draws_of(frame: Frame, seed: int, number: int) -> Draws:
    """Return what is drawn for the frame of a number, given the measurement's seed."""
    mounting = int(frame.geometry.digest[:16], 16)
    return Draws(np.random.default_rng((seed, number)), np.random.default_rng((seed, mounting)))


def _symmetries(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    for quarters, mirrored in ways.symmetries:
        yield alterations.turned(settled.frame, quarters, mirrored=mirrored)


def _rotations(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    for degrees in draws.mounting.uniform(0, 360, ways.rotations):
        yield alterations.rotated(settled.frame, float(degrees))


def _centres(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    for side in draws.mounting.permutation(4)[: ways.centres]:
        x, y = ((1, 0), (-1, 0), (0, 1), (0, -1))[side]
        yield alterations.with_centre_off(settled.frame, CENTRE_ERROR * x, CENTRE_ERROR * y)


def _shorter(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    yield alterations.exposed(settled.frame, 0.1, draws.counts)


def _longer(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    yield alterations.exposed(settled.frame, 10, draws.counts)


def _scaled(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    for factor in (0.1, 10):
        yield alterations.scaled(settled.frame, factor)


def _beamstop(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    altered = with_beamstop_otherwise(settled)
    if altered is not None:
        yield altered


def _binned(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    yield alterations.binned(settled.frame)


def _larger(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    yield alterations.on_larger_detector(settled.frame, LARGER)


def _continued(settled: Settled, ways: Ways, draws: Draws) -> Iterator[Frame]:
    altered = continued(settled.frame, LARGER, draws.counts)
    if altered is not None:
        yield altered


ALTERATIONS: Mapping[str, Alteration] = {
    "symmetries": _symmetries,
    "rotations": _rotations,
    "centre_off": _centres,
    "counts_tenth": _shorter,
    "counts_tenfold": _longer,
    "scaled": _scaled,
    "beamstop": _beamstop,
    "binned": _binned,
    "larger_detector": _larger,
    "larger_continued": _continued,
}
"""What is done to each frame, by name; each yields the altered frames, none where it does not apply."""
