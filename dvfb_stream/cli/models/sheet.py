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
    test = facts.get("test", {})
    scores = test.get("average_precision", {}).get(test.get("output"), {})
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
            _number(test.get("positive_ratio", {}).get(label)),
            _number(scores.get(label)),
            _number(calibration["threshold"]),
            _number(calibration["high_precision"], absent="never"),
        )
    table.add_row("mean", "", _number(scores.get("mean")), "", "")
    console.print(table)
    console.print("The last two columns: probability from which on a label is accepted (--thresholds).")


def _lines(description: BundleDescription, folder: Path, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("folder", str(folder)),
        ("sha256", description.weights_sha256),
        ("network", _network(description.architecture)),
    ]
    cost = facts.get("cost")
    if cost:
        lines.append(
            (
                "cost",
                f"{cost['multiply_adds'] / 1e6:.0f} million multiply-adds a frame, "
                f"{cost['parameters'] / 1e6:.1f} million parameters",
            )
        )
    frames = facts.get("frames_taken")
    if frames:
        trained = f"{frames['train']} simulated frames, {len(facts['history'])} epochs"
        lines.append(("trained on", f"{trained}, {facts['machine']}, {facts['date']}"))
        lines.append(("tested on", f"{frames['test']} simulated frames"))
    adapted = facts.get("adapted_from")
    if adapted:
        lines.append(("adapted from", f"{adapted['name']} {adapted['version']} ({adapted['sha256'][:12]})"))
    error = facts.get("test", {}).get("expected_calibration_error")
    if error is not None:
        lines.append(("calibration", f"stated and observed probability differ by {error:.4f} in the mean"))
    return lines


def _network(architecture: Mapping[str, Any]) -> str:
    parts = [
        f"{view} {(architecture.get(view) or {}).get('name')}"
        for view in ("image", "coefficient")
        if architecture.get(view)
    ]
    hidden = ", ".join(str(width) for width in architecture.get("hidden", ()))
    return f"{' + '.join(parts)}, fully connected {hidden}"


def _number(value: float | None, *, absent: str = "") -> str:
    return absent if value is None else f"{value:.3f}"
