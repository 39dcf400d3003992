"""What the commands about corrections have in common: which catalog, by whom, and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from dvfb_stream.cli.opened_catalog import opened_catalog, try_few_times
from dvfb_stream.cli.options import option
from dvfb_stream.cli.terminal import quiet_libraries

Tiled = Annotated[
    str,
    option(
        "URI",
        "The container of the raw runs, for example http://localhost:8000/api/v1/metadata/raw, or a folder that the "
        "demo or the profile has filled.",
        "--tiled",
    ),
]
By = Annotated[
    str | None,
    option(
        "NAME", "Who says so; without it, the name you are logged in by: say it where many share a login."
    ),
]
Note = Annotated[str, option("TEXT", "Why.")]


@contextmanager
def opened(catalog: str) -> Iterator[Any]:
    """Give a client of the catalog.

    Raises
    ------
    WrongCallError
        When a key is in its address.
    DvfbError
        When it cannot be opened.
    """
    try_few_times(3)
    with quiet_libraries(), opened_catalog(catalog) as client:
        yield client
