"""``dvfb corrections``: what people said of frames; many at once, taken back, given to those who adapt models."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.correct.shown import SHORT, as_json, when, words_of
from dvfb_stream.cli.correct.where import By, Note, Tiled, opened
from dvfb_stream.cli.opened_catalog import try_few_times
from dvfb_stream.cli.options import Json, choose, option
from dvfb_stream.cli.terminal import TaskProgress, print_table, report_error, say
from dvfb_stream.errors import DvfbError

if TYPE_CHECKING:
    from dvfb_stream.catalog.corrections import Correction, CorrectionsRefusedError, Undo

Runs = Annotated[
    list[str] | None,
    option("RUN", "Of this raw run alone, as `dvfb correct` takes it; again for more.", "--run"),
]

_MOST_LINES = 50
"""Wrong lines of a table that are written to stderr, each by itself."""


def list_corrections(
    *,
    tiled: Tiled,
    run: Runs = None,
    json: Json = False,
) -> None:
    """List what people said of frames and took back, the last word last.

    dvfb corrections list --tiled http://localhost:8000/api/v1/metadata/raw --run 1207
    """
    with opened(tiled) as client:
        from dvfb_stream.catalog.corrections import read_corrections

        known = read_corrections(client, _raw_uids(client, run))
    # What was said at once in the order of its frames.
    together = sorted(known.corrections, key=lambda one: (one.origin.run_uid, one.origin.index))
    said: list[Correction | Undo] = sorted([*together, *known.undos], key=lambda one: one.time)
    if json:
        for one in said:
            say(json_format.dumps(as_json(one)))
    elif said:
        print_table(
            ("uid", "when", "by", "run", "frame", "detector", "labels", "undone by", "note"),
            [_row(one) for one in said],
            breakable=("labels", "note"),
        )
    else:
        say("nobody has corrected anything there")


def load(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="CORRECTIONS.csv",
            help="A frame a line, with the columns run, frame, add, remove, and where need be note, stream, "
            "data_key, model (docs/corrections.md).",
        ),
    ],
    *,
    tiled: Tiled,
    by: By = None,
    json: Json = False,
) -> None:
    """Say of many frames which labels they have and have not: all lines of the table, or none.

    Where a line is wrong, each wrong one is named, and nothing is stored. All lines count at once, when the last is
    stored; killed before, none does, and the same command says it again.

    dvfb corrections load corrections.csv --tiled http://localhost:8000/api/v1/metadata/raw --by ann
    """
    try_few_times(3)
    from dvfb_stream.catalog.corrections import CorrectionsRefusedError, correct_many
    from dvfb_stream.catalog.corrections.csv_table import read_corrections_table

    try:
        wanted = read_corrections_table(table)
        with opened(tiled) as client, TaskProgress() as progress:
            made = correct_many(client, wanted, by=by, on_progress=progress.show)
    except CorrectionsRefusedError as error:
        _tell_lines(table, error)
        raise DvfbError(f"{len(error.problems)} lines of {table} are wrong; nothing was stored") from error
    runs = len({one.origin.run_uid for one in made})
    if json:
        say(json_format.dumps({"call": made[0].call, "by": made[0].by, "frames": len(made), "runs": runs}))
    else:
        say(
            f"{len(made)} frames of {runs} runs corrected by {made[0].by}; to undo all of it: "
            f"dvfb corrections undo {made[0].call}"
        )


def undo(
    uid: Annotated[
        str,
        typer.Argument(
            metavar="UID",
            help="Of a correction, of all that were loaded with it, or of an undo; 5 characters of its beginning do.",
        ),
    ],
    *,
    tiled: Tiled,
    by: By = None,
    note: Note = "",
    json: Json = False,
) -> None:
    """Take a correction back, all that were loaded together, or an undo; nothing is deleted, and anybody may.

    dvfb corrections undo 1f0c42aa --tiled http://localhost:8000/api/v1/metadata/raw --note "another frame was meant"
    """
    with opened(tiled) as client:
        from dvfb_stream.catalog.corrections import undo as take_back

        made = take_back(client, uid, by=by, note=note)
    say(
        json_format.dumps(as_json(made))
        if json
        else f"{made.undoes} is undone, by {made.by}; undo {made.uid}"
    )


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new one; it appears when all is written.")
    ],
    *,
    tiled: Tiled,
    run: Runs = None,
    others: Annotated[
        str,
        option(
            "unknown|model",
            "What is said of labels that nobody spoke of: nothing, or what the model said that was corrected, its "
            "doubtful ones left out.",
        ),
    ] = "unknown",
    mask: Annotated[
        list[str] | None,
        option(
            "FILE",
            "Mask of the frames of its shape, 1 (or any other number) = masked; catalogs do not keep masks. Again "
            "for further ones.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the frames that people spoke of, with their labels, into a folder, to adapt a model or to measure one.

    FOLDER/labels.csv is the table that `dvfb adapt` takes, FOLDER itself what `dvfb evaluate --real` takes. The
    pixels are read through the catalog's server. A frame that cannot be read costs a line on stderr.

    dvfb corrections export labelled --tiled http://localhost:8000/api/v1/metadata/raw

    dvfb adapt labelled/labels.csv
    """
    try_few_times(3)
    from dvfb_stream.catalog.corrections.export import Others, export_labels
    from dvfb_stream.files import read_mask

    chosen = Others(choose(others, list(Others), "--others"))
    masks = [read_mask(one) for one in mask or ()]
    with opened(tiled) as client, TaskProgress() as progress:
        made = export_labels(
            client,
            folder,
            raw_uids=_raw_uids(client, run),
            others=chosen,
            masks=masks,
            on_progress=progress.show,
        )
    for origin, reason in made.left_out:
        report_error(
            f"frame {origin.index} of {origin.stream}/{origin.data_key} of run {origin.run_uid}: {reason}"
        )
    result = {"folder": str(folder), "frames": made.frames, "table_frames": made.table_frames}
    if json:
        say(json_format.dumps(result | {"left_out": len(made.left_out)}))
    else:
        say(f"wrote {made.frames} frames to {folder}, {made.table_frames} of them in labels.csv")
    if made.left_out:
        raise typer.Exit(1)


COMMANDS: Mapping[str, Callable[..., None]] = {
    "list": list_corrections,
    "load": load,
    "undo": undo,
    "export": export,
}


def _raw_uids(client: Any, runs: list[str] | None) -> list[str] | None:
    from dvfb_stream.catalog.raw_runs import raw_uid_of

    return [raw_uid_of(client, one) for one in runs] if runs else None


def _row(one: Correction | Undo) -> tuple[str, ...]:
    head = (one.uid[:SHORT], when(one.time), one.by)
    tail = (one.undone_by[:SHORT], one.note)
    # An undo names what it undoes, and has no frame.
    origin = getattr(one, "origin", None)
    if origin is None:
        runs = list(one.raw_uids)  # type: ignore[union-attr]
        run = runs[0][:SHORT] if len(runs) == 1 else f"{len(runs)} runs"
        return (*head, run, "", "", f"undo of {one.undoes[:SHORT]}", *tail)  # type: ignore[union-attr]
    return (
        *head,
        origin.run_uid[:SHORT],
        str(origin.index),
        f"{origin.stream}/{origin.data_key}",
        words_of(one),  # type: ignore[arg-type]
        *tail,
    )


def _tell_lines(table: Path, error: CorrectionsRefusedError) -> None:
    for line, reason in error.problems[:_MOST_LINES]:
        report_error(f"{table} line {line}: {reason}")
    if (more := len(error.problems) - _MOST_LINES) > 0:
        report_error(f"{table}: and {more} lines more")
