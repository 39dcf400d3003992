"""``dvfb correct``: says which labels a frame has, whatever a model says."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer

from dvfb_stream.cli.correct.shown import as_json, described
from dvfb_stream.cli.correct.where import By, Note, Tiled, opened
from dvfb_stream.cli.options import Json, option
from dvfb_stream.cli.terminal import WrongCallError, say

Labels = list[str] | None


def correct(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="The raw run: its uid or 5 characters of its beginning, its scan number, or -1 for the last one.",
        ),
    ],
    frame: Annotated[
        int, typer.Argument(metavar="FRAME", help="Index of the frame in its data key, from 0.", min=0)
    ],
    *,
    tiled: Tiled,
    add: Annotated[
        Labels, option("LABEL", "The frame has it; give it again for more, or write four-fold,halo.")
    ] = None,
    remove: Annotated[Labels, option("LABEL", "The frame has it not; as --add.")] = None,
    by: By = None,
    note: Note = "",
    data_key: Annotated[str | None, option("KEY", "The detector, where the run has several.")] = None,
    stream: Annotated[str | None, option("NAME", "Its stream, where the run has several.")] = None,
    model: Annotated[
        str | None,
        option(
            "MODEL",
            "Whose row you looked at: a model's name, name@version, or the beginning of its hash; without it, "
            "that of the newest analysis.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say which labels frame FRAME of RUN has, and which it has not, whatever a model says.

    It is stored beside the annotations, which stay as they are, and counts from then on, for newer models too. `dvfb
    corrections undo` takes it back, `dvfb corrections load` says many at once from a table. The Tiled API key is
    taken from the environment variable TILED_API_KEY.

    dvfb correct --tiled http://localhost:8000/api/v1/metadata/raw 1207 3 --add four_fold --remove halo

    dvfb correct --tiled demo-output/catalog -1 0 --add rings
    """
    if not add and not remove:
        raise WrongCallError("which labels? Give --add LABEL, --remove LABEL, or both")
    with opened(tiled) as client:
        from dvfb_stream.catalog.corrections import correct as say_of_frame
        from dvfb_stream.catalog.corrections.csv_table import labels_in

        made = say_of_frame(
            client,
            run,
            frame,
            add=labels_in(" ".join(add or ())),
            remove=labels_in(" ".join(remove or ())),
            by=by,
            note=note,
            stream=stream,
            data_key=data_key,
            model=model,
        )
        say(json_format.dumps(as_json(made)) if json else described(made))
