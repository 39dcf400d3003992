"""``dvfb search``: raw runs by what their frames show."""

from __future__ import annotations

import json as json_format
import os
from typing import Annotated

import typer

from dvfb_stream.cli.terminal import WrongCallError, quiet_libraries
from dvfb_stream.labels import LABELS


def search(
    catalog_uri: Annotated[
        str,
        typer.Argument(
            help="Tiled container with the analysis runs, for example http://localhost:8000/api/v1/metadata/raw.",
            show_default=False,
        ),
    ],
    label: Annotated[
        str,
        typer.Argument(help=f"One of {', '.join(LABELS)}; also written four-fold.", show_default=False),
    ],
    *,
    min_frames: Annotated[
        int, typer.Option(min=1, help="Least number of frames of a run on which the label was accepted.")
    ] = 1,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: label, min_frames, runs.")
    ] = False,
) -> None:
    """Print the uids of the raw runs in which LABEL was accepted on enough frames, one a line.

    The Tiled API key is taken from the environment variable TILED_API_KEY, where the server asks for one. No run
    found is no error.

    dvfb search http://localhost:8000/api/v1/metadata/raw four_fold --min-frames 3
    """
    wanted = label.replace("-", "_").lower()
    if wanted not in LABELS:
        raise WrongCallError(f"unknown label {label!r}; the labels are {', '.join(LABELS)}")
    with quiet_libraries():
        runs = _find(catalog_uri, wanted, min_frames)
    if json:
        typer.echo(json_format.dumps({"label": wanted, "min_frames": min_frames, "runs": runs}))
    else:
        for uid in runs:
            typer.echo(uid)


def _find(catalog_uri: str, label: str, min_frames: int) -> list[str]:
    # Tiled's client would try ten times, for half a minute, before it says that nobody answers; read at its import.
    os.environ.setdefault("TILED_RETRY_ATTEMPTS", "1")
    from tiled.client import from_uri

    from dvfb_stream.catalog import find_runs
    from dvfb_stream.errors import DvfbError

    try:
        # from_uri reads TILED_API_KEY itself; a key never stands in the command line, where others can see it.
        client = from_uri(catalog_uri)
        try:
            return find_runs(client, label, min_frames)
        finally:
            client.context.close()
    except DvfbError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DvfbError(
            f"the catalog {catalog_uri} cannot be searched ({reason}); is the server running, the address that of a "
            "container, and TILED_API_KEY set where it asks for a key?"
        ) from error
