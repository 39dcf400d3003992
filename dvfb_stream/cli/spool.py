"""``dvfb spool``: rows that are on this machine's disk because their catalog does not have them yet."""

from __future__ import annotations

import json as json_format
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.opened_catalog import try_few_times
from dvfb_stream.cli.options import Json, flag, option
from dvfb_stream.cli.terminal import print_table, quiet_libraries, report_error, report_note, say
from dvfb_stream.errors import DvfbError, SettingsError

if TYPE_CHECKING:
    from dvfb_stream.catalog.spool.inspection import RunInSpool

Folder = Annotated[
    Path | None,
    option(
        "FOLDER",
        "Folder of one spool, or below which there are some.  [default: that of this user's spools, or what the "
        "environment variable DVFB_SPOOL names]",
    ),
]
Runs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN]...", help="uids that `dvfb spool list` shows, of analysis runs or raw runs."
    ),
]


def list_spool(*, folder: Folder = None, json: Json = False) -> None:
    """List the analysis runs whose rows wait on this machine's disk, and those quarantined with the reason.

    Rows wait while the catalog does not answer. The process that put them there delivers them; where that has ended,
    the next one for the same catalog, or `dvfb spool retry`. A quarantined run was refused by the catalog for good:
    mend what the reason says, then `dvfb spool retry`.
    """
    runs = _runs(folder)
    if json:
        for run in runs:
            say(json_format.dumps({**asdict(run), "path": str(run.path)}))
        return
    if not runs:
        say(f"nothing waits in {_below(folder)}")
        return
    rows = [
        (
            run.uid,
            run.raw_uid,
            f"{run.rows:,}",
            f"{run.bytes / 2**20:.1f} MiB",
            _age(time.time() - run.came),
            "quarantined" if run.reason is not None else "waits" if run.in_use else "left",
            run.address,
            run.reason or "",
        )
        for run in runs
    ]
    print_table(
        ("analysis run", "raw run", "rows", "size", "since", "state", "catalog", "reason"),
        rows,
        styles=["red" if run.reason is not None else "" for run in runs],
        breakable=("reason", "catalog"),
        dim=("raw run", "catalog"),
    )


def retry(
    runs: Runs = None,
    *,
    folder: Folder = None,
    timeout: Annotated[
        float, option("SECONDS", "How long to try, for each catalog.", min=0.1, max=86400.0)
    ] = 60.0,
) -> None:
    """Deliver again what is quarantined, and what processes that have ended left; all of it, or the RUNs.

    Where a process that lives has the rows, it delivers them. Otherwise this command does, with the API key in the
    environment variable TILED_API_KEY where the catalog asks for one. Exit status 1 where something is in the way.
    """
    from dvfb_stream.catalog.spool.inspection import release

    found = _chosen(_runs(folder), runs)
    released = release(_below(folder), {run.uid for run in found})
    if released:
        report_note(f"{released} quarantined runs are tried again")
    if in_use := {run.uid for run in found if run.in_use}:
        report_note(f"{len(in_use)} runs are delivered by a process that is running")
    failed = False
    for left in sorted({run.path.parent for run in found if not run.in_use}):
        addresses = {run.address for run in found if run.path.parent == left}
        in_the_way = _deliver(left, addresses.pop(), timeout)
        if in_the_way:
            report_error(f"{left}: {in_the_way}")
            failed = True
    if failed:
        raise typer.Exit(1)
    if not found:
        say("nothing waits")


def export(
    out: Annotated[
        Path, typer.Argument(metavar="OUT.jsonl", help="File for the documents; /dev/stdout to print them.")
    ],
    runs: Runs = None,
    *,
    folder: Folder = None,
    quarantined: Annotated[bool, flag("Only what is quarantined.")] = False,
    remove: Annotated[
        bool, flag("Take quarantined runs out of the spool once the file is written: its room is free again.")
    ] = False,
) -> None:
    """Write what is in the spool to OUT.jsonl: [name, document], one a line, all runs or the RUNs.

    What is not a number is null. The rows stay in the spool, unless --remove takes those quarantined out.
    """
    from dvfb_stream.atomic_output import replaced
    from dvfb_stream.catalog.spool.encoding import json_ready
    from dvfb_stream.catalog.spool.inspection import documents
    from dvfb_stream.catalog.spool.inspection import remove as take_out

    found = [
        run for run in _chosen(_runs(folder), runs) if run.reason is not None or not (quarantined or remove)
    ]
    wanted = {run.uid for run in found}
    try:
        with replaced(out) as beside, beside.open("w", encoding="utf-8") as file:
            for name, doc in documents(_below(folder), wanted):
                file.write(json_format.dumps([name, json_ready(doc)], allow_nan=False) + "\n")
    except OSError as error:
        raise SettingsError(f"cannot write {out}: {error.strerror or error}") from error
    removed = take_out(_below(folder), wanted) if remove else 0
    report_note(
        f"{len(wanted)} runs written to {out}"
        + (f", and {removed} taken out of the spool" if removed else "")
    )


COMMANDS: Mapping[str, Callable[..., None]] = {"list": list_spool, "retry": retry, "export": export}


def _below(folder: Path | None) -> Path:
    from dvfb_stream.catalog.spool import spools_folder

    return spools_folder() if folder is None else folder


def _runs(folder: Path | None) -> list[RunInSpool]:
    from dvfb_stream.catalog.spool.inspection import runs_in_spools

    if folder is not None and not folder.is_dir():
        raise SettingsError(
            f"there is no folder {folder}; `dvfb spool list` without --folder looks in {_below(None)}"
        )
    return runs_in_spools(_below(folder))


def _chosen(found: list[RunInSpool], wanted: list[str] | None) -> list[RunInSpool]:
    if not wanted:
        return found
    known = {uid for run in found for uid in (run.uid, run.raw_uid)}
    for uid in wanted:
        if uid not in known:
            raise SettingsError(f"no run {uid!r} is in the spool; `dvfb spool list` shows those that are")
    return [run for run in found if run.uid in wanted or run.raw_uid in wanted]


def _deliver(folder: Path, address: str, timeout: float) -> str:
    """Deliver what is left for one catalog; return what is in the way, empty where nothing is."""
    try_few_times(1)
    from dvfb_stream.catalog import connect
    from dvfb_stream.catalog.spool.inspection import deliver_left
    from dvfb_stream.catalog.store import AnnotationStore

    if not address:
        return "it is not known which catalog this is for: the process that wrote it did not say"
    try:
        with quiet_libraries():
            client = connect(address)
            try:
                return deliver_left(folder, AnnotationStore(client), timeout=timeout)
            finally:
                client.context.close()
    except DvfbError as error:
        return str(error)


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
