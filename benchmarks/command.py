"""A benchmark's command: options in, progress on stderr, what was measured and its circumstances as JSON out."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from dvfb_stream.training.results import described

Measure = Callable[[argparse.Namespace], dict[str, Any]]


def run(kind: str, about: str | None, measure: Measure | Mapping[str, Measure], **options: Any) -> None:
    """Read the command's options, measure and print.

    Parameters
    ----------
    kind
        Name of the benchmark.
    about
        Its description: the module's docstring.
    measure
        Called with the options; returns what was found on the processor. Of several, the first argument names one.
    options
        By name: the default, whose type an option has; a pair of default and help; or what
        `argparse.ArgumentParser.add_argument` takes.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    if isinstance(measure, Mapping):
        parser.add_argument("measure", choices=measure)
    for name, given in options.items():
        default, explained = given if isinstance(given, tuple) else (given, None)
        settings = {"type": type(default), "default": default, "help": explained}
        parser.add_argument(f"--{name.replace('_', '-')}", **(given if isinstance(given, dict) else settings))
    chosen = parser.parse_args()
    # What a benchmark has started ends with it, also where it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    if isinstance(measure, Mapping):
        kind, measure = f"{kind}-{chosen.measure}", measure[chosen.measure]
    started = time.monotonic()
    found = measure(chosen)
    print(json.dumps(described(kind, found, seconds=time.monotonic() - started, device="cpu"), indent=2))
