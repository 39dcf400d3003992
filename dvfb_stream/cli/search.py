"""``dvfb search``: raw runs by what their frames show."""

from __future__ import annotations

import json as json_format
import os
from typing import Annotated

import typer

from dvfb_stream.cli.opened_catalog import opened_catalog
from dvfb_stream.cli.options import choose, flag, option
from dvfb_stream.cli.terminal import quiet_libraries, say
from dvfb_stream.errors import DvfbError
from dvfb_stream.labels import ALL_LABELS


def search(
    catalog: Annotated[
        str,
        typer.Argument(
            help="Where the analysis runs are: a Tiled container, for example "
            "http://localhost:8000/api/v1/metadata/raw, or a folder that the demo or the profile has filled.",
        ),
    ],
    label: Annotated[str, typer.Argument(help=f"One of {', '.join(ALL_LABELS)}; also written four-fold.")],
    *,
    min_frames: Annotated[
        int,
        option("N", "Least number of frames of a run on which the label was accepted.", min=1, max=10**9),
    ] = 1,
    doubtful: Annotated[
        bool, flag("Runs with frames on which the label is neither accepted nor rejected: those to look at.")
    ] = False,
    json: Annotated[bool, flag("Print one JSON object: label, min_frames, doubtful, runs.")] = False,
) -> None:
    """Print the uids of the raw runs in which LABEL was accepted on enough frames, one a line.

    The Tiled API key is taken from the environment variable TILED_API_KEY, where the server asks for one. No run
    found is no error.

    dvfb search http://localhost:8000/api/v1/metadata/raw four_fold --min-frames 3

    dvfb search demo-output/catalog four_fold

    dvfb search demo-output/catalog two_fold --doubtful
    """
    wanted = choose(label.replace("-", "_").lower(), ALL_LABELS, "label")
    with quiet_libraries():
        runs = _find(catalog, wanted, min_frames, doubtful=doubtful)
    if json:
        say(
            json_format.dumps({"label": wanted, "min_frames": min_frames, "doubtful": doubtful, "runs": runs})
        )
    else:
        for uid in runs:
            say(uid)


def _find(catalog: str, label: str, min_frames: int, *, doubtful: bool) -> list[str]:
    # Tiled's client would try ten times, for half a minute, before it says that nobody answers; read at its import.
    os.environ.setdefault("TILED_RETRY_ATTEMPTS", "1")
    from dvfb_stream.catalog import find_doubtful_runs, find_runs

    find = find_doubtful_runs if doubtful else find_runs
    with opened_catalog(catalog, "; the order is `dvfb search CATALOG LABEL`") as client:
        try:
            return find(client, label, min_frames)
        except DvfbError:
            raise
        except Exception as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise DvfbError(
                f"the catalog {catalog} cannot be searched ({reason}); is it the address of a container?"
            ) from error
