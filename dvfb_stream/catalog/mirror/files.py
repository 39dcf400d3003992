"""The files of a mirror: tables that are never changed, and one list of them, which is replaced as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

_VERSION = 2
"""Of the layout; a mirror of another one is made anew."""
_LIST = "mirror.json"
_LOCK = "mirror.lock"
_SUFFIX = ".parquet"

Damage = (OSError, ValueError, pyarrow.ArrowException)
"""What reading a damaged mirror raises."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file with a table."""

    name: str
    rows: int
    bytes: int
    """A file of another length was cut short, by a full disk or a power failure."""


@dataclass(frozen=True, slots=True)
class RowsFile:
    """Rows of frames, and beside them which run has how many of them, in their order."""

    rows: TableFile
    runs: TableFile


@dataclass(frozen=True, slots=True)
class Contents:
    """What a mirror holds: the list of its files, and how far the catalog was read."""

    listed: int = 0
    """Nodes that the container had."""
    last: str = ""
    """Key of the last of them."""
    changes: int = 0
    """Notes of changes that were read."""
    last_change: str = ""
    runs: tuple[TableFile, ...] = ()
    """What is known of each run; a later file has the last word on its runs."""
    rows: tuple[RowsFile, ...] = ()

    def files(self) -> Iterator[TableFile]:
        """Give all files."""
        yield from self.runs
        for file in self.rows:
            yield file.rows
            yield file.runs


class MirrorFiles:
    """The files in one folder. Many processes read them at a time; one writes, who holds `writing`.

    A file that is listed is never changed. Killed at any moment, a writer leaves the list that was there or the new
    one, and files that nobody lists, which the next writer deletes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Contents:
        """Return what is there; nothing where there is no mirror, or one of another layout.

        Raises
        ------
        Damage
            When the list, or a file in it, is damaged.
        """
        path = self._folder / _LIST
        if not path.exists():
            return Contents()
        try:
            found = _contents(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name} is no list of files ({error!r})") from error
        for file in found.files():
            if (self._folder / file.name).stat().st_size != file.bytes:
                raise ValueError(f"{file.name} was cut short")
        return found

    def write(self, contents: Contents) -> Contents:
        """Put a new list in the place of the one that is there, and delete what neither lists."""
        path = self._folder / _LIST
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps({"version": _VERSION, **asdict(contents)}), encoding="utf-8")
        listed = {file.name for file in contents.files()}
        os.replace(beside, path)
        for other in self._folder.glob(f"*{_SUFFIX}"):
            if other.name not in listed:
                other.unlink(missing_ok=True)
        return contents

    def forget(self) -> None:
        """Delete the list: the mirror is made anew."""
        (self._folder / _LIST).unlink(missing_ok=True)

    def check(self) -> None:
        """Raise OSError where no files can be kept."""
        with (self._folder / _LOCK).open("a"):
            pass

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Wait until no other process writes, and keep others from it; a lock that ends with the process."""
        with (self._folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def add(self, kind: str, table: pyarrow.Table) -> TableFile:
        """Write a table to a file that is not listed yet."""
        path = self._folder / f"{kind}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
        pyarrow.parquet.write_table(
            table, path, compression="zstd", write_page_checksum=True, row_group_size=1 << 18
        )
        return TableFile(path.name, table.num_rows, path.stat().st_size)

    def open(self, file: TableFile, in_codes: Sequence[str] = ()) -> pyarrow.parquet.ParquetFile:
        """Open a file; what is read of it is checked. It can be read on after another process has deleted it.

        Parameters
        ----------
        file
            One that is listed.
        in_codes
            Columns of texts that are given as codes and a dictionary.
        """
        return pyarrow.parquet.ParquetFile(
            self._folder / file.name,
            memory_map=True,
            page_checksum_verification=True,
            read_dictionary=list(in_codes),
        )

    def table(self, file: TableFile, columns: list[str] | None = None) -> pyarrow.Table:
        """Return the table of a file."""
        return self.open(file).read(columns)


def _contents(stated: dict[str, Any]) -> Contents:
    if stated.pop("version") != _VERSION:
        return Contents()
    return Contents(
        **{
            **stated,
            "runs": tuple(TableFile(**file) for file in stated["runs"]),
            "rows": tuple(
                RowsFile(rows=TableFile(**file["rows"]), runs=TableFile(**file["runs"]))
                for file in stated["rows"]
            ),
        }
    )
