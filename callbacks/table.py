"""Prints annotations as they come, one line a frame, as Bluesky's LiveTable prints readings."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

MAX_OPEN_RUNS = 1_000
"""Runs without a stop that are remembered; of more, the one that began first is forgotten."""

_COLUMNS = "{scan:>6} | {frame:>6} | {residual:>8} | {novelty:>7} | {status:<7} | {labels}"


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    start: Mapping[str, Any]
    descriptors: list[str] = field(default_factory=list)

    @property
    def scan(self) -> str:
        return str(self.start.get("scan_id", ""))


class AnnotationTable:
    """A sink that prints a line per frame: scan, frame, fit residual, novelty, status, labels or reason.

    Behind each accepted label stands its probability. For a failed frame its reason stands there instead. What would
    break the line, or tell the terminal something, is printed as Python writes it between quotes.

    Parameters
    ----------
    console
        Where to print; standard output by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._run_of_descriptor: dict[str, str] = {}
        self._last: str | None = None

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Print what a document of an analysis run says; documents of other runs are left alone."""
        if name == "start" and "analysis" in doc:
            self._runs[doc["uid"]] = _Run(doc)
            if len(self._runs) > MAX_OPEN_RUNS:
                self._forget(next(iter(self._runs)))
        elif name == "descriptor" and doc["run_start"] in self._runs:
            self._runs[doc["run_start"]].descriptors.append(doc["uid"])
            self._run_of_descriptor[doc["uid"]] = doc["run_start"]
        elif name == "event" and doc["descriptor"] in self._run_of_descriptor:
            self._print_row(self._run_of_descriptor[doc["descriptor"]], doc["data"])
        elif name == "stop" and doc["run_start"] in self._runs:
            self._print_summary(doc)
            self._forget(doc["run_start"])

    def _forget(self, uid: str) -> None:
        for descriptor in self._runs.pop(uid).descriptors:
            self._run_of_descriptor.pop(descriptor, None)

    def _print_row(self, uid: str, data: Mapping[str, Any]) -> None:
        run = self._runs[uid]
        if uid != self._last:  # interleaved runs share the screen
            self._print_head(run.start)
            self._last = uid
        labels = ", ".join(f"{label} {data[label]:.2f}" for label in data["labels"].split(",") if label)
        failed = data["status"] != "ok"
        line = _COLUMNS.format(
            scan=run.scan,
            frame=data["frame"],
            residual=_figure(data["fit_residual"]),
            novelty=_figure(data["novelty"]),
            status=data["status"],
            labels=data["reason"] if failed else labels,
        )
        self._print(line, style="red" if failed else "")

    def _print_head(self, start: Mapping[str, Any]) -> None:
        analysis = start["analysis"]
        model = analysis["model"]
        self._print(
            f"{analysis['stream']} · {analysis['data_key']} of run {analysis['parent'][:8]}"
            f" · model {model['name']} {model['version']}",
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
        self._print(head, style="dim")

    def _print_summary(self, stop: Mapping[str, Any]) -> None:
        summary = stop["summary"]
        counts = {name: entry["count"] for name, entry in summary.items() if isinstance(entry, Mapping)}
        found = ", ".join(f"{label} {count}" for label, count in counts.items() if count) or "no labels"
        scan = self._runs[stop["run_start"]].scan
        without = "".join(
            f", {summary[status]} {status}" for status in ("failed", "dropped") if summary[status]
        )
        self._print(f"{scan:>6} | {summary['frames']} frames{without}: {found}", style="bold")
        self._last = None

    def _print(self, line: str, *, style: str) -> None:
        self._console.print(Text(_printable(line), style=style))


def _printable(line: str) -> str:
    """Return a line without what ends lines or tells a terminal something: a file's name may have it."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in line)


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
