"""How often the simulator gives each label, and how large the sets are: JSON on stdout.

    python -m benchmarks.label_shares [--frames 20000] > benchmarks/results/label-shares.json

Labels alone are made, of the settings as they are unless told otherwise.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.command import run
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import Simulator


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the share of frames that have each label."""
    labels = Simulator(seed=options.seed).labels(0, options.frames)
    return {
        "frames": options.frames,
        "seed": options.seed,
        "shares": {label: float(labels[:, k].double().mean()) for k, label in enumerate(LABELS)},
    }


if __name__ == "__main__":
    run("label-shares", __doc__, measure, frames=20_000, seed=0)
