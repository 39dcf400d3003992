"""Prints annotations as they come, one line a frame, as Bluesky's LiveTable prints readings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from dvfb_stream.annotations import Status
from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.labels import ALL_LABELS

MAX_OPEN_RUNS = 1_000
"""Runs without a stop that are remembered; of more, the one that began first is forgotten."""

_COLUMNS = "{scan:>6} | {frame:>6} | {residual:>8} | {novelty:>7} | {order:>7} | {status:<7} | {labels}"


class AnnotationTable:
    """A sink that prints a line per frame: scan, frame, fit residual, novelty, order, status, labels or reason.

    Behind each accepted label stands its probability; doubtful ones follow, dim, with a question mark. The order is
    the one measured along the azimuth, with its contrast. For a failed frame its reason stands in place of labels.
    What would break the line, or tell the terminal something, is printed as Python writes it between quotes.

    Parameters
    ----------
    console
        Where to print; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        # By uid: start documents, and of which run a descriptor is.
        self._starts: BoundedCache[str, Mapping[str, Any]] = BoundedCache(
            MAX_OPEN_RUNS, evict=Evict.OLDEST_PUT
        )
        self._run_of: BoundedCache[str, str] = BoundedCache(MAX_OPEN_RUNS, evict=Evict.OLDEST_PUT)
        self._last = ""

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Print what a document of an analysis run says; documents of other runs are left alone."""
        if name == "start" and "analysis" in doc:
            self._starts.put(doc["uid"], doc)
        elif name == "descriptor" and doc["run_start"] in self._starts:
            self._run_of.put(doc["uid"], doc["run_start"])
        elif name == "event":
            start = self._starts.get(self._run_of.get(doc["descriptor"], ""))
            if start is not None:
                self._print_row(start, doc["data"])
        elif name == "stop":
            start = self._starts.pop(doc["run_start"])
            if start is not None:
                self._print_summary(start, doc["summary"])

    def _print_row(self, start: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        if start["uid"] != self._last:  # interleaved runs share the screen
            self._print_head(start)
            self._last = start["uid"]
        failed = data["status"] != Status.OK
        line = _COLUMNS.format(
            scan=_scan(start),
            frame=data["frame"],
            residual=_figure(data["fit_residual"]),
            novelty=_figure(data["novelty"]),
            order=_order(data),
            status=data["status"],
            labels=data["reason"] if failed else _labels(data, "labels"),
        )
        # Runs that an earlier version wrote have no doubtful labels.
        in_doubt = "" if failed else _labels(data, "doubtful", mark="?")
        separator = ", " if in_doubt and data["labels"] else ""
        self._print(line + separator, style="red" if failed else "", dim=in_doubt)

    def _print_head(self, start: Mapping[str, Any]) -> None:
        analysis = start["analysis"]
        model = analysis["model"]
        self._print(
            f"{analysis['stream']} · {analysis['data_key']} of run {analysis['parent'][:8]}"
            f" · model {model['name']} {model['version']}",
            style="bold",
        )
        names = {name: name for name in ("scan", "frame", "residual", "novelty", "order", "status", "labels")}
        self._print(_COLUMNS.format(**names), style="dim")

    def _print_summary(self, start: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        of_labels = {label: summary[label] for label in ALL_LABELS if label in summary}
        found = _counts(of_labels, "count") or "no labels"
        in_doubt = _counts(of_labels, "doubtful")
        without = "".join(
            f", {summary[status]} {status}" for status in (Status.FAILED, Status.DROPPED) if summary[status]
        )
        self._print(
            f"{_scan(start):>6} | {summary['frames']} frames{without}: {found}",
            style="bold",
            dim=in_doubt and f"; doubtful: {in_doubt}",
        )
        self._last = ""

    def _print(self, line: str, *, style: str, dim: str = "") -> None:
        self._console.print(Text.assemble((_printable(line), style), (_printable(dim), "dim")))


def _scan(start: Mapping[str, Any]) -> str:
    return str(start["analysis"].get("raw", {}).get("scan_id", ""))


def _printable(line: str) -> str:
    """Return a line without what ends lines or tells a terminal something: a file's name may have it."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


def _labels(data: Mapping[str, Any], column: str, *, mark: str = "") -> str:
    labels = filter(None, data.get(column, "").split(","))
    return ", ".join(f"{label} {data.get(label, math.nan):.2f}{mark}" for label in labels)


def _counts(of_labels: Mapping[str, Mapping[str, Any]], kind: str) -> str:
    return ", ".join(f"{label} {entry[kind]}" for label, entry in of_labels.items() if entry.get(kind))


def _order(data: Mapping[str, Any]) -> str:
    """Return the measured order with its contrast; a dash where none stands out."""
    order = data.get("measured_order", 0)
    return f"{order} {data['measured_contrast']:.2f}" if order else "-"


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
