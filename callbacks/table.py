"""Prints annotations as they come, one line a frame, as Bluesky's LiveTable prints readings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

_COLUMNS = "{scan:>6} | {frame:>6} | {residual:>8} | {novelty:>7} | {status:<6} | {labels}"


class AnnotationTable:
    """A sink that prints a line per frame: scan, frame, fit residual, novelty, status, labels or reason.

    Behind each accepted label stands its probability. For a failed frame its reason stands there instead.

    Parameters
    ----------
    console
        Where to print; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._starts: dict[str, Mapping[str, Any]] = {}
        self._run_of_descriptor: dict[str, str] = {}
        self._last: str | None = None

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Print what a document of an analysis run says; documents of other runs are left alone."""
        if name == "start" and "analysis" in doc:
            self._starts[doc["uid"]] = doc
        elif name == "descriptor" and doc["run_start"] in self._starts:
            self._run_of_descriptor[doc["uid"]] = doc["run_start"]
        elif name == "event" and doc["descriptor"] in self._run_of_descriptor:
            self._print_row(self._run_of_descriptor[doc["descriptor"]], doc["data"])
        elif name == "stop" and doc["run_start"] in self._starts:
            self._print_summary(doc)
            uid = doc["run_start"]
            del self._starts[uid]
            self._run_of_descriptor = {key: run for key, run in self._run_of_descriptor.items() if run != uid}

    def _print_row(self, uid: str, data: Mapping[str, Any]) -> None:
        start = self._starts[uid]
        if uid != self._last:  # interleaved runs share the screen
            self._print_head(start)
            self._last = uid
        labels = ", ".join(f"{label} {data[label]:.2f}" for label in data["labels"].split(",") if label)
        failed = data["status"] != "ok"
        line = _COLUMNS.format(
            scan=start.get("scan_id", ""),
            frame=data["frame"],
            residual=_figure(data["fit_residual"]),
            novelty=_figure(data["novelty"]),
            status=data["status"],
            labels=data["reason"] if failed else labels,
        )
        self._console.print(escape(line), style="red" if failed else None)

    def _print_head(self, start: Mapping[str, Any]) -> None:
        analysis = start["analysis"]
        model = analysis["model"]
        self._console.print(
            escape(
                f"{analysis['stream']} · {analysis['data_key']} of run {analysis['parent'][:8]}"
                f" · model {model['name']} {model['version']}"
            ),
            style="bold",
        )
        head = _COLUMNS.format(
            scan="scan",
            frame="frame",
            residual="residual",
            novelty="novelty",
            status="status",
            labels="labels",
        )
        self._console.print(head, style="dim")

    def _print_summary(self, stop: Mapping[str, Any]) -> None:
        summary = stop["summary"]
        counts = {name: entry["count"] for name, entry in summary.items() if isinstance(entry, Mapping)}
        found = ", ".join(f"{label} {count}" for label, count in counts.items() if count) or "no labels"
        scan = self._starts[stop["run_start"]].get("scan_id", "")
        failed = f", {summary['failed']} failed" if summary["failed"] else ""
        self._console.print(escape(f"{scan:>6} | {summary['frames']} frames{failed}: {found}"), style="bold")
        self._last = None


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
