"""Gives the catalog of a folder to read, whoever owns it: a copy of it is served, and nothing is written there."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tiled.queries import KeyPresent

from dvfb_stream.catalog import embedded_server
from dvfb_stream.catalog.cache_folder import remember_served_folder
from dvfb_stream.errors import SettingsError
from dvfb_stream.profiles.catalogs import RAW

_CATALOG = "catalog.db"
_TABLES = "storage.duckdb"
_LOCK = ".lock"
_CURE = (
    "give the address of a Tiled container (http://...), or a folder that the demo or the profile has filled"
)


@contextmanager
def folder_to_read(folder: Path) -> Iterator[Any]:
    """Serve a copy of the catalog in a folder while the context lasts, and give a client of its raw runs.

    The folder may be read-only, and may have been moved. Tiled's server would make a catalog of any folder, and
    write to its databases when it opens them.

    Raises
    ------
    SettingsError
        When it is no catalog, or another process serves it.
    """
    check_catalog(folder)
    with _not_served(folder), tempfile.TemporaryDirectory(prefix="dvfb-search-") as name:
        copy = Path(name).resolve()
        _copy(folder.resolve(), copy)
        with embedded_server(copy, readable=[folder.resolve() / "data"]) as root:
            remember_served_folder(root, folder)
            holds_runs = len(root.search(KeyPresent("start")).keys().head(1)) > 0
            yield root if holds_runs or RAW not in root else root[RAW]


def check_catalog(folder: Path) -> None:
    """Refuse a folder that holds no catalog of Tiled.

    Raises
    ------
    SettingsError
        When it does not, or is not there.
    """
    if not folder.is_dir():
        raise SettingsError(f"{str(folder)!r} is no catalog: neither an address nor a folder; {_CURE}")
    path = folder / _CATALOG
    if not path.is_file():
        raise SettingsError(f"{str(folder)!r} is no catalog: there is no {_CATALOG} in it; {_CURE}")
    try:
        # `immutable`: not even a journal is looked for, which could not be made in a read-only folder.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as database:
            database.execute("SELECT id FROM nodes LIMIT 1").fetchall()
    except sqlite3.Error as error:
        raise SettingsError(
            f"{str(folder)!r} is no catalog: {_CATALOG} is not Tiled's ({error}); {_CURE}"
        ) from error


@contextmanager
def _not_served(folder: Path) -> Iterator[None]:
    """Keep other processes from serving it meanwhile; where nobody ever did, there is no lock."""
    try:
        lock = (folder / _LOCK).open("rb")
    except OSError:
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"the catalog {folder} is served by another process; end that one, or search at its address"
            ) from None
        yield


def _copy(folder: Path, copy: Path) -> None:
    try:
        for name in (_CATALOG, _TABLES):
            for file in folder.glob(f"{name}*"):
                if not file.name.endswith("-shm"):
                    shutil.copyfile(file, copy / file.name)
    except OSError as error:
        raise SettingsError(f"the catalog {folder} cannot be read: {error.strerror or error}") from error
    with closing(sqlite3.connect(copy / _CATALOG)) as database, database:
        # Tables lie where the server keeps its own; images stay where they are.
        database.execute(
            "UPDATE assets SET data_uri = ? WHERE data_uri LIKE 'duckdb:%'",
            (f"duckdb://localhost/{copy / _TABLES}",),
        )
