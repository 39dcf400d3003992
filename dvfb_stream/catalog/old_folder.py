"""Puts a folder in order that an earlier version has filled: runs lie in its root, which has no place beside it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dvfb_stream.errors import SettingsError

_DATABASE = "catalog.db"
_SAVED = "catalog-before-move.db"
"""Behind it the next number, where an earlier move has left one."""
_ROOT = 0
"""Tiled's id of the root of a catalog."""

_RUNS_IN_ROOT = (
    f"SELECT id FROM nodes WHERE parent = {_ROOT} AND json_extract(metadata, '$.start') IS NOT NULL"
)


def runs_in_root(folder: Path) -> int:
    """Return how many runs lie in the root of a folder's catalog; nobody may serve it meanwhile.

    Raises
    ------
    SettingsError
        When it is no catalog.
    """
    with _opened(folder) as database:
        return len(database.execute(_RUNS_IN_ROOT).fetchall())


def move_into(folder: Path, key: str) -> int:
    """Move all runs from the root of a folder's catalog into its container `key`; nobody may serve it meanwhile.

    Only where they lie is written anew, in Tiled's SQLite catalog and in one transaction; data, documents and the
    order in which they came stay. A copy of the catalog as it was stays beside it.

    Parameters
    ----------
    folder
        Of an embedded server.
    key
        Of a container in the root, which is there.

    Returns
    -------
    int
        Runs moved.

    Raises
    ------
    SettingsError
        When it is no catalog, or there is no such container.
    """
    with _opened(folder) as database:
        runs = [row[0] for row in database.execute(_RUNS_IN_ROOT)]
        container = database.execute(
            "SELECT id FROM nodes WHERE parent = ? AND key = ?", (_ROOT, key)
        ).fetchone()
        if container is None:
            raise SettingsError(f"there is no container {key!r} in {folder / _DATABASE}")
        with closing(sqlite3.connect(_free_name(folder))) as saved:
            database.backup(saved)
        with database:
            for run in runs:
                database.execute("UPDATE nodes SET parent = ? WHERE id = ?", (container[0], run))
                # Tiled keeps all pairs of ancestor and descendant with their distance: all below a run are one
                # further from the root, and have one ancestor more.
                database.execute(
                    "UPDATE nodes_closure SET depth = depth + 1 WHERE ancestor = ? AND descendant IN "
                    "(SELECT descendant FROM nodes_closure WHERE ancestor = ?)",
                    (_ROOT, run),
                )
                database.execute(
                    "INSERT INTO nodes_closure (ancestor, descendant, depth) "
                    "SELECT ?, descendant, depth + 1 FROM nodes_closure WHERE ancestor = ?",
                    (container[0], run),
                )
    return len(runs)


def _free_name(folder: Path) -> Path:
    path, number = folder / _SAVED, 1
    while path.exists():
        number += 1
        path = folder / f"{Path(_SAVED).stem}-{number}.db"
    return path


@contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / _DATABASE
    if not path.is_file():
        raise SettingsError(
            f"there is no catalog {path}; give a folder that the demo or the profile has filled"
        )
    try:
        with closing(sqlite3.connect(path)) as database:
            yield database
    except sqlite3.Error as error:
        raise SettingsError(
            f"{path} cannot be read or written as Tiled's catalog ({error}); give a folder that the demo or the "
            "profile has filled"
        ) from error
