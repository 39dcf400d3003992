"""What of the simulated beamline may be chosen; everything else is drawn at random."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dvfb_stream.errors import SettingsError

BINNINGS: tuple[int, ...] = (1, 4, 9, 16)
"""Detector pixels that a pixel of a view averages: a 1043 x 981 detector in a 256 x 256 view averages 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """Settings of a `Simulator`; the defaults make the training set.

    Raises
    ------
    SettingsError
        When a value is out of its range.
    """

    size: int = 256
    """Rows and columns of a frame, 32 to 2048. The field of view in mm stays the same."""
    frames_per_experiment: int = 100
    """Consecutive frames that share beam centre, distance, beamstop, mask and binning."""
    binning: int | None = None
    """Detector pixels averaged into a pixel: 1 (integer counts, as a detector gives), 4, 9 or 16.
    None: drawn for each experiment."""
    exposure: tuple[float, float] = (0.05, 5000.0)
    """Range of the counts in a pixel of a typical structure; experiments are spread evenly over its decades."""
    middle: float = 0.3
    """Share of experiments whose beam falls near the middle; elsewhere it falls anywhere, corners included."""
    gaps: float = 0.35
    """Share of experiments whose detector has gaps between modules (invalid pixels)."""
    masked_beamstop: float = 0.4
    """Share of experiments in which the pixels under the beamstop are declared invalid."""
    window: float = 0.1
    """Share of experiments in which an exit window obstructs all beyond a circle."""
    diffuse_only: float = 0.04
    """Share of experiments whose sample scatters diffusely at low q and shows no structure."""
    blank: float = 0.03
    """Share of experiments without a sample."""
    sample: float = 0.87
    """Probability that a frame of any other experiment shows a structure."""
    diffuse: float = 0.4
    """Probability that a frame of any other experiment may show diffuse scattering."""
    background: float = 0.7
    """Probability of a smooth background in a frame."""
    streaks: float = 0.1
    """Probability of slit streaks in a frame."""
    zingers: float = 0.05
    """Probability of zingers in a frame."""

    def __post_init__(self) -> None:
        for name, low, high in (("size", 32, 2048), ("frames_per_experiment", 1, 1_000_000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise SettingsError(f"{name} must be an integer from {low} to {high}, not {value!r}")
        if self.binning is not None and self.binning not in BINNINGS:
            raise SettingsError(
                f"binning must be one of {', '.join(map(str, BINNINGS))}, or None to draw it, not {self.binning!r}"
            )
        if (
            len(self.exposure) != 2
            or not all(math.isfinite(level) for level in self.exposure)
            or not 0 < self.exposure[0] <= self.exposure[1] <= 1e6
        ):
            raise SettingsError(
                "exposure must be (lowest, highest) counts a pixel with 0 < lowest <= highest <= 1e6, "
                f"not {self.exposure!r}"
            )
        for item in fields(self):
            if item.name in _NOT_SHARES:
                continue
            share = getattr(self, item.name)
            if not isinstance(share, (int, float)) or not 0.0 <= share <= 1.0:
                raise SettingsError(f"{item.name} is a share and must lie from 0 to 1, not {share!r}")
        if self.diffuse_only + self.blank > 1.0:
            raise SettingsError(
                f"diffuse_only and blank are shares of the same experiments and add up to "
                f"{self.diffuse_only + self.blank:g}; lower one, so that they add up to 1 at most"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the settings, JSON-ready; `from_dict` takes them back."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SimulationSettings:
        """Return settings by name.

        Raises
        ------
        SettingsError
            When a name is unknown or a value out of its range.
        """
        known = [item.name for item in fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1)
                cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
                raise SettingsError(f"there is no simulation setting {name!r}; {cure}")
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


_NOT_SHARES = frozenset({"size", "frames_per_experiment", "binning", "exposure"})
