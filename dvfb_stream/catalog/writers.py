"""A process is one writer: whatever its stores and threads, they take turns, and others can tell whether it lives."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from dvfb_stream.catalog.leases import Lease


def identity(name: str | None) -> dict[str, Any]:
    """Return what a lease says of its holder: a token of this process, a name for people, and where it runs.

    Parameters
    ----------
    name
        For people; None: host and process id.
    """
    pid = os.getpid()
    machine, started = _machine(), _started(pid)
    known = machine and started is not None
    return {
        "token": uuid.uuid5(uuid.NAMESPACE_OID, f"{machine} {pid} {started}").hex
        if known
        else uuid.uuid4().hex,
        "name": name or f"{socket.gethostname()}:{pid}",
        "machine": machine,
        "pid": pid,
        "started": started,
    }


def is_dead(writer: Mapping[str, Any]) -> bool:
    """Return whether a writer's process has certainly ended; of one on another machine nothing is certain."""
    machine, pid, started = (writer.get(name) for name in ("machine", "pid", "started"))
    if not machine or machine != _machine() or not isinstance(pid, int) or started is None:
        return False
    now = _started(pid)
    # Where /proc hides the processes of others (hidepid), that there is no entry says nothing.
    return _has_ended(pid) if now is None else bool(now != started)


class Turn:
    """Whose turn it is to write one run, among the threads and stores of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held by who reads or writes the run."""
        self.writes = 0
        """How often rows were appended, so that another store notices."""
        self.lease: Lease | None = None
        """That this process has on the run, confirmed since the last failure."""
        self.holders = 0
        """Stores that write the run; the last to leave gives the lease back."""
        self.was_taken = False
        """Whether this process took the run before: a lease of its own that it finds is no surprise then."""
        self.late_appends = False
        """Whether rows that were sent, by whomever, may arrive at any time."""


class Turns:
    """The turns of the runs that this process writes: the same one for the same run, whoever asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_run: WeakValueDictionary[tuple[str, str], Turn] = WeakValueDictionary()

    def of(self, place: str, uid: str) -> Turn:
        """Return the turn of a run in a place; it is kept as long as somebody keeps it."""
        with self._lock:
            turn = self._of_run.get((place, uid))
            if turn is None:
                turn = self._of_run[place, uid] = Turn()
            return turn


TURNS = Turns()
"""Of this process. A lease is given to a process, so that what shares it must share this, too."""


def _machine() -> str:
    """Return what tells this start of this machine, and this container on it, from all others; "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


_ENDED = -1
"""In place of when a process started, if it is a zombie."""


def _started(pid: int) -> int | None:
    """Return when a process started, in ticks since the machine did: ids are given again, but not with this.

    None where there is no entry for it.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    after_name = stat.rpartition(")")[2].split()
    # Field 22 of proc(5), the third being the first behind the name. A zombie has ended already.
    return _ENDED if after_name[0] in "ZX" else int(after_name[19])


def _has_ended(pid: int) -> bool:
    """Return whether the kernel says that there is no process of that id."""
    if not 0 < pid < 1 << 31:
        return False  # a group, or no id at all: nothing is known
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
