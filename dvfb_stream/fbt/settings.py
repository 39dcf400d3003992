"""All choices that fix what coefficients mean; stored with every model and every analysis run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from numbers import Real
from operator import index
from types import MappingProxyType
from typing import Any, Self

from dvfb_stream.errors import SettingsError

MAX_RADIAL = 1200
"""Roots of J_m that SciPy gives."""

MAX_ORDER = 2000
"""Orders up to which SciPy gives roots of J_m; at 5000 it gives none."""

MAX_PENALTY = 1e12
"""Far above any intensity squared; much more would overflow in float32."""


class PenaltyReading(StrEnum):
    """How λ of (9) compares with the data term; the paper leaves it open."""

    PER_SAMPLE = "per_sample"
    """1/(2n) ‖Ua - I‖² + λ R(a) over n pixels, scikit-learn's ElasticNet on the image as it is."""
    UNIT_NORM = "unit_norm"
    """½ ‖Ũã - Ĩ‖² + λ R(ã) with image and columns of unit norm: how the authors' code is understood."""


class Solver(StrEnum):
    """What minimises (9); each stops on the same certificate, so that coefficients agree to the tolerance."""

    ADMM = "admm"
    """Over-relaxed ADMM: the fewest steps in both readings; factorises the Gram matrix once a geometry."""
    FISTA = "fista"
    """FISTA with adaptive restart: nothing to factorise, more steps."""


