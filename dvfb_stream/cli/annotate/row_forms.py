"""The three forms in which rows are written: a table for people, JSON lines and CSV for machines."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Protocol

from dvfb_stream.annotations import Annotation
from dvfb_stream.cli.annotate.frames import AnnotatedFrame
from dvfb_stream.cli.output_files import refuse_inputs
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import TITLES
from dvfb_stream.rows import COLUMNS, plain


class Form(StrEnum):
    """How rows are written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class RowWriter(Protocol):
    """Writes rows as they come."""

    def write(self, row: AnnotatedFrame) -> None:
        """Write one row, or keep it until its file is complete."""
        ...

    def finish(self) -> None:
        """Write what is kept."""
        ...


def row_writer(form: Form, stream: IO[str]) -> RowWriter:
    """Return the writer of `form` to an open text stream."""
    writers: dict[Form, type[RowWriter]] = {Form.TABLE: _Tables, Form.JSON: _JsonLines, Form.CSV: _Csv}
    return writers[form](stream)  # type: ignore[call-arg]


def _flat(row: AnnotatedFrame) -> dict[str, Any]:
    """Return what `dvfb_stream.rows` says of a row, None where a number is not known."""
    geometry = None if row.frame is None else row.frame.geometry
    center = {} if geometry is None else {"center_x": geometry.center_x, "center_y": geometry.center_y}
    return plain(row.annotation.as_row(file=row.file, frame=row.index, **center))


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
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
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

    def _title(self, suffix: str = "") -> None:
        from rich.text import Text

        # Not the table's own title: that would break a long path at the table's width.
        self._console.print(Text(self._file + suffix, style="bold"), soft_wrap=True)

    def _print_frame(self, index: int, annotation: Annotation) -> None:
        from rich.table import Table

        self._title(f" frame {index}" if index else "")
        if not annotation.ok:
            self._console.print(f"failed: {annotation.reason}\n", style="red", markup=False, soft_wrap=True)
            return
        table = Table("label", "")
        table.add_column("probability", justify="right")
        table.add_column("accepted", justify="center")
        for label, score in annotation.scores.items():
            accepted = label in annotation.labels
            style = "bold" if accepted else "dim"
            table.add_row(TITLES[label], _bar(score), f"{score:.3f}", "●" if accepted else "", style=style)
        self._console.print(table)
        self._console.print(
            f"fit residual {annotation.fit_residual:.3f} · novelty {annotation.novelty:.2f} · "
            f"model {annotation.model}\n",
            style="dim",
        )

    def _print_stack(self) -> None:
        from rich.table import Table

        self._title(f", {len(self._rows)} frames")
        table = Table()
        table.add_column("frame", justify="right")
        table.add_column("accepted labels and their probabilities")
        table.add_column("fit residual", justify="right")
        table.add_column("novelty", justify="right")
        for index, annotation in self._rows:
            if not annotation.ok:
                table.add_row(str(index), f"[red]failed:[/] {_plain(annotation.reason)}", "", "")
                continue
            accepted = ", ".join(
                f"{TITLES[label]} {annotation.scores[label]:.2f}" for label in annotation.labels
            )
            table.add_row(
                str(index),
                accepted or "[dim]none[/]",
                f"{annotation.fit_residual:.3f}",
                f"{annotation.novelty:.2f}",
            )
        self._console.print(table)
        self._console.print(f"model {self._rows[0][1].model}\n", style="dim")


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _bar(score: float, width: int = 12) -> str:
    return "━" * round(score * width)


@contextmanager
def open_output(path: Path | None, inputs: Sequence[str | Path]) -> Iterator[IO[str]]:
    """Open where the rows go, stdout for None, before any work is done.

    Raises
    ------
    SettingsError
        When the file cannot be written, or is one of `inputs`, which writing would destroy.
    """
    if path is None:
        yield sys.stdout
        return
    refuse_inputs(path, inputs)
    try:
        stream = path.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise SettingsError(f"output {path} cannot be written: {error.strerror or error}") from error
    with stream:
        yield stream
