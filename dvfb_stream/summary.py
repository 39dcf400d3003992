"""What the rows of an analysis run add up to: the numbers that one query of a catalog asks for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvfb_stream.annotations import Status
from dvfb_stream.labels import ALL_LABELS, LABELS, QUALITY_LABELS

QUANTITIES = ("novelty", "fit_residual")
"""Columns that a summary has the least, the highest and the mean value of."""


def known_labels(provenance: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels that have a column, of those that the annotator says its model knows; the ten by default."""
    stated = provenance.get("labels")
    if not isinstance(stated, list | tuple):
        return LABELS
    return tuple(label for label in ALL_LABELS if label in stated)


class Summary:
    """Counts what one query of the catalog asks for, row by row.

    Parameters
    ----------
    labels
        That the model knows. Of others nothing is said unless a frame has them, so that no query takes ignorance for
        absence.
    """

    def __init__(self, labels: Collection[str]) -> None:
        self._statuses = dict.fromkeys(Status, 0)
        self._known = labels
        self._of_label = {label: _LabelTally() for label in ALL_LABELS}
        self._measured = 0
        self._highest_contrast = -math.inf
        self._doubtful = 0
        self._of_quality = 0
        self._of_quantity = {name: _Range() for name in QUANTITIES}

    @property
    def frames(self) -> int:
        """How many there are."""
        return sum(self._statuses.values())

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row with columns of `dvfb_stream.rows`; one that is not there, or None, is not known.

        Raises
        ------
        ValueError
            When there is no such status.
        """
        self._statuses[Status(row["status"])] += 1
        accepted, doubtful = _listed(row.get("labels")), _listed(row.get("doubtful"))
        self._doubtful += bool(doubtful)
        self._of_quality += not QUALITY_LABELS.isdisjoint(accepted)
        for name, found in self._of_quantity.items():
            found.add(_number(row.get(name)))
        for label, tally in self._of_label.items():
            tally.accepted += label in accepted
            tally.doubtful += label in doubtful
            score = _number(row.get(label))
            if math.isfinite(score):
                tally.scored += 1
                tally.highest = max(tally.highest, score)
                tally.total += score
        if row.get("measured_order"):
            self._measured += 1
            contrast = _number(row.get("measured_contrast"))
            if math.isfinite(contrast):
                self._highest_contrast = max(self._highest_contrast, contrast)

    def state(self) -> list[float]:
        """Return all that is counted, as numbers, for `go_on`."""
        return [
            *self._statuses.values(),
            self._measured,
            self._highest_contrast,
            self._doubtful,
            self._of_quality,
            *(getattr(part, slot) for part in self._parts() for slot in part.__slots__),
        ]

    def go_on(self, state: Sequence[float]) -> None:
        """Count on from what `state` of another one returned.

        Raises
        ------
        ValueError
            When that was of another version.
        """
        if len(state) != len(self.state()):
            raise ValueError(f"a summary has {len(self.state())} numbers, not {len(state)}")
        numbers = iter(state)
        self._statuses = {status: int(next(numbers)) for status in self._statuses}
        self._measured, self._highest_contrast = int(next(numbers)), next(numbers)
        self._doubtful, self._of_quality = int(next(numbers)), int(next(numbers))
        for part in self._parts():
            for slot in part.__slots__:
                number = next(numbers)
                setattr(part, slot, int(number) if isinstance(getattr(part, slot), int) else number)

    def _parts(self) -> list[_Range | _LabelTally]:
        return [*self._of_quantity.values(), *self._of_label.values()]

    def as_dict(self) -> dict[str, Any]:
        """Return frames, of them failed and dropped, those with a measured order, and per label.

        Per label: `count` of frames on which it was accepted, those on which it is `doubtful`, `max` and `mean` of
        its probability; the latter two are absent where no frame has probabilities, so that no query takes ignorance
        for a low value. `measured_order` has the `count` of frames on which an order stands out, and their
        `max_contrast` where there are any. `doubtful` has the `count` of frames with any doubtful label, `quality` of
        those with one of `QUALITY_LABELS`, where the model knows one. `novelty` and `fit_residual` have `min`, `max`
        and `mean`.
        """
        without = {status.value: self._statuses[status] for status in (Status.FAILED, Status.DROPPED)}
        measured: dict[str, Any] = {"count": self._measured}
        if math.isfinite(self._highest_contrast):
            measured["max_contrast"] = self._highest_contrast
        of_labels = {
            label: tally.as_dict()
            for label, tally in self._of_label.items()
            if label in self._known or tally != _LabelTally()
        }
        of_quality = {"quality": {"count": self._of_quality}}
        return {
            "frames": self.frames,
            **without,
            "measured_order": measured,
            "doubtful": {"count": self._doubtful},
            **{name: found.as_dict() for name, found in self._of_quantity.items() if found.number},
            **(of_quality if not QUALITY_LABELS.isdisjoint(of_labels) else {}),
            **of_labels,
        }


@dataclass(slots=True)
class _Range:
    """Of a quantity of frames that are annotated."""

    number: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    total: float = 0.0

    def add(self, value: float) -> None:
        if math.isfinite(value):
            self.number += 1
            self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)
            self.total += value

    def as_dict(self) -> dict[str, float]:
        return {"min": self.lowest, "max": self.highest, "mean": self.total / self.number}


@dataclass(slots=True)
class _LabelTally:
    accepted: int = 0
    doubtful: int = 0
    scored: int = 0
    highest: float = -math.inf
    total: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"count": self.accepted, "doubtful": self.doubtful}
        return counts | {"max": self.highest, "mean": self.total / self.scored} if self.scored else counts


def _listed(labels: str | None) -> list[str]:
    return labels.split(",") if labels else []


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
