"""The three forms in which rows are written: a table for people, JSON lines and CSV for machines."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from typing import IO, Any, Protocol

from dvfb_stream.annotations import Annotation
from dvfb_stream.cli.annotate.frames import AnnotatedFrame
from dvfb_stream.cli.terminal import print_lines, print_table
from dvfb_stream.labels import TITLES
from dvfb_stream.rows import COLUMNS, centre_columns, plain


class RowWriter(Protocol):
    """Writes rows as they come."""

    def write(self, row: AnnotatedFrame) -> None:
        """Write one row, or keep it until its file is complete."""
        ...

    def finish(self) -> None:
        """Write what is kept."""
        ...


def row_writer(form: str, stream: IO[str]) -> RowWriter:
    """Return the writer of ``table``, ``json`` or ``csv`` to an open text stream."""
    writers: dict[str, type[RowWriter]] = {"table": _Tables, "json": _JsonLines, "csv": _Csv}
    return writers[form](stream)  # type: ignore[call-arg]


def _flat(row: AnnotatedFrame) -> dict[str, Any]:
    """Return what `dvfb_stream.rows` says of a row, None where a number is not known."""
    geometry = None if row.frame is None else row.frame.geometry
    return plain(row.annotation.as_row(file=row.file, frame=row.index, **centre_columns(geometry)))


class _JsonLines:
    """One JSON object a line."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, row: AnnotatedFrame) -> None:
        self._stream.write(json.dumps(_flat(row), allow_nan=False) + "\n")
        self._stream.flush()

    def finish(self) -> None:
        pass


class _Csv:
    """A header and one line a row; what is not known is an empty cell."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._writer = csv.DictWriter(stream, [column.name for column in COLUMNS], lineterminator="\n")
        self._writer.writeheader()

    def write(self, row: AnnotatedFrame) -> None:
        self._writer.writerow(_flat(row))
        self._stream.flush()

    def finish(self) -> None:
        pass


class _Tables:
    """A table a file: the labels of its only frame, or a line a frame."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._rows: list[tuple[int, Annotation]] = []
        self._position = -1
        self._file = ""

    def write(self, row: AnnotatedFrame) -> None:
        if row.position != self._position:
            self.finish()
            self._position, self._file = row.position, row.file
        self._rows.append((row.index, row.annotation))
        if row.index == row.count - 1:
            self.finish()

    def finish(self) -> None:
        if not self._rows:
            return
        if len(self._rows) == 1:
            self._print_frame(*self._rows[0])
        else:
            self._print_stack()
        self._rows.clear()

    def _print_frame(self, index: int, annotation: Annotation) -> None:
        self._print(self._file + (f" frame {index}" if index else ""), style="bold")
        if not annotation.ok:
            self._print(f"failed: {annotation.reason}\n", style="red")
            return
        rows, styles = [], []
        for label, score in annotation.scores.items():
            accepted = label in annotation.labels
            mark = ACCEPTED if accepted else DOUBTFUL if label in annotation.doubtful else ""
            rows.append((TITLES[label], "━" * round(score * BAR), f"{score:.3f}", mark))
            styles.append("bold" if accepted else "dim")
        print_table(("label", "", "probability", "accepted"), rows, styles=styles, stream=self._stream)
        self._print(f"{trust(annotation)}\n", style="dim")

    def _print_stack(self) -> None:
        rows, styles = [], []
        for index, annotation in self._rows:
            said = _listed(annotation, annotation.labels) or "none"
            cells = {
                "frame": str(index),
                ACCEPTED_COLUMN: said if annotation.ok else f"failed: {annotation.reason}",
            }
            if annotation.ok:
                cells |= {
                    "doubtful": _listed(annotation, annotation.doubtful, mark=DOUBTFUL),
                    "order": _order(annotation),
                    "fit residual": f"{annotation.fit_residual:.3f}",
                    "novelty": f"{annotation.novelty:.2f}",
                }
            rows.append(cells)
            styles.append("" if annotation.ok else "red")
        # Of a model that doubts and measures nothing, there is nothing to show.
        columns = [name for name in STACK if name not in SELDOM or any(row.get(name) for row in rows)]
        self._print(f"{self._file}, {len(rows)} frames", style="bold")
        print_table(
            columns,
            [[row.get(name, "") for name in columns] for row in rows],
            styles=styles,
            breakable=(ACCEPTED_COLUMN, "doubtful"),
            dim=("doubtful",),
            stream=self._stream,
        )
        self._print(f"model {self._rows[0][1].model}\n", style="dim")

    def _print(self, line: str, style: str) -> None:
        print_lines(line, style=style, stream=self._stream)


BAR = 12
"""Characters of a probability of 1."""
ACCEPTED, DOUBTFUL = "●", "?"
ACCEPTED_COLUMN = "accepted labels and their probabilities"
STACK = ("frame", ACCEPTED_COLUMN, "doubtful", "order", "fit residual", "novelty")
SELDOM = ("doubtful", "order")
"""Columns that are left out where they are empty."""


def trust(annotation: Annotation) -> str:
    """Return a line that says how far to trust an annotation, what was measured, and which model it is of."""
    figures = [f"fit residual {annotation.fit_residual:.3f}", f"novelty {annotation.novelty:.2f}"]
    if annotation.measured_order:
        figures.append(
            f"measured order {annotation.measured_order}, contrast {annotation.measured_contrast:.2f}"
        )
    elif not math.isnan(annotation.measured_contrast):
        figures.append("no order measured")
    return " · ".join([*figures, f"model {annotation.model}"])


def _listed(annotation: Annotation, labels: Sequence[str], *, mark: str = "") -> str:
    return ", ".join(f"{TITLES[label]} {annotation.scores[label]:.2f}{mark}" for label in labels)


def _order(annotation: Annotation) -> str:
    order = annotation.measured_order
    return f"{order} ({annotation.measured_contrast:.2f})" if order else ""
