"""Opens the catalog that a command was given: on a server elsewhere, or a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvfb_stream.cli.terminal import WrongCallError

_ATTEMPTS = "TILED_RETRY_ATTEMPTS"


def try_few_times(attempts: int) -> None:
    """Have Tiled's client say sooner than after ten attempts, half a minute, that nobody answers.

    It reads the number when it is imported: call this before. Who asks waits for one attempt; who has something to
    store, for three. What the user's environment says goes first.
    """
    os.environ.setdefault(_ATTEMPTS, str(attempts))


@contextmanager
def opened_catalog(catalog: str, *, read_only: bool = False) -> Iterator[Any]:
    """Give a client of a server elsewhere, or of a folder served meanwhile.

    Parameters
    ----------
    catalog
        Address of a container, or a folder that the demo or the profile has filled.
    read_only
        Nothing is written into a folder, which may be read-only: a copy of its catalog is served.

    Raises
    ------
    WrongCallError
        When a key is in its address.
    DvfbError
        When it is neither, or cannot be opened.
    """
    if "api_key=" in catalog:
        raise WrongCallError(
            "others can read a command line: put the key into TILED_API_KEY, not into --tiled"
        )
    if "://" in catalog:
        from dvfb_stream.catalog import connect

        # It reads TILED_API_KEY itself; a key never stands in the command line, where others can see it.
        client = connect(catalog)
        try:
            yield client
        finally:
            client.context.close()
    else:
        from dvfb_stream.profiles.catalogs import served_folder
        from dvfb_stream.profiles.folder_to_read import check_catalog, folder_to_read

        # Of any other folder, or of a name with a slip in it, Tiled's server would make a catalog.
        check_catalog(Path(catalog))
        with folder_to_read(Path(catalog)) if read_only else served_folder(Path(catalog)) as client:
            yield client
