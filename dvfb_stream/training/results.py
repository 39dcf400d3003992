"""Results as they are kept: what was measured, on what, with what, and how long it took."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from dvfb_stream import __version__

PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")


def described(kind: str, found: dict[str, Any], *, seconds: float, device: str) -> dict[str, Any]:
    """Return results with their circumstances before them.

    Parameters
    ----------
    kind
        What was measured: ``table-1``, ``model``, ``novelty``, ...
    found
        What was measured.
    seconds
        How long it took.
    device
        Where, as torch calls it.
    """
    return {
        "kind": kind,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device_name(device),
        "software": {
            "python": platform.python_version(),
            "dvfb-stream": __version__,
            **{name: _version(name) for name in PACKAGES},
        },
        "seconds": round(seconds),
        **found,
    }


def device_name(device: str) -> str:
    """Return a device in words: the GPU's name, or the processor's and its cores."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(torch.device(device))
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
