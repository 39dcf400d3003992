"""Detectors that can be simulated: how many pixels, how large, where the gaps are, what they can count."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorModel:
    """A flat detector made of equal modules.

    Raises
    ------
    SettingsError
        When no detector can be like that.
    """

    name: str
    shape: tuple[int, int]
    """Rows and columns of the whole detector."""
    pixel_mm: float
    """Side of a pixel."""
    module: tuple[int, int] | None = None
    """Rows and columns of a module; None: one module, no gaps."""
    gap: tuple[int, int] = (0, 0)
    """Rows and columns between modules."""
    saturation: int = 65_535
    """Largest count of a pixel; it clips there."""
    point_spread: float = 0.0
    """Standard deviation of the spot that one photon makes, pixels: 0 where photons are counted one by one in the
    pixel they hit, 1 and less with a phosphor in front of a CCD."""
    uniformity: float = 0.005
    """Relative standard deviation of the pixels' response that a flat-field correction leaves."""

    def __post_init__(self) -> None:
        for name, low, high in (("shape", 16, 16_384), ("gap", 0, 1_000), ("module", 4, 16_384)):
            value = getattr(self, name)
            if value is None and name == "module":
                continue
            if (
                not isinstance(value, tuple)
                or len(value) != 2
                or not all(isinstance(v, int) and not isinstance(v, bool) and low <= v <= high for v in value)
            ):
                raise SettingsError(
                    f"detector {self.name}: {name} must be [rows, columns] from {low} to {high}, not {value!r}"
                )
        if self.module is not None and any(m > s for m, s in zip(self.module, self.shape, strict=True)):
            raise SettingsError(
                f"detector {self.name}: a module of {self.module} pixels is larger than the detector, {self.shape}"
            )
        if self.module is None and any(self.gap):
            raise SettingsError(
                f"detector {self.name} has a gap of {self.gap} but no module; say how large one is"
            )
        for name, least, most in (
            ("pixel_mm", 1e-4, 10.0),
            ("saturation", 1, 2**31 - 2),
            ("point_spread", 0.0, 20.0),
            ("uniformity", 0.0, 0.5),
        ):
            number = getattr(self, name)
            if (
                not isinstance(number, (int, float))
                or isinstance(number, bool)
                or not least <= number <= most
            ):
                raise SettingsError(
                    f"detector {self.name}: {name} must be a number from {least:g} to {most:g}, not {number!r}"
                )
        if not isinstance(self.saturation, int):
            raise SettingsError(
                f"detector {self.name}: saturation must be an integer, not {self.saturation!r}"
            )

    @property
    def sideways(self) -> DetectorModel:
        """The same detector, mounted a quarter turn on."""
        return DetectorModel(**{field.name: _turned(getattr(self, field.name)) for field in fields(self)})

    @property
    def valid_rows(self) -> NDArray[np.bool_]:
        """(rows,), False in gaps."""
        return self._valid_lines(0)

    @property
    def valid_columns(self) -> NDArray[np.bool_]:
        """(columns,), False in gaps."""
        return self._valid_lines(1)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(rows, columns), True = valid."""
        return self.valid_rows[:, None] & self.valid_columns[None, :]

    def _valid_lines(self, axis: int) -> NDArray[np.bool_]:
        lines = np.arange(self.shape[axis])
        if self.module is None:
            return np.ones(len(lines), dtype=np.bool_)
        valid: NDArray[np.bool_] = lines % (self.module[axis] + self.gap[axis]) < self.module[axis]
        return valid

    @classmethod
    def from_dict(cls, name: str, values: Mapping[str, Any]) -> DetectorModel:
        """Return a detector described by a table of a settings file; a known one is changed by it.

        Raises
        ------
        SettingsError
            When a key is unknown or missing, or a value impossible.
        """
        known = [field.name for field in fields(cls) if field.name != "name"]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SettingsError(
                f"detector {name}: there is no key {unknown[0]!r}; there are {', '.join(known)}"
            )
        described: dict[str, Any] = asdict(DETECTORS[name]) if name in DETECTORS else {"name": name}
        described |= {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        missing = sorted({"shape", "pixel_mm"} - set(described))
        if missing:
            raise SettingsError(f"detector {name} needs {missing[0]}")
        return cls(**described)


def _turned(value: Any) -> Any:
    return value[::-1] if isinstance(value, tuple) else value


_PILATUS: dict[str, Any] = {
    "pixel_mm": 0.172,
    "module": (195, 487),
    "gap": (17, 7),
    "saturation": 1_048_574,
    "uniformity": 0.006,
}
_EIGER: dict[str, Any] = {
    "pixel_mm": 0.075,
    "module": (514, 1030),
    "gap": (37, 10),
    "saturation": 65_534,
    "uniformity": 0.008,
}

DETECTORS: Mapping[str, DetectorModel] = {
    model.name: model
    for model in (
        DetectorModel(name="pilatus_100k", shape=(195, 487), **_PILATUS),
        DetectorModel(name="pilatus_300k", shape=(619, 487), **_PILATUS),
        DetectorModel(name="pilatus_1m", shape=(1043, 981), **_PILATUS),
        DetectorModel(name="pilatus_2m", shape=(1679, 1475), **_PILATUS),
        DetectorModel(name="eiger_1m", shape=(1065, 1030), **_EIGER),
        DetectorModel(name="eiger_4m", shape=(2167, 2070), **_EIGER),
        DetectorModel(name="ccd", shape=(1024, 1024), pixel_mm=0.075, point_spread=0.8, uniformity=0.015),
        DetectorModel(name="mar_165", shape=(2048, 2048), pixel_mm=0.079, point_spread=1.0, uniformity=0.015),
    )
}
"""Dectris' manuals; shapes, pixels and gaps are those of pyFAI's definitions, which a test compares. `ccd` is the
paper's detector (75 µm) with the field that lets its q0 fall on the image; `mar_165` is the Rayonix MX165 binned
2 x 2."""


@functools.lru_cache(maxsize=64)
def covered_lines(length: int, valid: bytes, scale: float, offset: float, size: int) -> NDArray[np.float64]:
    """Return how many valid lines of a detector fall into each line of a view, (size,), fractions included.

    Parameters
    ----------
    length
        Lines of the detector.
    valid
        One byte a line, 1 where it is no gap.
    scale
        Detector lines a view line.
    offset
        View lines before the detector begins.
    size
        Lines of the view.
    """
    cumulative = np.concatenate(([0.0], np.cumsum(np.frombuffer(valid, dtype=np.bool_))))
    edges = (np.arange(size + 1) - offset) * scale
    return np.diff(np.interp(edges, np.arange(length + 1), cumulative))
