"""Files that commands write: checked before the work begins, never one of those that are read, replaced whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dvfb_stream.atomic_output import is_stream, replaced
from dvfb_stream.errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110


def check_writable(folder: Path, named: str) -> None:
    """Raise SettingsError when no file can be made in `folder`; `named` is what the message calls it."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(f"{named} cannot be written: {error.strerror or error}") from error


def figures_folder(folder: Path, *, option: str) -> Path:
    """Return a folder in which figures can be written, made where it is not there.

    Raises
    ------
    SettingsError
        When it cannot be made or written to; `option` is what the user calls it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{option} {folder} cannot be made: {error.strerror or error}; name another folder"
        ) from error
    check_writable(folder, f"{option} {folder}")
    return folder


class OutputFile:
    """A file that a command writes: what was there stays until all of the new one is written.

    Parameters
    ----------
    path
        Its name. The folder must be there.
    inputs
        Files that are read, ``file.h5::/path`` included; the output may be none of them.
    option
        What the user calls it.
    suffixes
        Endings that it may have.

    Raises
    ------
    SettingsError
        When it is one of `inputs`, a folder, or of another ending, or cannot be written.
    """

    def __init__(
        self, path: Path, inputs: Sequence[str | Path] = (), *, option: str, suffixes: Sequence[str]
    ) -> None:
        self.path = path
        self._named = f"{option} {path}"
        self._inputs = inputs
        self._refuse_inputs(path)
        if path.is_dir():
            raise SettingsError(f"{self._named} is a directory; give the name of a file")
        # /dev/stdout and pipes have no ending.
        if path.suffix.lower() not in suffixes and not is_stream(path):
            raise SettingsError(
                f"{self._named} must end in {' or '.join(suffixes)}, which says what is written"
            )
        if not is_stream(path):
            check_writable(Path(os.path.realpath(path)).parent, self._named)

    @contextmanager
    def opened(self) -> Iterator[IO[str]]:
        """Open it for text.

        Raises
        ------
        SettingsError
            When it cannot be written.
        """
        with ExitStack() as stack:
            with self._told():
                beside = stack.enter_context(replaced(self.path))
                stream = stack.enter_context(
                    beside.open("w", encoding="utf-8", errors="surrogateescape", newline="")
                )
            yield stream

    def save(self, figure: Figure, row: int | None = None) -> Path:
        """Save a figure and return where: ``FILE.png``, or ``FILE-<row>.png``.

        Raises
        ------
        SettingsError
            When it cannot be written, or would replace a file that is read.
        """
        path = self.path if row is None else self.path.with_stem(f"{self.path.stem}-{row}")
        self._refuse_inputs(path)
        from matplotlib.text import Text

        for text in figure.findobj(Text):  # a file's name may hold bytes that are no text
            text.set_text(os.fsencode(text.get_text()).decode(errors="replace"))
        with self._told(), replaced(path) as beside:
            figure.savefig(beside, dpi=DOTS_PER_INCH, format="png")
        return path

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SettingsError(f"{self._named} cannot be written: {error.strerror or error}") from error

    def _refuse_inputs(self, path: Path) -> None:
        from dvfb_stream.files.reading import DATASET_SEPARATOR

        for given in self._inputs:
            file = str(given).partition(DATASET_SEPARATOR)[0]
            if path.exists() and os.path.exists(file) and os.path.samefile(path, file):
                raise SettingsError(f"{self._named} is one of the files to read; give another name")


def figure_file(path: Path, inputs: Sequence[str | Path] = (), *, option: str) -> OutputFile:
    """Return an `OutputFile` for a figure."""
    return OutputFile(path, inputs, option=option, suffixes=(".png",))
