"""How short of memory this machine, or this container, is; 0 kills and all of it left where nobody says."""

from __future__ import annotations

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def kills_for_memory() -> int:
    """Return how many processes the system has ended because memory was short, since it was started.

    Counted by Linux in ``oom_kill`` of `/proc/vmstat`, and of ``memory.events`` in a container's control group, which
    may be all that a container is shown; their sum is good to be compared with an earlier one.
    """
    return _number(_PROC / "vmstat", "oom_kill") + _number(_CGROUP / "memory.events", "oom_kill")


def share_of_memory_left() -> float:
    """Return the share of the memory that is left, 0 to 1: of the machine, or of the container where that is less."""
    total, left = (_number(_PROC / "meminfo", name) for name in ("MemTotal:", "MemAvailable:"))
    shares = [left / total] if total else []
    limit, used = _alone(_CGROUP / "memory.max"), _alone(_CGROUP / "memory.current")
    # Pages of files are used, too, and given back when they are wanted.
    used -= _number(_CGROUP / "memory.stat", "inactive_file") + _number(
        _CGROUP / "memory.stat", "active_file"
    )
    if limit:
        shares.append(max(0.0, 1 - used / limit))
    return min(shares, default=1.0)


def _number(path: Path, name: str) -> int:
    try:
        for line in path.read_text().splitlines():
            field, _, value = line.partition(" ")
            if field == name:
                return int(value.split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return 0


def _alone(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max": there is no limit
        return 0
