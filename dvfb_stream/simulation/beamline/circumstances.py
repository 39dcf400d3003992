"""What real beamlines do to an experiment: where the beam falls, how large patterns are, what stands in the way."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from dvfb_stream.simulation.beamline.blemishes import HOT_COLUMNS, Blemishes, draw_blemishes
from dvfb_stream.simulation.beamline.outline import Outline, draw_outline
from dvfb_stream.simulation.beamline.readout import Readout, draw_readout
from dvfb_stream.simulation.beamline.stray_light import Stray, draw_stray
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.physics.shadows import Arm, Shadow
from dvfb_stream.simulation.settings import SimulationSettings

COLUMNS = 160 + HOT_COLUMNS
"""Random numbers of an experiment's circumstances."""
MOST_SHADOWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmPlace:
    """How a film at grazing incidence is looked at."""

    height: float
    """How far from the detector's edge below the sample the beam falls, as a share of its side."""
    across: float
    """Where it falls along the other side, as a share."""
    nearer: float
    """Distance of the detector in units of the usual one: horizon and specular reflection move towards the beam."""
    bar: float
    """Half-width, in view pixels, of a linear beamstop that hides beam and specular rod; 0: another beamstop."""

    def beam(self, normal: float) -> tuple[float, float]:
        """Return where the beam falls, as shares of columns and rows; `normal` is the surface's normal's azimuth."""
        up, right = -math.sin(normal), math.cos(normal)
        if abs(up) > abs(right):
            return self.across, 1.0 - self.height if up > 0 else self.height
        return (self.height if right > 0 else 1.0 - self.height), self.across


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Circumstances of an experiment; the defaults are those of an ideal beamline. Lengths in view pixels."""

    outline: Outline | None = None
    """What of the detector sees anything; None: all."""
    beam: tuple[float, float] | None = None
    """Where the beam falls, as shares of the detector's columns and rows; None: drawn otherwise."""
    zoom: float = 1.0
    """How large patterns are, in units of their usual size."""
    arm: Arm | None = None
    """A beamstop that takes the place of the usual one."""
    shadows: tuple[Shadow, ...] = ()
    misalignment: tuple[float, float] = (0.0, 0.0)
    """What the geometry states as the beam centre, less where it is: to the right and down."""
    stray: tuple[Stray, ...] = ()
    """Stray light on one side of the beam."""
    readout: Readout = field(default_factory=Readout)
    blemishes: Blemishes = field(default_factory=Blemishes)
    film: FilmPlace | None = None
    """How a film is looked at, where the sample is one."""

    def described(self) -> dict[str, Any]:
        """Return what is not ideal, JSON-ready; nothing for an ideal beamline."""
        told: dict[str, Any] = {}
        if self.outline is not None:
            told["outline"] = self.outline.described()
        if self.zoom != 1.0:
            told["zoom"] = self.zoom
        if self.shadows:
            told["shadows"] = [shadow.described() for shadow in self.shadows]
        if any(self.misalignment):
            told["misalignment"] = list(self.misalignment)
        if self.stray:
            told["stray_light"] = [stray.described() for stray in self.stray]
        return told | self.readout.described() | self.blemishes.described()


def draw_circumstances(seed: int, number: int, settings: SimulationSettings) -> Circumstances:
    """Draw the circumstances of experiment `number` of a seed; nothing else that is drawn depends on them."""
    draws = Draws(seed, Stream.CIRCUMSTANCES, [number], COLUMNS)
    outline = draw_outline(
        draws,
        round_share=settings.round_detector,
        cropped_share=settings.cropped_detector,
        declared_share=settings.declared_outline,
    )
    return Circumstances(
        outline=outline,
        beam=_draw_beam(draws, settings),
        zoom=(zoom := _draw_zoom(draws, settings)),
        arm=_draw_arm(draws, settings, zoom),
        shadows=_draw_shadows(draws, settings),
        misalignment=_draw_misalignment(draws, settings),
        stray=draw_stray(draws, settings),
        readout=draw_readout(draws, settings),
        film=_draw_film(draws, settings),
        blemishes=draw_blemishes(draws, settings),
    )


def linear_beamstop(half_width: float, *, direction: float) -> Arm:
    """Return the beamstop of grazing incidence: a bar that hides the beam and what lies above it."""
    return Arm(
        radius=half_width,
        direction=direction,
        bend=0.0,
        bend_at=1.0,
        half_width=half_width,
        leak=1e-4,
        arm_leak=1e-4,
        edge=0.3,
        declared=False,
        arm_declared=False,
    )


