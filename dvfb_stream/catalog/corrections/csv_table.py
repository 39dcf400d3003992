"""``CORRECTIONS.csv``: many corrections, a frame a line, as a scientist writes them down."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from dvfb_stream.catalog.corrections.wanted import CorrectionsRefusedError, WantedCorrection
from dvfb_stream.errors import SettingsError

RUN, FRAME, ADD, REMOVE = "run", "frame", "add", "remove"
COLUMNS = (RUN, FRAME, ADD, REMOVE, "note", "stream", "data_key", "model")
"""Those that a table may have; the first two and one of the next two it must have."""

_BETWEEN_LABELS = re.compile(r"[\s,;|+]+")
_DIGITS = re.compile(r"[0-9]{1,19}")


def read_corrections_table(path: Path) -> list[WantedCorrection]:
    """Return the corrections in a CSV file.

    Columns: `run`, as `raw_uid_of` takes it; `frame`, counted from 0; `add` and `remove`, labels with spaces between
    them; and where need be `note`, `stream`, `data_key` and `model`. Separated by commas or, where the first line has
    none, by semicolons.

    Raises
    ------
    CorrectionsRefusedError
        When lines are wrong: all of them.
    SettingsError
        When it cannot be read, has other columns, or no line.
    """
    lines = _lines(path)
    columns = _columns(path, lines[0][1])
    wanted, problems = list[WantedCorrection](), list[tuple[int | None, str]]()
    for line, cells in lines[1:]:
        try:
            wanted.append(_wanted(line, columns, cells))
        except ValueError as error:
            problems.append((line, str(error)))
    if problems:
        raise CorrectionsRefusedError(problems)
    if not wanted:
        raise SettingsError(f"{path} names no frames; under the column names each line is one")
    return wanted


def labels_in(text: str) -> list[str]:
    """Return labels written one after the other, with spaces, commas, semicolons, | or + between; also four-fold."""
    return [label.lower().replace("-", "_") for label in _BETWEEN_LABELS.split(text) if label]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            separator = ";" if ";" in header and "," not in header else ","
            reader = csv.reader(stream, delimiter=separator, strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{path} cannot be read as a table of corrections: {reason}") from error
    lines = [(line, row) for line, row in lines if any(row)]
    if not lines:
        raise SettingsError(f"{path} is empty; it needs a line of column names: {', '.join(COLUMNS[:4])}")
    return lines


def _columns(path: Path, names: Sequence[str]) -> list[str]:
    columns = [name.lower() for name in names]
    for name in columns:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SettingsError(f"{path} has a column {name!r}; {hint}the columns are {', '.join(COLUMNS)}")
        if columns.count(name) > 1:
            raise SettingsError(f"{path} has the column {name} {columns.count(name)} times; keep one")
    for name in (RUN, FRAME):
        if name not in columns:
            raise SettingsError(f"{path} has no column {name!r}; it has {', '.join(columns)}")
    if not {ADD, REMOVE} & set(columns):
        raise SettingsError(f"{path} has neither a column 'add' nor 'remove'; it has {', '.join(columns)}")
    return columns


def _wanted(line: int, columns: Sequence[str], cells: Sequence[str]) -> WantedCorrection:
    if len(cells) != len(columns):
        raise ValueError(f"has {len(cells)} cells, but there are {len(columns)} columns")
    of_column = dict(zip(columns, cells, strict=True))
    if not of_column[RUN]:
        raise ValueError("the run is missing")
    if not _DIGITS.fullmatch(of_column[FRAME]):
        raise ValueError(f"frame is {of_column[FRAME]!r}; frames are counted 0, 1, 2, ...")
    return WantedCorrection(
        run=of_column[RUN],
        frame=int(of_column[FRAME]),
        add=labels_in(of_column.get(ADD, "")),
        remove=labels_in(of_column.get(REMOVE, "")),
        note=of_column.get("note", ""),
        stream=of_column.get("stream") or None,
        data_key=of_column.get("data_key") or None,
        model=of_column.get("model") or None,
        line=line,
    )
