"""``dvfb annotate --tiled``: raw runs of a catalog, annotated into the analysis runs beside them."""

from __future__ import annotations

import json as json_format
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    from dvfb_stream.history.run_workers import RunWorkers
    from dvfb_stream.history.settings import HistorySettings
    from dvfb_stream.profiles.beamline_description import Beamline


DEFAULT_WORKERS = 2
_ATTEMPTS = "TILED_RETRY_ATTEMPTS"


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
    workers: int | None
    json: bool
    arrays: str | None
    allowed_roots: tuple[str, ...]

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
            self.workers,
            self.arrays,
            self.allowed_roots,
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
    statuses = _statuses(asked)
    settings = _settings(asked, description, statuses)
    with quiet_libraries(), _few_attempts(), opened_catalog(catalog) as client:
        from dvfb_stream.history.selection import raw_runs

        uids = raw_runs(
            client, uids=asked.uids, since=asked.since, until=asked.until, where=asked.where or ""
        )
        if not uids:
            raise DvfbError(f"no raw run in {catalog} is meant; --tiled names the container of raw runs")
        done = _annotate(client, uids, settings, asked.workers or DEFAULT_WORKERS)
    _tell(done, asked)
    if done.report.failures or done.report.rows["failed"]:
        raise typer.Exit(1)


@contextmanager
def _few_attempts() -> Iterator[None]:
    """Have Tiled's client try three times, not ten, before it says that nobody answers; read at its import.

    Worker processes do try ten times: in the night a server may be started again.
    """
    given = os.environ.get(_ATTEMPTS)
    os.environ.setdefault(_ATTEMPTS, "3")
    import tiled.client  # noqa: F401

    if given is None:
        del os.environ[_ATTEMPTS]
    yield


def _statuses(asked: History) -> tuple[str, ...]:
    """Return the statuses of rows that may be replaced."""
    from dvfb_stream.annotations import Status

    if asked.only is not None and asked.again:
        raise WrongCallError("give one of --only and --again, which is --only ok,failed,dropped")
    if asked.only is None:
        return tuple(Status) if asked.again else ()
    return tuple(choose(name.strip(), Status, "status") for name in asked.only.split(","))


def _arrays(asked: History) -> tuple[str, ...] | None:
    """Return the names of the arrays that are asked for; None where nothing is said of them."""
    if asked.arrays is None:
        return None
    from dvfb_stream.frame_arrays import FrameArray

    return tuple(choose(name.strip(), FrameArray, "array") for name in asked.arrays.split(","))


def _beamline(asked: History) -> Beamline | None:
    from dvfb_stream.profiles.beamline_description import BEAMLINE_VARIABLE, read_beamline

    if asked.data_keys and asked.beamline is not None:
        raise WrongCallError(
            "give the geometry once: by --beamline, or by --data-key and the geometry options"
        )
    path = asked.beamline or os.environ.get(BEAMLINE_VARIABLE)
    return read_beamline(path) if path and not asked.data_keys else None


def _settings(asked: History, description: DetectorDescription, statuses: tuple[str, ...]) -> HistorySettings:
    """Return how runs are annotated; all that a user may have got wrong is known by then, but for the model."""
    from dvfb_stream.history.settings import HistorySettings, allowing
    from dvfb_stream.isolation.file_settings import FileSettings

    beamline = _beamline(asked)
    is_described = description.center_x is not None or description.poni is not None
    if beamline is not None:
        if is_described:
            raise WrongCallError(
                "give the geometry once: by --beamline, or by --data-key and the geometry options"
            )
        if not beamline.geometries:
            raise DvfbError(f"{beamline.path} describes no detector; add a table [detectors.DATA_KEY]")
    elif not asked.data_keys or not is_described:
        raise WrongCallError(
            "which data key is a detector, and where is its beam centre? Give --beamline FILE.toml; or --data-key "
            "KEY with --center-x and --center-y, or with --poni"
        )
    else:
        description.load()
    roots = tuple(os.path.abspath(root) for root in asked.allowed_roots)
    allowing(FileSettings(), roots)  # here, where whoever has typed them sees what is refused
    described = description.model_copy(update={"from_file": False}).model_dump(mode="json")
    return HistorySettings(
        beamline=None if beamline is None else str(beamline.path),
        detectors=dict.fromkeys(asked.data_keys, described),
        folder=str(Path.cwd()),
        model=asked.model,
        device=asked.device,
        thresholds=asked.thresholds,
        batch_size=asked.batch_size,
        again=statuses,
        arrays=_arrays(asked),
        allowed_roots=roots,
    )


def _annotate(client: Any, uids: list[str], settings: HistorySettings, workers: int) -> RunWorkers:
    from dvfb_stream.history.run_workers import RunWorkers

    root = logging.getLogger()
    log_level = root.level if any(type(one) is not logging.NullHandler for one in root.handlers) else None
    history = RunWorkers(
        client.uri, settings, workers=workers, api_key=client.context.api_key, log_level=log_level
    )
    began = time.monotonic()
    with TaskProgress() as progress:

        def show() -> None:
            report, rows = history.report, history.rows_made
            rate = rows / max(time.monotonic() - began, 1e-9)
            progress.show("annotating runs", report.runs, len(uids), f"{rows} frames, {rate:.0f} frames/s")

        for _ in history.annotate(uids, on_look=show):
            show()
    return history


def _tell(done: RunWorkers, asked: History) -> None:
    report = done.report
    for failure in report.failures:
        report_error(failure)
    for remark in done.remarks:
        report_note(remark)
    if report.other_geometry:
        report_note(
            f"{report.other_geometry} of the runs that were passed over are annotated with another geometry; their "
            "rows stay; --again makes an analysis with this one beside them"
        )
    if report.without_arrays:
        report_note(
            f"{report.without_arrays} of the runs that were passed over are annotated without these arrays; --again "
            "adds them, and replaces their rows"
        )
    if asked.json:
        say(
            json_format.dumps(
                {
                    "runs": report.runs,
                    "annotated": report.annotated,
                    "passed_over": report.skipped,
                    "other_geometry": report.other_geometry,
                    "without_arrays": report.without_arrays,
                    "unfinished": report.unfinished,
                    "rows": dict(report.rows),
                    "replaced": report.replaced,
                    "beside": report.beside,
                    "made_newest": report.made_newest,
                    "seconds": {what: round(spent, 3) for what, spent in report.seconds.items()},
                    "failures": report.failures,
                }
            )
        )
        return
    rows = ", ".join(f"{count} {status}" for status, count in sorted(report.rows.items())) or "none"
    say(
        f"{report.runs} runs: {report.annotated} annotated, {report.skipped} passed over, "
        f"{report.unfinished} not ended yet, {len(report.failures)} failed; frames: {rows}; "
        f"rows replaced: {report.replaced}; analyses beside others: {report.beside}"
    )
