"""The numbers by which a bundle decides, as `model.json` holds them; needs neither numpy nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dvfb_stream.models.bundle_description import LabelCalibration


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How a bundle decides; what joins the network and the measurement is chosen on real frames."""

    measured: float
    network: float
    offset: float
    doubtful_from: float
    """Probability from which on a label that is not accepted is doubtful."""
    accepted_from: float
    """Probability from which on a label may be accepted, in place of its threshold of best F1; at ``high_precision``
    the least."""
    contradiction: float
    """Network and measurement contradict one another where p and e / (1 + e) are this far apart."""
    novel_from: float
    """Novelty from which on no label is accepted: what would be is doubtful."""
    unverified_from: float = 1.0
    """What the network has to state of a fold or symmetry for it to be accepted where too few rings can be verified;
    below that it is doubtful. 1: nothing is accepted there."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Return a decision from what `as_dict` gave.

        Raises
        ------
        ValueError
            When a number is missing, unknown, or none.
        """
        names = {field.name for field in fields(cls)}
        missing = names - set(values) - {"unverified_from"}  # which earlier bundles have not
        if missing or not set(values) <= names:
            raise ValueError(f"a decision has {sorted(names)}, not {sorted(values)}")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
                raise ValueError(f"{name} must be a number, not {value!r}")
        for name in set(values) - {"offset"}:
            highest = 100 if name in ("measured", "network") else 1
            if not 0 <= values[name] <= highest:
                raise ValueError(f"{name} must lie from 0 to {highest}, not {values[name]!r}")
        return cls(**{name: float(value) for name, value in values.items()})

    def as_dict(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)


def accepted_from(calibration: LabelCalibration, operating_point: str, decision: Decision | None) -> float:
    """Return the least probability at which a label is accepted; inf: none is.

    Parameters
    ----------
    calibration
        Of the label.
    operating_point
        ``best_f1`` or ``high_precision``.
    decision
        Of the bundle; None where it has none, or a beamline's own head judges the label.
    """
    own = calibration.accepted_from(operating_point)
    if decision is None:
        return own
    return decision.accepted_from if operating_point == "best_f1" else max(own, decision.accepted_from)
