"""Opens the catalog that a command was given: on a server elsewhere, or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvfb_stream.errors import DvfbError


@contextmanager
def opened_catalog(catalog: str, hint: str = "") -> Iterator[Any]:
    """Give a client of a server elsewhere, or of a folder served meanwhile.

    Parameters
    ----------
    catalog
        Address of a container, or a folder that the demo or the profile has filled.
    hint
        Ends the sentence that says that it is neither.

    Raises
    ------
    DvfbError
        When it is neither, or cannot be opened.
    """
    if "://" in catalog:
        from dvfb_stream.catalog import connect

        # It reads TILED_API_KEY itself; a key never stands in the command line, where others can see it.
        client = connect(catalog)
        try:
            yield client
        finally:
            client.context.close()
    elif Path(catalog).is_dir():
        from dvfb_stream.profiles.catalogs import served_folder

        with served_folder(Path(catalog)) as client:
            yield client
    else:
        raise DvfbError(f"no catalog {catalog!r}: it is neither an address (http://...) nor a folder{hint}")
