"""All choices that fix what coefficients mean; stored with every model and every analysis run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from numbers import Real
from operator import index
from typing import Any

from dvfb_stream.errors import SettingsError


class PenaltyReading(StrEnum):
    """How λ of (9) compares with the data term; the paper leaves it open."""

    PER_SAMPLE = "per_sample"
    """1/(2n) ‖Ua - I‖² + λ R(a) over n pixels, scikit-learn's ElasticNet on the image as it is."""
    UNIT_NORM = "unit_norm"
    """½ ‖Ũã - Ĩ‖² + λ R(ã) with image and columns of unit norm: how the authors' code is understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FourierBesselSettings:
    """Settings of the Fourier-Bessel estimate; the defaults are the paper's with the per-sample reading.

    Raises
    ------
    SettingsError
        When a value is of a wrong type or out of range.
    """

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
    tolerance: float = 1e-8
    """The objective is certified to lie at most this share of itself above its minimum. Coefficients are then
    right to about the root of it; the per-sample reading gets there in 20 steps, the unit-norm one in thousands."""

    def __post_init__(self) -> None:
        try:
            # `index` takes NumPy's integers and refuses 2.5, which `int` would silently round down.
            object.__setattr__(self, "n_radial", index(self.n_radial))
            object.__setattr__(self, "orders", tuple(index(order) for order in self.orders))
            object.__setattr__(self, "downsample", index(self.downsample))
        except TypeError as error:
            raise SettingsError(
                "Fourier-Bessel settings n_radial, orders and downsample must be integers, not "
                f"{self.n_radial!r}, {self.orders!r} and {self.downsample!r}"
            ) from error
        for name in ("radius", "penalty", "l1_ratio", "tolerance"):
            value = getattr(self, name)
            if not isinstance(value, Real):
                raise SettingsError(f"Fourier-Bessel setting {name} must be a number, not {value!r}")
            object.__setattr__(self, name, float(value))
        try:
            object.__setattr__(self, "reading", PenaltyReading(self.reading))
        except ValueError as error:
            known = ", ".join(reading.value for reading in PenaltyReading)
            raise SettingsError(
                f"Fourier-Bessel setting reading must be one of {known}, not {self.reading!r}"
            ) from error
        for name, good, rule in (
            ("radius", 0 < self.radius < math.inf, "positive and finite"),
            ("n_radial", self.n_radial >= 1, "at least 1"),
            ("downsample", self.downsample >= 1, "at least 1"),
            ("penalty", 0 <= self.penalty < math.inf, "finite and not negative"),
            ("l1_ratio", 0 <= self.l1_ratio <= 1, "between 0 and 1"),
            ("tolerance", 0 < self.tolerance < math.inf, "positive and finite"),
            (
                "orders",
                bool(self.orders) and min(self.orders) >= 0 and len(set(self.orders)) == len(self.orders),
                "distinct and not negative",
            ),
        ):
            if not good:
                raise SettingsError(
                    f"Fourier-Bessel setting {name} must be {rule}, not {getattr(self, name)!r}"
                )

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready mapping."""
        return {**asdict(self), "orders": list(self.orders), "reading": self.reading.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FourierBesselSettings:
        """Return the settings of `as_dict`; unknown keys are refused.

        Raises
        ------
        SettingsError
            When a key is unknown or a value is of a wrong type or out of range.
        """
        unknown = set(values).difference(field.name for field in fields(cls))
        if unknown:
            raise SettingsError(f"unknown Fourier-Bessel settings: {', '.join(sorted(unknown))}")
        return cls(**values)
