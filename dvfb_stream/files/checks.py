"""What is looked at before anything is opened: paths come out of documents, and opening a pipe waits for ever."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from dvfb_stream.errors import FrameError, NotThereYetError

WIDEST_ITEM = 8
"""Bytes of the widest pixel type: extended floats are no detector's, and torch has none."""

COLOURS = (3, 4)
"""Numbers a pixel of a picture: red, green, blue, and how opaque it is."""

NARROWEST_FRAME = 16
"""Columns: a dataset narrower than this is a table or a list of motor positions, not worth offering as images."""

KINDS_OF_FILE = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def regular_file(path: str) -> os.stat_result:
    """Return what the system says of the file at `path`.

    Raises
    ------
    NotThereYetError
        When there is none, or it may not be looked at.
    FrameError
        When it is no regular file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise NotThereYetError(f"{path} is not there") from error
    except OSError as error:
        raise NotThereYetError(f"{path} cannot be looked at: {error.strerror}") from error
    except ValueError as error:
        raise FrameError(f"{path!r} is no path: {error}") from error
    if not stat.S_ISREG(status.st_mode):
        raise FrameError(f"{path} is {kind_of(status)}, no file of frames")
    return status


def kind_of(status: os.stat_result) -> str:
    """Return what something is that is no regular file, in words."""
    return KINDS_OF_FILE.get(stat.S_IFMT(status.st_mode), "of an unknown kind")


def is_coloured(shape: tuple[int, ...]) -> bool:
    """Whether an array of that shape is a picture in colours, or several: (..., rows, columns, 3 or 4).

    No detector is that many columns wide and at least `NARROWEST_FRAME` rows high.
    """
    return len(shape) > 2 and shape[-1] in COLOURS and shape[-2] >= NARROWEST_FRAME


def refuse_pipes_and_devices(path: str) -> None:
    """Raise FrameError where there is something at `path` that is neither a regular file nor a directory."""
    if not os.path.isdir(path):
        try:
            regular_file(path)
        except NotThereYetError:
            return


def beside(path: str, name: str, permits: Callable[[str], bool]) -> str:
    """Return the path of the file that the HDF5 file at `path` calls `name`, looked for where HDF5 does.

    Only where `permits` says that it may be. That is the name itself where it is absolute and there; then the folder
    of the file, the folder of the file that a symbolic link leads to, and, as files are moved with what they refer
    to, the folder without the name's own.
    """
    folders = (os.path.dirname(path), os.path.dirname(os.path.realpath(path)))
    names = (name, os.path.basename(name))
    places = [os.path.join(folder, name) for name in names for folder in folders]
    return next((place for place in places if permits(place) and os.path.lexists(place)), places[0])
