"""Which files may be opened: paths come out of messages, and anybody who may write to a topic can name one.

Two questions are asked of each path. The first needs no look at the disk: whether it lies, as it is written, below a
folder that is allowed. Only then is looked where it leads to, through symbolic links, and whether that does, too. So
of a path that is refused nobody learns whether it is there, or of which kind it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from dvfb_stream.errors import FrameError
from dvfb_stream.files.checks import kind_of, regular_file

SETTING = "allowed_roots in [files] of the configuration"

_DELETED = " (deleted)"
"""What Linux says behind the name of an open file that has none any more."""


class AllowedRoots:
    """Folders below which files may be opened.

    Parameters
    ----------
    roots
        Absolute paths; empty: no file may be opened. None: every file may, for documents of one's own process.
    """

    def __init__(self, roots: Sequence[str] | None) -> None:
        self.roots = None if roots is None else tuple(_normal(root) for root in roots)

    def permits(self, path: str) -> bool:
        """Whether a path lies below a root, as it is written and where it leads to."""
        if self.roots is None:
            return True
        try:
            # Links may be changed at any time, also those that lead to a root.
            led_to = [os.path.realpath(root) for root in self.roots]
            written = _normal(path)
            return (
                os.path.isabs(path)
                and any(_is_below(written, root) for root in (*self.roots, *led_to))
                and any(_is_below(os.path.realpath(written), root) for root in led_to)
            )
        except ValueError:  # a NUL in it
            return False

    def check(self, path: str) -> None:
        """Refuse a path that is not allowed, whether or not it is there: FrameError."""
        if not self.permits(path):
            raise FrameError(self._refusal(path))

    def regular_file(self, path: str) -> os.stat_result:
        """Return what the system says of the file at a path that is allowed.

        Raises
        ------
        NotThereYetError
            When there is none, or it may not be looked at.
        FrameError
            When it is not allowed, or no regular file.
        """
        self.check(path)
        return regular_file(path)

    def check_opened(self, descriptor: int, path: str) -> None:
        """Refuse a file that is open now, if it is not what was checked: a link may have been changed in between.

        Raises
        ------
        FrameError
            When it lies elsewhere, or is no regular file.
        """
        if self.roots is None:
            return
        status = os.fstat(descriptor)
        try:
            name = os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(_DELETED)
        except OSError:
            name = os.path.realpath(path)  # where the system does not say
        if not any(_is_below(name, os.path.realpath(root)) for root in self.roots):
            raise FrameError(self._refusal(path))
        if not stat.S_ISREG(status.st_mode):
            raise FrameError(f"{path} is {kind_of(status)}, no file of frames")

    def _refusal(self, path: str) -> str:
        if not self.roots:
            return (
                f"{path} is not read: no folder is named from which files may be; add {SETTING}, for example "
                'allowed_roots = ["/data"]'
            )
        return f"{path} is not read: it lies in no folder that {SETTING} names"


def _normal(path: str) -> str:
    """Return a path without ``..``, ``.`` and doubled slashes, of which Python leaves two at the beginning."""
    written = os.path.normpath(path)
    return written[1:] if written.startswith("//") else written


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


EVERYWHERE = AllowedRoots(None)
"""Every file may be opened."""
