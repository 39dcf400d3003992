"""``dvfb record``: writes the runs that a beamline publishes to files."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from dvfb_stream.cli.options import choose, option
from dvfb_stream.cli.terminal import TaskProgress, report_note, say


def record(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Gets a file for each run.")],
    *,
    config: Annotated[
        Path,
        option("FILE.toml", "Configuration of a daemon: its Kafka brokers, topics, how to log in."),
    ],
    start: Annotated[
        str, option("latest|earliest", "Which documents: new ones, or all that the cluster keeps.", "--from")
    ] = "latest",
    runs: Annotated[int | None, option("N", "Leave after so many complete runs.", min=1)] = None,
    without: Annotated[
        list[str] | None,
        option(
            "NAME", "Leave out fields of this name, besides personal ones; give it again for further ones."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        option("NAME", "Keep fields of this name though they are personal; give it again for further ones."),
    ] = None,
) -> None:
    """Write the documents that come through Kafka to files, one a run, until Ctrl-C.

    Whoever runs, reads or annotates at the beamline notices nothing: no group is joined, nothing is committed. Fields
    that say who somebody is (proposal, user, operator, email and the like, at any depth of start, descriptor and
    stop) are left out. Frames that are in documents are in the file; of those in files, the paths are.

    dvfb record bug-report --config daemon.toml --runs 1

    dvfb replay bug-report/scan-7-....dvfb-run --to runengine --config daemon.toml
    """
    choose(start, ("latest", "earliest"), "--from")
    from dvfb_stream.daemon.settings import read_settings
    from dvfb_stream.errors import SettingsError
    from dvfb_stream.replay.personal import PERSONAL_FIELDS
    from dvfb_stream.replay.recording import Recorder
    from dvfb_stream.replay.topic import read_topics

    settings = read_settings(config)
    if settings.kafka is None:
        raise SettingsError(
            f"{config} has no [kafka]; runs of a Tiled catalog need no recording: `dvfb replay RUN --tiled URI`"
        )
    kept = {name.lower() for name in keep or ()}
    fields = [*(field for field in PERSONAL_FIELDS if field not in kept), *(without or ())]
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    with Recorder(folder, without=fields) as recorder, TaskProgress() as progress:
        told = 0

        def take(name: str, doc: dict[str, Any]) -> None:
            nonlocal told
            recorder(name, doc)
            done = len(recorder.runs)
            progress.show("recording", done, max(done + 1, runs or 0), f"{recorder.documents} documents")
            for path in recorder.runs[told:]:
                with progress.hidden():
                    say(str(path))
            told = done
            if runs is not None and done >= runs:
                stopping.set()

        refused = read_topics(settings.kafka, take, start=start, stopping=stopping)
    report_note(
        f"{len(recorder.runs)} runs, {recorder.documents} documents; left out: {refused} messages that are no "
        f"document, {recorder.left_out} documents of runs whose start did not come"
    )
