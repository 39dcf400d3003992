"""What a user sees on stderr: one line for an error or a note, and a progress bar that makes way for both."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

FEWEST_FRAMES = 5
"""A progress bar for fewer would be gone before it is read."""


class WrongCallError(typer.BadParameter):
    """Options that do not go together; told in its own words alone, exit status 2."""

    def format_message(self) -> str:
        """Return the message without click's preamble."""
        return self.message


def say(text: str) -> None:
    """Write a line of what was asked for on stdout; unlike typer's, in the encoding that stdout has."""
    sys.stdout.write(text + "\n")


def print_lines(*lines: str, style: str = "", stream: IO[str] | None = None) -> None:
    """Write lines as they are, however long, where `stream` is a terminal in a style of rich."""
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    for line in lines:
        console.print(line, style=style, markup=False, soft_wrap=True)


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    styles: Sequence[str] = (),
    breakable: Sequence[str] = (),
    dim: Sequence[str] = (),
    stream: IO[str] | None = None,
) -> None:
    """Write a table, or where a terminal is too narrow for it a block of lines a row: no number is ever cut.

    Parameters
    ----------
    columns
        Their titles. Those of numbers are put to the right.
    rows
        Cells; each row is as long as `columns`.
    title
        Stands above.
    styles
        Of rich, one a row; none for all rows plain.
    breakable
        Columns of words that may go on in further lines.
    dim
        Columns that stand back.
    stream
        None: stdout.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    # A file or a pipe is as wide as need be.
    width = console.width if console.is_terminal or "COLUMNS" in os.environ else 10_000
    heads = list(columns)
    if _least_width(heads, rows, columns, breakable) > width:
        heads = [name.replace(" ", "\n") for name in columns]
    if title:
        console.print(title, style="bold", markup=False, soft_wrap=True)
    if _least_width(heads, rows, columns, breakable) > width:
        for row in rows:
            for name, cell in zip(columns, row, strict=True):
                if cell:
                    console.print(f"{name}: {cell}" if name else cell, markup=False, soft_wrap=True)
            console.print()
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for k, (name, head) in enumerate(zip(columns, heads, strict=True)):
        numbers = k > 0 and all(_NUMBER.fullmatch(row[k]) for row in rows)
        table.add_column(
            Text(head),
            justify="right" if numbers else "left",
            style="dim" if name in dim else "",
            no_wrap=name not in breakable,
            overflow="fold",
        )
    for k, row in enumerate(rows):
        table.add_row(*map(Text, row), style=styles[k] if styles else None)
    Console(file=stream, highlight=False, width=width).print(table)


def _least_width(
    heads: Sequence[str], rows: Sequence[Sequence[str]], columns: Sequence[str], breakable: Sequence[str]
) -> int:
    from rich.cells import cell_len

    width = 0
    for k, name in enumerate(columns):
        lines = [*heads[k].split("\n"), *(row[k] for row in rows)]
        longest = max(map(cell_len, lines))
        width += (min(longest, FEWEST_CHARACTERS) if name in breakable else longest) + 2
    return width


_NUMBER = re.compile(r"[+-]?[0-9.,]*( MiB| %)?|never|unknown")
FEWEST_CHARACTERS = 16
"""Of a column of words that is broken into lines; a narrower one is no more read than cut."""


def report_error(message: str) -> None:
    """Write one line on stderr that says what is wrong."""
    _line("dvfb: error: " + " ".join(message.split()))


def report_note(message: str) -> None:
    """Write one line on stderr for information."""
    _line(message)


def _line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep off stderr what fabio, pyFAI and others log or warn about; ``--verbose`` shows it."""
    root = logging.getLogger()
    silence = None if root.handlers else logging.NullHandler()
    if silence is None:
        yield
        return
    root.addHandler(silence)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeHandler(silence)


class ProgressBar:
    """Frames done of frames known so far, on stderr, where that is a terminal and the frames are not few.

    Its total grows while files are opened: how many frames a file has is not known before.

    Parameters
    ----------
    files
        How many files there are.
    doing
        What is done to the frames, in a word.
    """

    def __init__(self, files: int, doing: str) -> None:
        self._doing = doing
        self._total = files
        self._done = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def opened(self, frames: int) -> None:
        """Correct the total by a file of so many frames, or 0 for one that cannot be read."""
        self._total += frames - 1
        self._show()

    def advance(self) -> None:
        """Count a frame as done."""
        self._done += 1
        self._show()

    def out_of_the_way(self) -> AbstractContextManager[None]:
        """Take the bar off the terminal while something else is written to it."""
        return nullcontext() if self._progress is None else self._paused(self._progress)

    @contextmanager
    def _paused(self, progress: Progress) -> Iterator[None]:
        progress.stop()
        try:
            yield
        finally:
            progress.start()

    def _show(self) -> None:
        if self._progress is None and self._total >= FEWEST_FRAMES and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

            self._progress = Progress(
                *Progress.get_default_columns()[:2],
                MofNCompleteColumn(),
                "frames",
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._progress.add_task(self._doing)
            self._progress.start()
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, total=self._total)


class TaskProgress:
    """What is being done, how far it is and a note on it, on stderr where that is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True, highlight=False),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=None, note="", visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show it."""
        self._progress.update(
            self._task, description=what, completed=done, total=total, note=note, visible=True
        )

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take it off the terminal while something else is written to it."""
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()

    def say(self, line: str) -> None:
        """Write a line that stays, on a terminal or not."""
        self._progress.console.print(line, soft_wrap=True, markup=False)


class FailureReporter:
    """Counts and tells failures, with the progress bar out of the way."""

    def __init__(self, progress: ProgressBar) -> None:
        self._progress = progress
        self.failures = 0

    def opened(self, frames: int) -> None:
        """Correct the progress bar."""
        self._progress.opened(frames)

    def failed(self, message: str) -> None:
        """Write the line and count it."""
        self.failures += 1
        with self._progress.out_of_the_way():
            report_error(message)

    def noted(self, message: str) -> None:
        """Write a line for information."""
        with self._progress.out_of_the_way():
            report_note(message)
