"""Files that commands write: checked before the work begins, never one of those that are read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dvfb_stream.errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110


def refuse_inputs(path: Path, inputs: Sequence[str | Path]) -> None:
    """Raise SettingsError when writing `path` would destroy one of the files that are read."""
    from dvfb_stream.files.reading import DATASET_SEPARATOR

    for given in inputs:
        file = str(given).partition(DATASET_SEPARATOR)[0]
        if path.exists() and os.path.exists(file) and os.path.samefile(path, file):
            raise SettingsError(f"output {path} is one of the files to read; give another name")


def check_writable(folder: Path, named: str) -> None:
    """Raise SettingsError when no file can be made in `folder`; `named` is what the message calls it."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(f"{named} cannot be written: {error.strerror or error}") from error


def save_figure(
    figure: Figure, path: Path, inputs: Sequence[str | Path], *, dots_per_inch: float = DOTS_PER_INCH
) -> None:
    """Write a figure.

    Raises
    ------
    SettingsError
        When the file cannot be written, or is one of `inputs`.
    """
    refuse_inputs(path, inputs)
    try:
        figure.savefig(path, dpi=dots_per_inch)
    except OSError as error:
        raise SettingsError(f"figure {path} cannot be written: {error.strerror or error}") from error


class NumberedFigures:
    """Where figures go: ``FILE.png``, or ``FILE-<row>.png`` where there are several frames.

    Parameters
    ----------
    path
        ``FILE.png``.
    inputs
        Files that are read.
    option
        What the user calls `path`.

    Raises
    ------
    SettingsError
        When the name does not end in .png, its folder cannot be written to, or it is one of `inputs`.
    """

    def __init__(self, path: Path, inputs: Sequence[str | Path], *, option: str) -> None:
        if path.suffix.lower() != ".png":
            raise SettingsError(f"{option} {path} must end in .png")
        if path.is_dir():
            raise SettingsError(f"{option} {path} is a directory; give the name of a file")
        refuse_inputs(path, inputs)
        check_writable(path.parent, f"{option} {path}")
        self._path = path
        self._inputs = inputs

    def save(self, figure: Figure, row: int | None = None) -> Path:
        """Save a figure, numbered unless `row` is None, and return where."""
        path = (
            self._path if row is None else self._path.with_name(f"{self._path.stem}-{row}{self._path.suffix}")
        )
        save_figure(figure, path, self._inputs)
        return path
