"""What there is to know of a bundle, on one page of a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dvfb_stream.labels import TITLES
from dvfb_stream.models import BundleDescription


def print_sheet(description: BundleDescription, folder: Path) -> None:
    """Print the essentials of a bundle; facts that it does not state are left out."""
    facts = description.training
    scores = _at(facts, "test", "average_precision", _at(facts, "test", "output"))
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{description.name} {description.version}", style="bold")
    for title, value in _lines(description, folder, facts):
        console.print(f"{title + ':':14}{value}", markup=False)
    table = Table()
    table.add_column("label", no_wrap=True)
    for title in ("positives", "average precision", "best F1", "high precision"):
        table.add_column(title, justify="right")
    for label in description.labels:
        calibration = description.calibration[label]
        table.add_row(
            TITLES[label] + (" (adapted)" if label in description.heads else ""),
            _number(_at(facts, "test", "positive_ratio", label)),
            _number(_at(scores, label)),
            _number(calibration["threshold"]),
            _number(calibration["high_precision"], absent="never"),
        )
    table.add_row("mean", "", _number(_at(scores, "mean")), "", "")
    console.print(table)
    console.print("The last two columns: probability from which on a label is accepted (--thresholds).")


def _lines(description: BundleDescription, folder: Path, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("folder", str(folder)),
        ("sha256", description.weights_sha256),
        ("network", _network(description.architecture)),
    ]
    operations, parameters = _at(facts, "cost", "multiply_adds"), _at(facts, "cost", "parameters")
    if _is_number(operations) and _is_number(parameters):
        lines.append(
            (
                "cost",
                f"{operations / 1e6:.0f} million multiply-adds a frame, {parameters / 1e6:.1f} million parameters",
            )
        )
    trained, tested = _at(facts, "frames_taken", "train"), _at(facts, "frames_taken", "test")
    if trained is not None:
        epochs = len(facts["history"]) if isinstance(facts.get("history"), list) else 0
        where = ", ".join(str(facts[key]) for key in ("machine", "date") if key in facts)
        lines.append(("trained on", f"{trained} simulated frames, {epochs} epochs, {where}"))
    if tested is not None:
        lines.append(("tested on", f"{tested} simulated frames"))
    adapted = _at(facts, "adapted_from")
    if adapted is not None:
        base = f"{_at(adapted, 'name')} {_at(adapted, 'version')} ({str(_at(adapted, 'sha256'))[:12]})"
        lines.append(("adapted from", f"{base} to {_at(facts, 'labelled_frames')} labelled frames"))
    error = _at(facts, "test", "expected_calibration_error")
    if _is_number(error):
        lines.append(("calibration", f"stated and observed probability differ by {error:.4f} in the mean"))
    return lines


def _network(architecture: Mapping[str, Any]) -> str:
    parts = [
        f"{view} {_at(architecture, view, 'name')}"
        for view in ("image", "coefficient")
        if architecture.get(view)
    ]
    widths = _at(architecture, "hidden")
    hidden = ", ".join(map(str, widths if isinstance(widths, list) else [widths]))
    return f"{' + '.join(parts)}, fully connected {hidden}"


def _at(facts: Any, *keys: Any) -> Any:
    """Return what lies at a path of keys; None where the path ends before: a bundle may state any facts, or none."""
    for key in keys:
        if not isinstance(facts, Mapping) or not isinstance(key, str):
            return None
        facts = facts.get(key)
    return facts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _number(value: Any, *, absent: str = "") -> str:
    return f"{value:.3f}" if _is_number(value) else absent
