"""Which files a process of its own can read at all, as the system sees to it: Landlock, of Linux 5.13 and newer.

What is read is checked before, by name (`dvfb_stream.files.allowed_roots`). This is for what a library follows by
itself, a link in an HDF5 file for example, and for what a damaged file may make of its code.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, on every machine."""
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

_OF_THE_SYSTEM = (
    *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/etc/hosts"),
    *("/dev/null", "/dev/zero", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system"),
)
"""What libraries read when they are loaded, and anybody may."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class ReadOnlyBelow:
    """Lets this thread, and those that it starts from now on, read files below some folders, and no others.

    Where the system has no Landlock, nothing happens.

    Parameters
    ----------
    roots
        Folders of data. One that is mounted later is not seen: then the process is `outdated`.
    code
        Folders and files that Python's modules are loaded from.

    Attributes
    ----------
    is_enforced
        Whether the system does it.
    """

    def __init__(self, roots: Sequence[str], code: Iterable[str]) -> None:
        self._roots = tuple(roots)
        self._seen = [_identity(root) for root in self._roots]
        self.is_enforced = False
        if sys.platform == "linux":
            with suppress(OSError):
                _restrict([*self._roots, *code, *_OF_THE_SYSTEM])
                self.is_enforced = True

    @property
    def outdated(self) -> bool:
        """Whether a root is another folder than when this was made, and only a new process could read there."""
        return self.is_enforced and [_identity(root) for root in self._roots] != self._seen


def code_folders() -> tuple[str, ...]:
    """Return the folders that Python imports modules from."""
    import dvfb_stream

    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *dvfb_stream.__path__]
    places += os.environ.get("HDF5_PLUGIN_PATH", "").split(os.pathsep)
    # Started in the root of the file system, or in somebody's home, Python would import from there.
    never = {os.sep, os.path.realpath(os.path.expanduser("~"))}
    real = (os.path.realpath(place) for place in places if os.path.isabs(place))
    return tuple(dict.fromkeys(place for place in real if place not in never))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _restrict(places: Iterable[str]) -> None:
    """Allow reading below places that are there; OSError where Linux has no Landlock, or it is not switched on."""
    library = ctypes.CDLL(None, use_errno=True)
    rules = _Ruleset(_READ_FILE | _READ_DIR)
    ruleset = _called(library, _CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), 0)
    try:
        for place in dict.fromkeys(places):
            try:
                opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                rights = _READ_FILE | _READ_DIR if os.path.isdir(place) else _READ_FILE
                rule = _PathBeneath(rights, opened)
                _called(library, _ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
            finally:
                os.close(opened)
        if library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")
        _called(library, _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _called(library: ctypes.CDLL, number: int, *given: Any) -> int:
    result = int(library.syscall(ctypes.c_long(number), *given))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
