"""``dvfb catalog``: puts in order where runs lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.opened_catalog import opened_catalog
from dvfb_stream.cli.options import flag, option
from dvfb_stream.cli.terminal import quiet_libraries, report_note, say
from dvfb_stream.errors import DvfbError

if TYPE_CHECKING:
    from dvfb_stream.catalog.moving import MisplacedRun


def move(
    catalog: Annotated[
        str,
        typer.Argument(
            help="Where the raw runs are: a Tiled container, for example "
            "http://localhost:8000/api/v1/metadata/raw, or a folder that the demo or the profile has filled.",
        ),
    ],
    *,
    to: Annotated[
        str | None,
        option(
            "URI",
            "Another container for the annotations; needed where the raw runs lie in the root of their server.",
        ),
    ] = None,
    apply: Annotated[bool, flag("Do it; without, it is only said what would be done.")] = False,
) -> None:
    """Move analysis runs that an earlier version put among the raw runs to a place beside them.

    Each run is written to its new place, each frame once and in order, and read back; then the old one is deleted.
    Raw runs are not touched on a server. In a folder, all runs move from the root of its catalog to /raw, in one
    step in which no data is copied; a copy of the catalog as it was stays there as catalog-before-move.db.
    Interrupted and called again, it goes on. Let nobody write annotations meanwhile. The Tiled API key is taken from
    the environment variable TILED_API_KEY.

    dvfb catalog move http://localhost:8000/api/v1/metadata/raw

    dvfb catalog move demo-output/catalog --apply
    """
    with quiet_libraries():
        if "://" not in catalog and Path(catalog).is_dir():
            _order_folder(Path(catalog), apply=apply)
        with opened_catalog(catalog) as client, ExitStack() as opened:
            _move(client, client if to is None else _connected(to, opened), apply=apply)


COMMANDS: Mapping[str, Callable[..., None]] = {"move": move}


def _order_folder(folder: Path, *, apply: bool) -> None:
    from dvfb_stream.catalog.old_folder import move_into, runs_in_root
    from dvfb_stream.profiles.catalogs import RAW, lock_folder, served_root

    with lock_folder(folder):
        count = runs_in_root(folder)
    if not count:
        return
    if not apply:
        say(f"{count} runs would move from the root of {folder} to /{RAW}")
        return
    with served_root(folder) as root:
        _make_raw(root, RAW)
    with lock_folder(folder):
        move_into(folder, RAW)
    say(f"{count} runs moved from the root of {folder} to /{RAW}")


def _make_raw(root: Any, key: str) -> None:
    from dvfb_stream.catalog.place import CATALOG_SPECS, found_or_created

    found_or_created(root, key, specs=CATALOG_SPECS)


def _move(client: Any, place: Any, *, apply: bool) -> None:
    from dvfb_stream.catalog.moving import misplaced_runs, move_run
    from dvfb_stream.catalog.store import AnnotationStore
    from dvfb_stream.catalog.store_errors import StoreRefusedError

    store = AnnotationStore(place) if apply else None
    runs, left = list(misplaced_runs(client)), 0
    for run in runs:
        try:
            if store is not None:
                move_run(client, run.uid, store)
        except StoreRefusedError as error:
            if error.everything:
                raise
            left += 1
            say(f"left {_described(run)}: {error}")
        else:
            say(f"{'moved' if apply else 'would move'} {_described(run)}")
    if not runs:
        say("no analysis run lies among the raw runs")
    elif not apply:
        report_note("nothing was changed; --apply does it")
    if left:
        raise DvfbError(f"{left} of {len(runs)} analysis runs could not be moved; they lie where they were")


def _described(run: MisplacedRun) -> str:
    doubles = f", {run.rows - run.frames} more rows that say the same again" if run.rows > run.frames else ""
    end = "" if run.complete else ", without a stop"
    return f"{run.uid} of run {run.parent}: {run.frames} frames{doubles}{end}"


def _connected(uri: str, opened: ExitStack) -> Any:
    from dvfb_stream.catalog import connect

    client = connect(uri)
    opened.callback(client.context.close)
    return client
