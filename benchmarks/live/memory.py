"""Resident memory of a process and of those it has started, while many frames pass."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.live.annotators import live
from benchmarks.live.documents import exposures, stream_runs, written


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Measure."""
    frames = exposures(4)
    resident: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = written(folder, frames)
        with live(options.model, policy="block", device=options.device) as callback:
            for number, (name, doc) in enumerate(stream_runs(path, options.frames, each=8)):
                callback(name, doc)
                if number % 50 == 0:
                    while callback.stats().reader.waiting > 64:
                        time.sleep(0.05)
                    resident.append(resident_mb())
                    print(f"{callback.stats().worker.annotated} frames, {resident[-1]}", file=sys.stderr)
            callback.wait()
            resident.append(resident_mb())
    settled = resident[len(resident) // 5 : -1]  # the last is after the queue was emptied
    return {
        "frames": options.frames,
        "resident_mb": resident,
        "spread_mb": {
            which: max(one[which] for one in settled) - min(one[which] for one in settled)
            for which in settled[0]
        },
    }


def resident_mb() -> dict[str, float]:
    """Resident memory of this process, and of those it has started: frames that both see count in both."""
    tasks = Path("/proc/self/task").iterdir()
    others = [pid for task in tasks for pid in (task / "children").read_text().split()]
    return {"own": _resident("self"), "others": sum(map(_resident, others))}


def _resident(pid: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return float("nan")
