"""What `model.json` of a bundle says, checked when it is read; needs no torch."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dvfb_stream.errors import BundleError
from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS

FORMAT = 3
"""Version of the layout of `model.json`."""

WITHOUT_DECISION = 2
"""The version before, which is read on: it has no `decision`."""

OPERATING_POINTS = ("best_f1", "high_precision")
"""Sets of thresholds that a bundle has."""

LARGEST = 1e30
"""Magnitude of a calibration's numbers beyond which they are none; NaN is not below it either."""


@dataclass(frozen=True, slots=True)
class LabelCalibration:
    """Platt scaling of one label: probability = 1 / (1 + exp(-(slope · logit + intercept)))."""

    slope: float
    intercept: float
    threshold: float
    """Least probability at which the label is accepted: the one of best F1."""
    high_precision: float | None = None
    """Least probability, not below `threshold`, at which at least 95 % of the accepted frames of the calibration,
    simulated ones, have the label; real frames promise nothing of the kind. None: at none is that so of
    `dvfb_stream.models.calibration.LEAST_ACCEPTED` frames or more."""

    def accepted_from(self, operating_point: str) -> float:
        """Return the least probability that is accepted at ``best_f1`` or ``high_precision``; inf: none is."""
        if operating_point == "best_f1":
            return self.threshold
        return math.inf if self.high_precision is None else self.high_precision


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleDescription:
    """What `model.json` holds."""

    format: int
    """`FORMAT` of the version that wrote it."""
    name: str
    version: str
    labels: tuple[str, ...]
    """Order of the network's outputs."""
    architecture: dict[str, Any]
    """``name`` of the network and its parameters."""
    calibration: dict[str, LabelCalibration]
    """Per label."""
    heads: dict[str, dict[str, float]]
    """Per label that a kernel head of a beamline's own judges: gamma, intercept. Empty in a bundle as trained."""
    view: dict[str, Any]
    """Size and intensity scale of the view the network was trained on."""
    fbt: dict[str, Any]
    """Settings of the Fourier-Bessel estimate the network was trained on."""
    training: dict[str, Any]
    """Data, seeds, steps, time, software and results."""
    decision: dict[str, float] | None
    """Numbers of `dvfb_stream.models.decision.Decision`; None: the network alone decides, by its thresholds."""
    weights_sha256: str
    """SHA-256 of `weights.safetensors`, hexadecimal."""


def read_description(folder: Path) -> BundleDescription:
    """Return what `model.json` says, its form checked, the weights not touched.

    Raises
    ------
    BundleError
        When it is missing, no JSON, of another format, or has missing, unknown or ill-typed keys.
    """
    path = folder / "model.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{folder} is no model bundle: it has no model.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BundleError(f"{path} must hold a JSON object")
    if values.get("format") == WITHOUT_DECISION:
        values = {"decision": None, **values}
    elif values.get("format") != FORMAT:
        raise BundleError(
            f"{path} has format {values.get('format')!r}, this version of dvfb_stream reads formats "
            f"{WITHOUT_DECISION} and {FORMAT}; retrain the model or install the version that wrote it"
        )
    expected = {field.name for field in fields(BundleDescription)}
    if set(values) != expected:
        missing, unknown = sorted(expected - set(values)), sorted(set(values) - expected)
        raise BundleError(f"{path}: missing keys {missing}, unknown keys {unknown}")
    kinds = {
        "architecture": dict,
        "calibration": dict,
        "heads": dict,
        "view": dict,
        "fbt": dict,
        "training": dict,
        "labels": list,
        "decision": dict,
    }
    for key, value in values.items():
        if key == "decision" and value is None:
            continue
        kind = kinds.get(key, int if key == "format" else str)
        if not isinstance(value, kind):
            raise BundleError(f"{path}: {key} must be a JSON {kind.__name__}, not {value!r}")
    labels = tuple(values["labels"])
    if labels not in (LABELS, ALL_LABELS):
        raise BundleError(
            f"{path}: labels are {values['labels']}, this version knows {list(LABELS)}, and {list(FURTHER_LABELS)} "
            "after them"
        )
    for label in labels:
        calibration = values["calibration"].get(label)
        names = {field.name for field in fields(LabelCalibration)}
        if not _are_numbers(calibration, names, optional="high_precision"):
            raise BundleError(
                f"{path}: the calibration of {label} needs finite slope, intercept, threshold and high_precision "
                "(the last may be null)"
            )
        for point in ("threshold", "high_precision"):
            if calibration[point] is not None and not 0 <= calibration[point] <= 1:
                raise BundleError(
                    f"{path}: the {point} of {label} must be a probability, not {calibration[point]!r}"
                )
    for label, head in values["heads"].items():
        if label not in labels or not _are_numbers(head, {"gamma", "intercept"}) or head["gamma"] <= 0:
            raise BundleError(
                f"{path}: the head of {label!r} needs a known label, a finite gamma above 0 and a finite intercept"
            )
    # JSON writes 1.0 as 1 where a person does, and whole numbers of any length make no array.
    calibration = {
        label: LabelCalibration(
            **{name: None if v is None else float(v) for name, v in values["calibration"][label].items()}  # type: ignore[arg-type]
        )
        for label in labels
    }
    return BundleDescription(**values | {"labels": labels, "calibration": calibration})


def _are_numbers(values: object, names: set[str], *, optional: str = "") -> bool:
    """Return whether `values` is a table of finite numbers of exactly these names."""
    if not isinstance(values, dict) or set(values) != names:
        return False
    return all(
        (value is None and name == optional)
        or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST)
        for name, value in values.items()
    )
