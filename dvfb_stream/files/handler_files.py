"""What a handler opens is looked at before it is opened: its class is anybody's, and so is the path that it makes up.

Python tells of each file that is opened (PEP 578), and h5py opens all of them in one place. Neither can be undone: so
this is for a process that does nothing but read files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dvfb_stream.errors import NotThereYetError
from dvfb_stream.files.allowed_roots import AllowedRoots

_OPENING = frozenset({"open", "os.listdir", "os.scandir"})
"""Events of Python's with a path as their first argument."""


class HandlerFiles:
    """Refuses what a handler opens that is not allowed, or is no regular file, while `watched`.

    Parameters
    ----------
    allowed
        Which files may be opened.
    code
        Folders of Python's modules, which are imported when they are wanted.
    """

    def __init__(self, allowed: AllowedRoots, code: tuple[str, ...]) -> None:
        self._allowed = allowed
        self._code = AllowedRoots(code)
        self._is_watching = False
        sys.addaudithook(self._heard)
        with suppress(ImportError):
            import h5py

            opened = h5py.h5f.open

            def checked(name: bytes | str, *given: Any, **named: Any) -> Any:
                self._check(name, is_folder=False)
                return opened(name, *given, **named)

            h5py.h5f.open = checked

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at what is opened."""
        self._is_watching = True
        try:
            yield
        finally:
            self._is_watching = False

    def _heard(self, event: str, given: tuple[Any, ...]) -> None:
        if self._is_watching and event in _OPENING and given:
            self._check(given[0], is_folder=event != "open")

    def _check(self, path: object, *, is_folder: bool) -> None:
        if not self._is_watching or not isinstance(path, str | bytes | os.PathLike):
            return  # the descriptor of what is open already
        self._is_watching = False  # what is looked at here
        try:
            written = os.path.abspath(os.fsdecode(path))
            if self._code.permits(written):
                return
            self._allowed.check(written)
            if not is_folder:
                with suppress(NotThereYetError):  # the handler may know what to do without it
                    self._allowed.regular_file(written)
        finally:
            self._is_watching = True
