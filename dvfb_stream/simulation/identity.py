"""What a dataset follows from: two of one identity and one count are the same, byte by byte."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dvfb_stream import __version__
from dvfb_stream.simulation.simulator import Simulator

FORMAT = 3
"""Of the dataset; another number where the layout of docs/simulate.md changes."""


def identity_of(simulator: Simulator) -> dict[str, Any]:
    """Return all that the frames of a simulator follow from, JSON-ready."""
    return {
        "format": FORMAT,
        "seed": simulator.seed,
        "settings": simulator.settings.as_dict(),
        "device": simulator.device.type,
        "software": {
            "dvfb-stream": __version__,
            **{name: version(name) for name in ("torch", "numpy")},
            "simulator": _simulator_code(),
        },
    }


def _simulator_code() -> str:
    """Return a hash of the simulator's sources.

    Between releases they change under one version number, and parts of two states would make a dataset that nobody
    can make again.
    """
    folder = Path(__file__).parent
    code = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        code.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return code.hexdigest()[:16]


def as_text(identity: dict[str, Any]) -> str:
    """Return an identity as one line of JSON, always the same for the same."""
    return json.dumps(identity, sort_keys=True)


def difference(found: str, wanted: str) -> str:
    """Say in what one identity differs from another, in a few words."""
    try:
        there = json.loads(found)
    except ValueError:
        return "it does not say what it was made of"
    here = json.loads(wanted)
    words = []
    for key in here:
        old, new = there.get(key), here[key]
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            words += [f"{name} {old.get(name)!r} instead of {new.get(name)!r}" for name in changed[:3]]
        else:
            words.append(f"{key} {old!r} instead of {new!r}")
    return ", ".join(words) or "nothing"