def _draw_beam(draws: Draws, settings: SimulationSettings) -> tuple[float, float] | None:
    kind = float(draws.uniform()[0])
    middle = draws.normal(0.5, 0.06, count=2)[0].clip(0.2, 0.8)
    # Wide angles: the detector stands beside the beam.
    beyond, along = float(draws.uniform(0.05, 0.6)[0]), float(draws.normal(0.5, 0.2)[0])
    side = int(draws.integers(0, 4)[0])
    if kind < settings.central:
        return float(middle[0]), float(middle[1])
    if kind >= settings.central + settings.off_detector:
        return None
    across = -beyond if side % 2 else 1.0 + beyond
    return (across, along) if side < 2 else (along, across)


def _draw_zoom(draws: Draws, settings: SimulationSettings) -> float:
    kind = float(draws.uniform()[0])
    small, large = float(draws.log_uniform(0.2, 0.67)[0]), float(draws.log_uniform(1.3, 3.0)[0])
    if kind < settings.small_pattern:
        return small
    return large if kind < settings.small_pattern + settings.large_pattern else 1.0


def _draw_arm(draws: Draws, settings: SimulationSettings, zoom: float) -> Arm | None:
    there = bool(draws.happens(settings.arms)[0])
    radius = max(float(draws.log_uniform(1.5, 9.0)[0]) * math.sqrt(min(zoom, 1.0)), 1.2)
    kind = int(draws.choice((0.5, 0.25, 0.25))[0])
    direction, bend = float(draws.uniform(0.0, 2.0 * math.pi)[0]), float(draws.normal(0.0, 0.6)[0])
    bend_at, width = float(draws.log_uniform(8.0, 80.0)[0]), float(draws.log_uniform(0.5, 3.0)[0])
    declared = bool(draws.happens(settings.masked_beamstop)[0])
    arm_too = bool(draws.happens(0.6)[0])
    leak = 10.0 ** float(draws.uniform(-6.5, -1.5)[0])
    # Arms are of plastic or thin metal as often as opaque.
    arm_leak = 10.0 ** float(draws.uniform(-4.0, -0.15)[0])
    edge = float(draws.uniform(0.15, 0.5)[0])
    if not there:
        return None
    return Arm(
        radius=radius,
        direction=direction,
        bend=bend if kind == 1 else 0.0,
        bend_at=bend_at,
        half_width=0.0 if kind == 2 else min(width, radius),
        leak=leak,
        arm_leak=max(leak, arm_leak),
        edge=edge,
        declared=declared,
        arm_declared=arm_too,
    )


def _draw_shadows(draws: Draws, settings: SimulationSettings) -> tuple[Shadow, ...]:
    count = 1 + int(draws.choice((0.6, 0.3, 0.1))[0])
    there = bool(draws.happens(settings.shadows)[0])
    drawn = []
    for _ in range(MOST_SHADOWS):
        direction, distance = (
            float(draws.uniform(0.0, 2.0 * math.pi)[0]),
            float(draws.uniform(30.0, 150.0)[0]),
        )
        size = float(draws.log_uniform(6.0, 60.0)[0])
        is_round = bool(draws.happens(0.4)[0])
        through, edge = float(draws.uniform(0.0, 0.85)[0]), float(draws.log_uniform(0.3, 8.0)[0])
        drawn.append(
            Shadow(
                direction=direction,
                distance=distance,
                radius=size if is_round else 0.0,
                through=through,
                edge=edge,
            )
        )
    return tuple(drawn[:count]) if there else ()


def _draw_film(draws: Draws, settings: SimulationSettings) -> FilmPlace | None:
    there, barred = bool(draws.happens(settings.films)[0]), bool(draws.happens(0.4)[0])
    place = FilmPlace(
        height=float(draws.uniform(0.05, 0.4)[0]),
        across=float(draws.normal(0.5, 0.1)[0].clip(0.1, 0.9)),
        nearer=float(draws.log_uniform(0.2, 1.0)[0]),
        bar=float(draws.uniform(1.0, 3.0)[0]) if barred else 0.0,
    )
    return place if there else None


def _draw_misalignment(draws: Draws, settings: SimulationSettings) -> tuple[float, float]:
    there = bool(draws.happens(settings.misaligned)[0])
    size, direction = float(draws.log_uniform(2.0, 60.0)[0]), float(draws.uniform(0.0, 2.0 * math.pi)[0])
    return (size * math.cos(direction), size * math.sin(direction)) if there else (0.0, 0.0)
