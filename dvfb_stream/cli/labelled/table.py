"""``LABELS.csv``: which frames have which labels, as a scientist writes it down, checked line by line."""

from __future__ import annotations

import csv
import difflib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dvfb_stream.errors import SettingsError
from dvfb_stream.files.reading import DATASET_SEPARATOR
from dvfb_stream.labels import IMPLICATIONS, LABELS, TITLES

FILE, INDEX, CENTER_X, CENTER_Y = "file", "index", "center_x", "center_y"
PLACE_COLUMNS = (FILE, INDEX, CENTER_X, CENTER_Y)
VALUES = {"1": 1, "0": 0}


@dataclass(slots=True, kw_only=True)
class LabelledFrame:
    """One frame and what is known of it."""

    line: int
    """Of the table, where it is first named."""
    file: str
    """As `open_frames` takes it, with the table's folder in front."""
    index: int | None
    """Of the frame in its file, from 0; None: the only one."""
    center: tuple[float, float] | None
    """Direct beam (x, y) in pixels, where the table says."""
    labels: dict[str, int]
    """1 has the label, 0 has not; a label that is not known is not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """A table that has been read."""

    path: Path
    labels: tuple[str, ...]
    """Labels with a column, in the order of `LABELS`."""
    frames: tuple[LabelledFrame, ...]
    """Each frame once."""
    repeated: int
    """Lines that name a frame again and agree with what was said before."""


def read_label_table(path: Path) -> LabelTable:
    """Return the table in a CSV file.

    Columns: `file`, relative to the table, ``file.h5::/path`` for HDF5; `index` of the frame where a file has
    several; `center_x` and `center_y` where the beam centre is not the same for all; and any of the ten labels, with
    1 (has it), 0 (has it not) or nothing (not known). Separated by commas or, without any comma, semicolons. A frame
    named twice must be said to be the same.

    Raises
    ------
    SettingsError
        When the table cannot be read, or says something wrong: the first such line, and how many there are.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            separator = ";" if ";" in header and "," not in header else ","
            reader = csv.reader(stream, delimiter=separator, strict=True)
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{path} cannot be read as a table of labels: {reason}") from error
    lines = [(line, [cell.strip() for cell in row]) for line, row in lines if any(map(str.strip, row))]
    if not lines:
        raise SettingsError(f"{path} is empty; it needs a line of column names: file, {LABELS[0]}, ...")
    columns = _columns(path, lines[0][1])
    reading = _Reading(path.parent, columns)
    for line, row in lines[1:]:
        reading.take(line, row)
    if reading.problems:
        more = len(reading.problems) - 1
        further = f" (and {more} further lines are wrong)" if more > 1 else " (and 1 further)" if more else ""
        raise SettingsError(f"{path} {reading.problems[0]}{further}")
    if not reading.frames:
        raise SettingsError(f"{path} names no frames; under the column names each line is one")
    return LabelTable(
        path=path,
        labels=tuple(label for label in LABELS if label in columns),
        frames=tuple(reading.frames.values()),
        repeated=reading.repeated,
    )


def _columns(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the column names, checked."""
    for name in names:
        if name not in (*PLACE_COLUMNS, *LABELS):
            raise SettingsError(f"{path} has a column {name!r}, which is no label; {_cure(name)}")
        if names.count(name) > 1:
            raise SettingsError(f"{path} has the column {name} {names.count(name)} times; keep one")
    if FILE not in names:
        raise SettingsError(f"{path} has no column 'file' with the frames' files; it has {', '.join(names)}")
    if not any(name in LABELS for name in names):
        raise SettingsError(f"{path} has no column with a label; the labels are {', '.join(LABELS)}")
    if (CENTER_X in names) != (CENTER_Y in names):
        raise SettingsError(f"{path} must have both center_x and center_y, or neither")
    return tuple(names)


def _cure(name: str) -> str:
    known = {column: column for column in (*PLACE_COLUMNS, *LABELS)}
    known |= {TITLES[label].lower(): label for label in LABELS}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    if near:
        return f"did you mean {known[near[0]]}?"
    return f"the labels are fixed, no others can be learnt: {', '.join(LABELS)}"


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    folder: Path
    columns: tuple[str, ...]
    frames: dict[tuple[str, int], LabelledFrame] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repeated: int = 0

    def take(self, line: int, row: Sequence[str]) -> None:
        """Read a line."""
        try:
            if len(row) != len(self.columns):
                raise ValueError(f"has {len(row)} cells, but there are {len(self.columns)} columns")
            self._join(self._frame(line, dict(zip(self.columns, row, strict=True))))
        except ValueError as error:
            self.problems.append(f"line {line}: {error}")

    def _frame(self, line: int, cells: dict[str, str]) -> LabelledFrame:
        if not cells[FILE]:
            raise ValueError("the file is missing")
        name, separator, dataset = cells[FILE].partition(DATASET_SEPARATOR)
        file = os.path.normpath(self.folder / name)
        if not os.path.isfile(file):
            raise ValueError(f"there is no file {file}")
        labels = {}
        for label in LABELS:
            value = cells.get(label, "")
            if value and value not in VALUES:
                raise ValueError(f"{label} is {value!r}; write 1, 0, or nothing where it is not known")
            if value:
                labels[label] = VALUES[value]
        return LabelledFrame(
            line=line,
            file=file + separator + dataset,
            index=_index(cells.get(INDEX, "")),
            center=_center(cells.get(CENTER_X, ""), cells.get(CENTER_Y, "")),
            labels=_implied(labels, self.columns),
        )

    def _join(self, frame: LabelledFrame) -> None:
        """Add a frame, or what is said about it again."""
        before = self.frames.setdefault((frame.file, frame.index or 0), frame)
        if before is frame:
            return
        where = f"the same frame as in line {before.line}"
        for label, value in frame.labels.items():
            if before.labels.get(label, value) != value:
                raise ValueError(f"{where}, but {label} is {value} here and {before.labels[label]} there")
        if None not in (before.center, frame.center) and before.center != frame.center:
            raise ValueError(f"{where}, but with another beam centre")
        before.labels = _implied(before.labels | frame.labels, self.columns)
        before.center = before.center or frame.center
        before.index = frame.index if before.index is None else before.index
        self.repeated += 1


def _index(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"index is {text!r}; frames are counted 0, 1, 2, ...")
    return int(text)


def _center(x: str, y: str) -> tuple[float, float] | None:
    if not x and not y:
        return None
    try:
        center = float(x), float(y)
    except ValueError:
        raise ValueError(f"center_x is {x!r} and center_y is {y!r}; write two numbers in pixels") from None
    if not all(map(math.isfinite, center)):
        raise ValueError(f"the beam centre must be finite, not x={x}, y={y}")
    return center


def _implied(labels: dict[str, int], columns: Sequence[str]) -> dict[str, int]:
    """Return labels with those that follow by definition, where these have a column."""
    found = dict(labels)
    for special, general in IMPLICATIONS.items():
        if found.get(special) == 1 and found.get(general) == 0:
            raise ValueError(f"{special} is 1, so that {general} cannot be 0: the first is one of the second")
        if found.get(special) == 1 and general in columns:
            found[general] = 1
        if found.get(general) == 0 and special in columns:
            found[special] = 0
    return found
