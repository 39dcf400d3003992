"""Prints what a benchmark measured, as the files under `benchmarks/results/` keep it."""

from __future__ import annotations

import json
import time
from typing import Any

from dvfb_stream.training.results import described


def print_results(kind: str, found: dict[str, Any], *, started: float) -> None:
    """Print results with their circumstances as JSON.

    Parameters
    ----------
    kind
        Name of the benchmark.
    found
        What was measured, on the processor.
    started
        What `time.monotonic` said when it began.
    """
    print(json.dumps(described(kind, found, seconds=time.monotonic() - started, device="cpu"), indent=2))
