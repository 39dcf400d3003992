"""``dvfb annotate --tiled``: raw runs of a catalog, annotated into the analysis runs beside them."""

from __future__ import annotations

import json as json_format
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dvfb_stream.cli.opened_catalog import opened_catalog
from dvfb_stream.cli.options import choose
from dvfb_stream.cli.terminal import (
    TaskProgress,
    WrongCallError,
    quiet_libraries,
    report_error,
    report_note,
    say,
)
from dvfb_stream.errors import DvfbError

if TYPE_CHECKING:
    from dvfb_stream.files import DetectorDescription
    from dvfb_stream.history.annotating import Again, HistoryReport
    from dvfb_stream.profiles.beamline_description import Beamline


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the command was asked of a catalog; see its help."""

    uids: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    where: str | None
    only: str | None
    again: bool
    data_keys: tuple[str, ...]
    beamline: Path | None
    model: str
    device: str
    thresholds: str
    batch_size: int
    json: bool

    @property
    def is_asked(self) -> bool:
        """Whether any option says something that makes sense for a catalog alone."""
        given = (
            self.uids,
            self.since,
            self.until,
            self.where,
            self.only,
            self.again,
            self.data_keys,
            self.beamline,
        )
        return any(given)


def annotate_history(catalog: str, asked: History, description: DetectorDescription) -> None:
    """Do the work; exits with 1 where a run or a frame could not be annotated.

    Raises
    ------
    WrongCallError
        When options exclude each other.
    DvfbError
        When the catalog does not answer, or no run is meant.
    """
    if "api_key=" in catalog:
        raise WrongCallError(
            "others can read a command line: put the key into TILED_API_KEY, not into --tiled"
        )
    again = _again(asked)
    # Tiled's client would try ten times before it says that nobody answers; read at its import.
    os.environ.setdefault("TILED_RETRY_ATTEMPTS", "3")
    beamline = _beamline(asked)
    detectors = _detectors(asked, description, beamline)
    with quiet_libraries(), opened_catalog(catalog) as client:
        from dvfb_stream.history.selection import raw_runs

        uids = raw_runs(
            client, uids=asked.uids, since=asked.since, until=asked.until, where=asked.where or ""
        )
        if not uids:
            raise DvfbError(f"no raw run in {catalog} is meant; --tiled names the container of raw runs")
        report = _annotate(client, uids, asked, beamline, detectors, again)
    _tell(report, asked)
    if report.failures or report.rows["failed"]:
        raise typer.Exit(1)


def _again(asked: History) -> Again | None:
    if asked.only is None and not asked.again:
        return None
    if asked.only is not None and asked.again:
        raise WrongCallError("give one of --only and --again, which is --only ok,failed,dropped")
    from dvfb_stream.annotations import Status
    from dvfb_stream.history.annotating import Again

    names = list(Status) if asked.only is None else [name.strip() for name in asked.only.split(",")]
    return Again(frozenset(Status(choose(name, Status, "status")) for name in names))


def _beamline(asked: History) -> Beamline | None:
    from dvfb_stream.profiles.beamline_description import BEAMLINE_VARIABLE, read_beamline

    if asked.data_keys and asked.beamline is not None:
        raise WrongCallError(
            "give the geometry once: by --beamline, or by --data-key and the geometry options"
        )
    path = asked.beamline or os.environ.get(BEAMLINE_VARIABLE)
    return read_beamline(path) if path and not asked.data_keys else None


def _detectors(
    asked: History, description: DetectorDescription, beamline: Beamline | None
) -> Mapping[str, Any]:
    """Return the geometry of each data key, or what finds it in the documents of a run."""
    is_described = description.center_x is not None or description.poni is not None
    if beamline is not None:
        if is_described:
            raise WrongCallError(
                "give the geometry once: by --beamline, or by --data-key and the geometry options"
            )
        if not beamline.geometries:
            raise DvfbError(f"{beamline.path} describes no detector; add a table [detectors.DATA_KEY]")
        return beamline.geometries
    if not asked.data_keys or not is_described:
        raise WrongCallError(
            "which data key is a detector, and where is its beam centre? Give --beamline FILE.toml; or --data-key "
            "KEY with --center-x and --center-y, or with --poni"
        )
    from dvfb_stream.files.run_detector import RunDetector

    detector = description.load()
    found = RunDetector(None, detector) if detector.usual_shape is None else detector.geometry()
    return dict.fromkeys(asked.data_keys, found)


def _annotate(
    client: Any,
    uids: list[str],
    asked: History,
    beamline: Beamline | None,
    detectors: Mapping[str, Any],
    again: Again | None,
) -> HistoryReport:
    # Late: it takes seconds, and all that a user may have got wrong is known by now.
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.history.annotating import HistoryAnnotator

    model = asked.model if beamline is None or asked.model != "default" else beamline.model
    annotator = Annotator.load(model, device=asked.device, thresholds=asked.thresholds)
    began = time.monotonic()
    with TaskProgress() as progress:
        done = 0

        def show(_: str = "") -> None:
            rows = history.report.rows.total()
            rate = rows / max(time.monotonic() - began, 1e-9)
            progress.show("annotating runs", done, len(uids), f"{rows} frames, {rate:.0f} frames/s")

        history = HistoryAnnotator(
            client,
            annotator,
            detectors=detectors,
            root_map=None if beamline is None else beamline.description.root_map,
            again=again,
            on_row=show,
            batch_size=asked.batch_size,
        )
        show()
        for _ in history.annotate(uids):
            done += 1
            show()
    return history.report


def _tell(report: HistoryReport, asked: History) -> None:
    for failure in report.failures:
        report_error(failure)
    if report.other_geometry:
        report_note(
            f"{report.other_geometry} of the runs that were passed over are annotated with another geometry; their "
            "rows stay, unless --again replaces them"
        )
    if asked.json:
        say(
            json_format.dumps(
                {
                    "runs": report.runs,
                    "annotated": report.annotated,
                    "passed_over": report.skipped,
                    "other_geometry": report.other_geometry,
                    "unfinished": report.unfinished,
                    "rows": dict(report.rows),
                    "replaced": report.replaced,
                    "failures": report.failures,
                }
            )
        )
        return
    rows = ", ".join(f"{count} {status}" for status, count in sorted(report.rows.items())) or "none"
    say(
        f"{report.runs} runs: {report.annotated} annotated, {report.skipped} passed over, "
        f"{report.unfinished} not ended yet, {len(report.failures)} failed; frames: {rows}; "
        f"rows replaced: {report.replaced}"
    )
