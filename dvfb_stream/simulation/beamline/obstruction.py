"""What stands between sample and detector: a beamstop on its holder, and the exit window."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dvfb_stream.simulation.draws import Draws
from dvfb_stream.simulation.physics import beamline
from dvfb_stream.simulation.physics.shadows import Arm, Shadow
from dvfb_stream.simulation.settings import SimulationSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstruction:
    """Beamstop and window of an experiment; lengths in view pixels, angles in radians."""

    stop: str = ""
    """``bar``, ``disk``, ``wedge`` or ``arm``; empty: none."""
    stop_radius: float = 0.0
    """How far around the beam it hides."""
    direction: float = 0.0
    """From which its holder comes."""
    arm: float = 0.0
    """Half-width of a disk's holder."""
    half_angle: float = 0.0
    """Of a wedge."""
    edge: float = 0.3
    """Width over which its edge is blurred."""
    leak: float = 0.0
    """What it lets through."""
    masked: bool = False
    """Whether the pixels under it are declared invalid."""
    window: float = 0.0
    """Radius of the exit window; 0: none."""
    window_shift: tuple[float, float] = (0.0, 0.0)
    window_leak: float = 0.0
    on_arm: Arm | None = None
    """The stop ``arm``."""
    shadows: tuple[Shadow, ...] = ()
    described: dict[str, Any] = field(default_factory=dict)
    """JSON-ready."""

    def shadow(self, x: Tensor, y: Tensor) -> Tensor:
        """Return how far the beamstop hides points (x, y) view pixels from the beam, 0 to 1."""
        if self.stop == "bar":
            distance = beamline.bar(x, y, direction=self.direction, half_width=self.stop_radius)
        elif self.stop == "disk":
            distance = beamline.disk_on_arm(
                x, y, direction=self.direction, radius=self.stop_radius, arm=self.arm
            )
        elif self.stop == "wedge":
            distance = beamline.wedge(
                x, y, direction=self.direction, half_angle=self.half_angle, overlap=self.stop_radius
            )
        else:
            return torch.zeros_like(x)
        return torch.sigmoid(-distance / self.edge)

    def through(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what reaches points (x, y) view pixels from the beam, 0 to 1."""
        passed = (
            1.0 - self.shadow(x, y) * (1.0 - self.leak) if self.on_arm is None else self.on_arm.through(x, y)
        )
        passed = passed * self.through_window(x, y)
        for shadow in self.shadows:
            passed = passed * shadow.at(x, y)
        return passed

    def invalid(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which points are declared invalid for the beamstop's sake, bool."""
        if self.on_arm is not None:
            return self.on_arm.invalid(x, y)
        if not self.masked:
            return torch.zeros_like(x, dtype=torch.bool)
        return self.shadow(x, y) >= 0.05

    def amid(self, arm: Arm | None, shadows: tuple[Shadow, ...]) -> Obstruction:
        """Return the obstruction with another beamstop, if it has one, and with shadows."""
        if arm is None or not self.stop:
            return replace(self, shadows=shadows) if shadows else self
        described = {key: value for key, value in self.described.items() if key.startswith("window")}
        return replace(
            self,
            stop="arm",
            stop_radius=arm.radius,
            masked=arm.declared,
            on_arm=arm,
            shadows=shadows,
            described={**arm.described(), **described},
        )

    def through_window(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what the exit window lets through, 0 to 1."""
        if not self.window:
            return torch.ones_like(x)
        distance = torch.hypot(x - self.window_shift[0], y - self.window_shift[1])
        inside = torch.sigmoid((self.window - distance) / 0.7)
        return inside + self.window_leak * (1.0 - inside)


def draw_obstruction(
    draws: Draws, settings: SimulationSettings, *, stopped: bool, windowed: bool, farthest: float
) -> Obstruction:
    """Draw the obstruction of one experiment.

    Parameters
    ----------
    draws
        Of one item.
    settings
        For the odds of a masked beamstop.
    stopped
        Whether there is a beamstop: where the beam falls on the detector.
    windowed
        Whether a window obstructs.
    farthest
        Radius in view pixels that the largest window has.
    """
    # Holders mostly follow the detector's axes; some come at an angle.
    quarter = 0.5 * math.pi * float(draws.integers(0, 4)[0]) + float(draws.normal(0.0, 0.05)[0])
    anywhere = float(draws.uniform(0.0, 2.0 * math.pi)[0])
    direction = quarter if draws.happens(0.7)[0] else anywhere
    kind = ("bar", "disk", "wedge")[int(draws.integers(0, 3)[0])]
    size = float(draws.uniform()[0])
    low, high = {"bar": (2.0, 7.5), "disk": (2.0, 12.5), "wedge": (4.0, 12.0)}[kind]
    arm = float(draws.uniform(0.5, 2.0)[0])
    half_angle = math.radians(float(draws.uniform(10.0, 20.0)[0]))
    edge = float(draws.uniform(0.15, 0.5)[0])
    leak = 10.0 ** float(draws.uniform(-6.5, -1.5)[0])
    masked = bool(draws.happens(settings.masked_beamstop)[0])
    window = float(draws.uniform(0.3, 0.9)[0]) * farthest
    shift_x, shift_y = (float(shift) for shift in draws.normal(0.0, 8.0, count=2)[0])
    window_leak = 10.0 ** float(draws.uniform(-2.5, -0.5)[0])
    parameters: dict[str, Any] = {}
    if stopped:
        parameters |= {
            "stop": kind,
            "stop_radius": low + (high - low) * size,
            "direction": direction,
            "arm": arm if kind == "disk" else 0.0,
            "half_angle": half_angle if kind == "wedge" else 0.0,
            "edge": edge,
            "leak": leak,
            "masked": masked,
        }
    if windowed:
        parameters |= {"window": window, "window_shift": (shift_x, shift_y), "window_leak": window_leak}
    described = {key: list(v) if isinstance(v, tuple) else v for key, v in parameters.items()}
    return Obstruction(**parameters, described=described)