class CentreRounding(StrEnum):
    """Where the basis is centred."""

    EXACT = "exact"
    """On the beam centre as it is given, between pixels where it lies there."""
    PIXEL = "pixel"
    """On the pixel of the view that is nearest to it, as the authors do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FourierBesselSettings:
    """Settings of the Fourier-Bessel estimate; the defaults are the paper's with the per-sample reading.

    `preset` gives the named ones, `digest` a short name for any.

    Raises
    ------
    SettingsError
        When a value is of a wrong type or out of range.
    """

    view_shape: tuple[int, int] = (256, 256)
    """(H, W) of the views that are encoded."""
    center_rounding: CentreRounding = CentreRounding.EXACT
    """Whether the beam centre is rounded first."""
    radius: float = 256.0
    """a, radius of the disk in view pixels."""
    n_radial: int = 40
    """Radial indices n = 1..n_radial."""
    orders: tuple[int, ...] = tuple(range(0, 21, 2))
    """Angular orders m; even ones alone, because patterns are centrosymmetric."""
    downsample: int = 2
    """View pixels are averaged over blocks of this side."""
    penalty: float = 1e-4
    """λ of (9)."""
    l1_ratio: float = 0.8
    """α of (9)."""
    reading: PenaltyReading = PenaltyReading.PER_SAMPLE
    """Scale of λ."""
    solver: Solver = Solver.ADMM
    """What minimises (9)."""
    tolerance: float = 1e-8
    """The objective is certified to lie at most this share of itself above its minimum. Coefficients are then
    right to about the root of it."""

    def __post_init__(self) -> None:
        try:
            # `index` takes NumPy's integers and refuses 2.5, which `int` would silently round down.
            object.__setattr__(self, "view_shape", tuple(index(length) for length in self.view_shape))
            object.__setattr__(self, "n_radial", index(self.n_radial))
            object.__setattr__(self, "orders", tuple(index(order) for order in self.orders))
            object.__setattr__(self, "downsample", index(self.downsample))
        except TypeError as error:
            raise SettingsError(
                "Fourier-Bessel settings view_shape, n_radial, orders and downsample must be integers, not "
                f"{self.view_shape!r}, {self.n_radial!r}, {self.orders!r} and {self.downsample!r}"
            ) from error
        for name in ("radius", "penalty", "l1_ratio", "tolerance"):
            value = getattr(self, name)
            if not isinstance(value, Real):
                raise SettingsError(f"Fourier-Bessel setting {name} must be a number, not {value!r}")
            object.__setattr__(self, name, float(value))
        choices: tuple[tuple[str, type[StrEnum]], ...] = (
            ("reading", PenaltyReading),
            ("solver", Solver),
            ("center_rounding", CentreRounding),
        )
        for name, kind in choices:
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError as error:
                known = ", ".join(member.value for member in kind)
                raise SettingsError(
                    f"Fourier-Bessel setting {name} must be one of {known}, not {value!r}"
                ) from error
        for name, good, rule in (
            (
                "view_shape",
                len(self.view_shape) == 2 and min(self.view_shape) >= 1,
                "two positive integers",
            ),
            ("radius", 0 < self.radius < math.inf, "positive and finite"),
            ("n_radial", 1 <= self.n_radial <= MAX_RADIAL, f"from 1 to {MAX_RADIAL}"),
            ("downsample", self.downsample >= 1, "at least 1"),
            ("penalty", 0 <= self.penalty <= MAX_PENALTY, f"from 0 to {MAX_PENALTY:g}"),
            ("l1_ratio", 0 <= self.l1_ratio <= 1, "between 0 and 1"),
            ("tolerance", 0 < self.tolerance < math.inf, "positive and finite"),
            (
                "orders",
                bool(self.orders)
                and min(self.orders) >= 0
                and max(self.orders) <= MAX_ORDER
                and len(set(self.orders)) == len(self.orders),
                f"distinct and from 0 to {MAX_ORDER}",
            ),
        ):
            if not good:
                raise SettingsError(
                    f"Fourier-Bessel setting {name} must be {rule}, not {getattr(self, name)!r}"
                )

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping with the `digest` as ``sha256``: what bundles and analysis runs store."""
        return {**self._values(), "sha256": self.digest}

    @property
    def digest(self) -> str:
        """SHA-256 of all values as canonical JSON, hexadecimal."""
        return _digest(self._values())

    def _values(self) -> dict[str, Any]:
        plain = {
            name: value.value if isinstance(value, StrEnum) else value for name, value in asdict(self).items()
        }
        return {**plain, "view_shape": list(self.view_shape), "orders": list(self.orders)}

    def changed(self, **changes: Any) -> Self:
        """Return these settings with some changed; a change to None is none.

        Raises
        ------
        SettingsError
            When a value is of a wrong type or out of range.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **changes) if changes else self

    @classmethod
    def preset(cls, name: str) -> FourierBesselSettings:
        """Return the settings of a name: ``default``, or ``paper`` for the authors' reading.

        Raises
        ------
        SettingsError
            When there is none of that name.
        """
        if name not in PRESETS:
            raise SettingsError(
                f"there are no Fourier-Bessel settings named {name!r}; known: {', '.join(PRESETS)}"
            )
        return PRESETS[name]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FourierBesselSettings:
        """Return the settings of `as_dict`. What is not there takes its default.

        Raises
        ------
        SettingsError
            When a key is unknown, a value is of a wrong type or out of range, or the digest is another's.
        """
        choices = {name: value for name, value in values.items() if name != "sha256"}
        unknown = set(choices).difference(field.name for field in fields(cls))
        if unknown:
            raise SettingsError(f"unknown Fourier-Bessel settings: {', '.join(sorted(unknown))}")
        settings = cls(**choices)
        # Of what is there, not of what it means: a version that knows more settings still reads it.
        if "sha256" in values and values["sha256"] != (found := _digest(choices)):
            raise SettingsError(
                f"Fourier-Bessel settings have SHA-256 {found[:12]}…, but say {str(values['sha256'])[:12]}…: "
                "they were altered; restore them from their source"
            )
        return settings


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


PRESETS: Mapping[str, FourierBesselSettings] = MappingProxyType(
    {
        "default": FourierBesselSettings(),
        # Intensities and columns of unit norm, unscaled λ, the centre on a pixel. Solved to a tolerance that shows
        # in no figure instead of being ended after 20 sweeps, as `reproduction.printed.estimate_early_stopped` is.
        "paper": FourierBesselSettings(
            reading=PenaltyReading.UNIT_NORM, center_rounding=CentreRounding.PIXEL, tolerance=1e-6
        ),
    }
)
"""Settings with a name."""
