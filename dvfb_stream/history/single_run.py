"""One raw run, annotated by a call that may be made anywhere and again: what a cluster's scheduler is given."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from dvfb_stream.errors import DvfbError, NotThereYetError, SettingsError
from dvfb_stream.history.report import HistoryReport
from dvfb_stream.history.settings import DEFAULT_MODEL, HistorySettings

if TYPE_CHECKING:
    from pathlib import Path

    from dvfb_stream.files.run_detector import RunDetector
    from dvfb_stream.frames import Geometry

_ONE_AT_A_TIME = threading.Lock()
"""An annotator is for one thread, and is kept for the next run: loading takes seconds."""


def annotate_run(
    uid: str,
    *,
    tiled: str,
    beamline: str | Path | None = None,
    detectors: Mapping[str, Geometry | RunDetector] | None = None,
    model: str = DEFAULT_MODEL,
    device: str = "auto",
    thresholds: str = "best_f1",
    batch_size: int = 16,
    again: Collection[str] = (),
    allowed_roots: Collection[str] = (),
    arrays: Collection[str] | None = None,
) -> HistoryReport:
    """Annotate a stored raw run into the analysis runs beside it; return when their rows were read back.

    Made for schedulers: all arguments can be pickled, what it returns, too, and calling it again does no harm. A run
    that this model has annotated is passed over, and rows that are stored stay, so that after a crash, or when two
    workers are given the same run, each frame has one row. It keeps the annotator for the next call in this process.
    Calls of several threads take turns; give each worker one thread, and as many workers as there are cores.

    Parameters
    ----------
    uid
        Of the raw run, whole.
    tiled
        Address of the container of raw runs. The key is in ``TILED_API_KEY``, or in the file that
        ``TILED_API_KEY_FILE`` names, where the call is made.
    beamline
        TOML file that describes the detectors, as `dvfb profile` has it; must be there where the call is made.
    detectors
        Geometry by data key, in place of those in the file.
    model
        Name or folder of a bundle; ``default``: the beamline's.
    device, thresholds
        As `Annotator.load` takes them.
    batch_size
        Frames annotated at a time.
    again
        Statuses of stored rows that better ones may replace: ``failed``, ``dropped``, ``ok``.
    allowed_roots
        Folders below which files may be opened that the run names, besides those of ``[files]`` in the beamline's
        file; images in others are read from Tiled.
    arrays
        What is kept of each frame besides its row, as `HistoryAnnotator` takes it; None: as the beamline's file says.

    Returns
    -------
    HistoryReport
        Of this run.

    Raises
    ------
    NotThereYetError
        When the run has no stop: it goes on, or its last document is not stored yet.
    SettingsError
        When the catalog cannot be opened, the beamline's file is refused, or neither it nor `detectors` is given.
    DvfbError
        When there is no such run, or not all of its rows could be stored; made again, the call goes on.
    """
    import dask

    from dvfb_stream.catalog import connect

    if beamline is None and detectors is None:
        raise SettingsError(
            "which data keys are detectors? Give beamline='FILE.toml', or detectors={'KEY': geometry}"
        )
    settings = HistorySettings(
        beamline=None if beamline is None else str(beamline),
        model=model,
        device=device,
        thresholds=thresholds,
        batch_size=batch_size,
        again=tuple(again),
        allowed_roots=tuple(map(str, allowed_roots)),
        arrays=None if arrays is None else tuple(arrays),
    )
    # Tiled's client reads arrays by dask: in a worker of Dask it would give that to the cluster, and wait for workers
    # that all wait likewise.
    with _ONE_AT_A_TIME, dask.config.set(scheduler="threads"):
        client = connect(tiled)
        with closing(client.context):
            # Without a spool of its own: whoever schedules the call makes it again, perhaps on another machine.
            history = settings.history(client, detectors=detectors, spool=False)
            for _ in history.annotate([uid]):
                pass
    report = history.report
    if report.failures:
        raise DvfbError(report.failures[0])
    if report.unfinished:
        raise NotThereYetError(f"run {uid} has no stop yet; annotate it when it has ended")
    return report
