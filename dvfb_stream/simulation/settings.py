"""What of the simulated beamline may be chosen; everything else is drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dvfb_stream.errors import SettingsError
from dvfb_stream.simulation.beamline.detectors import DETECTORS, DetectorModel
from dvfb_stream.simulation.real_beamlines import REAL_BEAMLINES
from dvfb_stream.simulation.setting_values import check_odds, cure, is_number, plain, shortened

VIEW, DETECTOR = "view", "detector"
BY_DIFFUSE, BY_CONTRAST = "diffuse", "contrast"

DEFAULT_DETECTORS: dict[str, float] = {
    "ccd": 0.4,
    "pilatus_300k": 0.1,
    "pilatus_1m": 0.2,
    "pilatus_2m": 0.1,
    "eiger_1m": 0.1,
    "eiger_4m": 0.1,
}
DEFAULT_STRUCTURES: dict[str, float] = {
    "symmetry_ring": 0.005,
    "symmetry_halo": 0.062,
    "symmetry_rings": 0.105,
    "sphere": 0.028,
    "lattice": 0.1,
    "distorted_lattice": 0.012,
    "ad_hoc_rings": 0.285,
    "speckled_rings": 0.245,
    "coherent_halo": 0.175,
    "mesostructure": 0.03,
    "fibre": 0.03,
}
"""Chosen so that the ratios of positive frames are the paper's (Table 2), whose own odds give others on detectors
with gaps, at all exposures, and with a label only where something is seen."""
FURTHER_STRUCTURES = ("single_ring", "oriented_orders", "powder_grains")
"""Kinds that the paper does not have; without odds of their own they are not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """Settings of a `Simulator`; the defaults make the training set.

    Raises
    ------
    SettingsError
        When a value is out of its range.
    """

    raster: str = VIEW
    """``view``: mean counts on the square raster that the networks see of a detector; ``detector``: the integer
    counts of the detector's own pixels."""
    size: int = 256
    """Rows and columns of a view, 32 to 2048; the field of view stays the same."""
    detectors: Mapping[str, float | Mapping[str, Any]] = field(default_factory=DEFAULT_DETECTORS.copy)
    """Odds of each detector: a known one by its name, or a table with `weight`, `shape`, `pixel_mm` and whatever
    else `DetectorModel` has."""
    frames_per_experiment: int = 100
    """Consecutive frames that share beam, detector, mask, beamstop and exposure."""
    exposure: tuple[float, float] = (0.05, 5000.0)
    """Range of the counts in a detector pixel of a typical structure; experiments are spread evenly over its
    decades."""
    middle: float = 0.3
    """Share of experiments whose beam falls near the middle; elsewhere it falls anywhere, corners included."""
    wide_angle: float = 0.15
    """Share of experiments with a detector so near that its plane shows: 2θ to 40° and more."""
    tilted: float = 0.3
    """Share of experiments whose detector is tilted against the beam."""
    grazing: float = 0.05
    """Share of experiments at grazing incidence, with horizon and Yoneda line."""
    sideways: float = 0.2
    """Share of experiments whose detector is mounted on its side."""
    masked_beamstop: float = 0.4
    """Share of experiments in which the pixels under the beamstop are declared invalid."""
    window: float = 0.1
    """Share of experiments in which an exit window obstructs all beyond a circle."""
    diffuse_only: float = 0.04
    """Share of experiments whose sample scatters diffusely at low q and shows no structure."""
    blank: float = 0.03
    """Share of experiments without a sample."""
    sample: float = 0.853
    """Probability that a frame of any other experiment shows a structure."""
    more_structures: float = 0.3
    """Mean number of structures besides the first."""
    structures: Mapping[str, float] = field(default_factory=DEFAULT_STRUCTURES.copy)
    """Relative odds of the kinds of structure."""
    diffuse: float = 0.4
    """Probability that a frame of any other experiment may show diffuse scattering."""
    low_q: float = 0.035
    """Probability of isotropic scattering at low q in a frame that may show diffuse scattering."""
    anisotropic_low_q: float = 0.1
    """The same of scattering at low q that is stretched along a direction."""
    high_q: float = 0.28
    """The same of scattering that rises away from the beam."""
    parasitic: float = 0.1
    """Probability of a glow around the beamstop."""
    background: float = 0.7
    """Probability of a smooth background in a frame."""
    streaks: float = 0.1
    """Probability of slit streaks in a frame."""
    zingers: float = 0.05
    """Probability of zingers in a frame."""
    fold_rule: str = BY_DIFFUSE
    """What a fold is judged by: ``diffuse``: a structure must have a label of its own before its fold has one;
    ``contrast``: the variation along the azimuth alone must be seen."""
    round_detector: float = 0.0
    """Share of experiments whose detector sees only what lies within a circle, as a CCD behind a taper."""
    cropped_detector: float = 0.0
    """Share of experiments whose detector has corners or sides cut off, by a flange or a vacuum window."""
    declared_outline: float = 0.5
    """Of these two, the share in which the pixels beyond are declared invalid; elsewhere they are dark."""
    arms: float = 0.0
    """Share of beamstops that are a small disk on a thin arm, straight at any angle or bent, or on none."""
    shadows: float = 0.0
    """Share of experiments in which something (a sample holder, a pipe) casts a partial shadow from one side."""
    central: float = 0.0
    """Share of experiments with the beam close to the middle, 6 % of a side away typically."""
    off_detector: float = 0.0
    """Share of experiments with the beam beyond the detector's edge."""
    small_pattern: float = 0.0
    """Share of experiments in which the pattern is small around the beam: a fifth to two thirds of its usual size."""
    large_pattern: float = 0.0
    """Share of experiments in which the pattern is larger than usual, 1.3 to 3 times."""
    glow: float = 0.0
    """Probability of a glow around the beam that slits and windows leave, of any steepness and strength."""
    low_q_beneath: float = 0.0
    """Probability of isotropic scattering at low q in a frame with a fibre, oriented orders or a single ring."""
    stray: float = 0.0
    """Share of experiments with stray light on one side: flares, arcs around another point than the beam."""
    films: float = 0.0
    """Share of the experiments at grazing incidence whose sample is a film: with a specular rod, rods beside it and
    structures aligned to its surface."""
    hot_pixels: float = 0.0
    """Share of experiments whose detector has hot pixels that no mask knows."""
    panel_steps: float = 0.0
    """Share of experiments whose modules, or quadrants, differ in gain by 1 to 10 %."""
    pedestal: float = 0.0
    """Share of experiments whose frames keep a detector's offset, 2 to 60 counts a pixel."""
    dark_subtracted: float = 0.0
    """Share of experiments of whose frames a dark frame was subtracted: the background is 0 on average."""
    normalised: float = 0.0
    """Share of experiments whose frames were divided by a monitor: values are no counts."""
    misaligned: float = 0.0
    """Share of experiments whose geometry states a wrong beam centre."""

    def __post_init__(self) -> None:
        for name, one, other in (("raster", VIEW, DETECTOR), ("fold_rule", BY_DIFFUSE, BY_CONTRAST)):
            if getattr(self, name) not in (one, other):
                raise SettingsError(f"{name} must be {one!r} or {other!r}, not {getattr(self, name)!r}")
        for name, low, high in (("size", 32, 2048), ("frames_per_experiment", 1, 1_000_000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise SettingsError(f"{name} must be an integer from {low} to {high}, not {value!r}")
        if (
            not isinstance(self.exposure, tuple)
            or len(self.exposure) != 2
            or not all(is_number(level) for level in self.exposure)
            or not 0 < self.exposure[0] <= self.exposure[1] <= 1e6
        ):
            raise SettingsError(
                "exposure must be (lowest, highest) counts a pixel with 0 < lowest <= highest <= 1e6, "
                f"not {shortened(self.exposure)}"
            )
        for item in fields(self):
            if item.name in _NOT_SHARES:
                continue
            share = getattr(self, item.name)
            if not is_number(share) or not 0.0 <= share <= 1.0:
                raise SettingsError(
                    f"{item.name} is a share and must lie from 0 to 1, not {shortened(share)}"
                )
        if not is_number(self.more_structures) or not 0.0 <= self.more_structures <= 3.0:
            raise SettingsError(
                f"more_structures must lie from 0 to 3, not {shortened(self.more_structures)}"
            )
        for one, other in _EXCLUSIVE:
            together = getattr(self, one) + getattr(self, other)
            if together > 1.0:
                raise SettingsError(
                    f"{one} and {other} are shares of the same experiments and add up to "
                    f"{together:g}; lower one, so that they add up to 1 at most"
                )
        check_odds("structures", self.structures, [*DEFAULT_STRUCTURES, *FURTHER_STRUCTURES])
        self.detector_models()

    def detector_models(self) -> list[tuple[DetectorModel, float]]:
        """Return the detectors with their odds.

        Raises
        ------
        SettingsError
            When a name is unknown, a description impossible, or no weight is positive.
        """
        models: list[tuple[DetectorModel, float]] = []
        weights: dict[str, Any] = {}
        if not isinstance(self.detectors, Mapping):
            raise SettingsError(f"detectors must be a table of names and odds, not {self.detectors!r}")
        for name, value in self.detectors.items():
            if isinstance(value, Mapping):
                described = dict(value)
                weights[name] = described.pop("weight", 1.0)
                models.append((DetectorModel.from_dict(name, described), weights[name]))
            else:
                weights[name] = value
                if name in DETECTORS:
                    models.append((DETECTORS[name], value))
        described_here = {name for name, value in self.detectors.items() if isinstance(value, Mapping)}
        check_odds("detectors", weights, [*DETECTORS, *described_here])
        return models

    def as_dict(self) -> dict[str, Any]:
        """Return the settings, JSON-ready; `from_dict` takes them back."""
        return {item.name: plain(getattr(self, item.name)) for item in fields(self)}

    @property
    def whole_counts(self) -> bool:
        """Whether values at the detector's resolution are integers."""
        return not (self.dark_subtracted or self.normalised)

    @classmethod
    def real_beamlines(cls, **chosen: Any) -> SimulationSettings:
        """Return settings with all that detectors and optics of real beamlines do, at odds as they are met there.

        The odds were chosen by looking at public frames of eleven set-ups and are round numbers: how often a thing is
        met, and not what makes a score.

        Parameters
        ----------
        chosen
            Settings that shall be otherwise, by name.

        Raises
        ------
        SettingsError
            When a name is unknown or a value out of its range.
        """
        return cls.from_dict({**REAL_BEAMLINES, **chosen})

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
                raise SettingsError(f"there is no simulation setting {name!r}; {cure(name, known)}")
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**given)


_NOT_SHARES = frozenset(
    {
        *(
            "raster",
            "size",
            "detectors",
            "frames_per_experiment",
            "exposure",
            "structures",
            "more_structures",
        ),
        "fold_rule",
    }
)
_EXCLUSIVE = (
    ("diffuse_only", "blank"),
    ("round_detector", "cropped_detector"),
    ("central", "off_detector"),
    ("small_pattern", "large_pattern"),
    ("pedestal", "dark_subtracted"),
)
