"""``dvfb similar``: frames that look like one."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.opened_catalog import opened_catalog, try_few_times
from dvfb_stream.cli.options import Json, flag, option
from dvfb_stream.cli.terminal import TaskProgress, print_table, quiet_libraries, report_note, say

if TYPE_CHECKING:
    from dvfb_stream.catalog.similar_frames import SimilarFrame


def similar(
    run: Annotated[
        str,
        typer.Argument(
            help="Raw run: its uid or 5 characters of it or more, its scan number, -1 for the last."
        ),
    ],
    frame: Annotated[
        int, typer.Argument(metavar="FRAME", help="Index of the frame in its run, from 0.", min=0)
    ],
    *,
    tiled: Annotated[
        str,
        option(
            "URI|FOLDER",
            "The catalog: a Tiled container, for example http://localhost:8000/api/v1/metadata/raw, or a folder that "
            "the demo or the profile has filled.",
            "--tiled",
        ),
    ],
    number: Annotated[int, option("N", "How many frames.", "--number", "-n", min=1, max=10_000)] = 10,
    stream: Annotated[str | None, option("NAME", "Stream of the frame, where a run has several.")] = None,
    data_key: Annotated[str | None, option("NAME", "Detector of the frame, where a run has several.")] = None,
    model: Annotated[
        str | None,
        option(
            "MODEL", "Whose features are compared: a name or the beginning of a hash.  [default: the newest]"
        ),
    ] = None,
    other_runs: Annotated[bool, flag("Leave out frames of the same run.", "--other-runs")] = False,
    json: Json = False,
) -> None:
    """Print the frames that look most like FRAME of RUN, the most similar first.

    Compared are the features that the model made of each frame. They are stored on request: `dvfb annotate --tiled
    URI --arrays features`. An index of them is kept in this user's cache folder (DVFB_CACHE), and what is new in the
    catalog is added to it first.

    dvfb similar --tiled http://localhost:8000/api/v1/metadata/raw 3f2a9c1e 17

    dvfb similar --tiled demo-output/catalog -1 0 -n 5 --other-runs
    """
    try_few_times(1)
    from dvfb_stream.catalog.similar_frames import similar as find_similar

    with quiet_libraries(), opened_catalog(tiled, read_only=True) as client, TaskProgress() as progress:
        found = find_similar(
            client,
            run,
            frame,
            number,
            stream=stream,
            data_key=data_key,
            model=model,
            other_runs_only=other_runs,
            progress=progress.show,
        )
    if json:
        for one in found:
            say(json_format.dumps(asdict(one)))
    elif found:
        print_table(
            ["raw run", "frame", "cosine", "detector", "scan", "sample"], [_row(one) for one in found]
        )
    else:
        report_note("no other frame has features of the same model")


def _row(found: SimilarFrame) -> list[str]:
    return [
        found.raw_uid,
        str(found.frame),
        f"{found.cosine:.4f}",
        found.data_key if found.stream == "primary" else f"{found.stream}/{found.data_key}",
        "" if found.scan_id is None else str(found.scan_id),
        found.sample_name or "",
    ]
