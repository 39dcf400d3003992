"""Does a scan notice the annotator, and how many frames a second reach their rows? JSON on stdout.

    python -m benchmarks.live callback|plan|throughput|memory [--model default] > benchmarks/results/NAME.json

Frames have 1043 x 981 pixels and lie inside events, or in an HDF5 file of which stream datums speak. `callback`:
time inside the callback for each document. `plan`: how long a plan takes with and without the callback, in turns.
`throughput`: frames a second from document to row, and where the time goes. `memory`: resident memory while many
frames pass.
"""

from __future__ import annotations

import argparse
import time

from benchmarks.live.callback import callback
from benchmarks.live.memory import memory
from benchmarks.live.plan import plan
from benchmarks.live.throughput import throughput
from benchmarks.printing import print_results

MEASURES = {"callback": callback, "plan": plan, "throughput": throughput, "memory": memory}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", choices=MEASURES)
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--exposures",
        type=float,
        nargs="+",
        default=[0.0, 0.01, 0.1],
        help="seconds a frame, of the plans of `plan`; with none, a plan is nothing but Bluesky's own work",
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument(
        "--interval", type=float, default=0.01, help="seconds between documents of `callback`"
    )
    options = parser.parse_args()
    started = time.monotonic()
    found = MEASURES[options.measure](options)
    print_results(f"live-{options.measure}", found, started=started)


if __name__ == "__main__":
    main()
