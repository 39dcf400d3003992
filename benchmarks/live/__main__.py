"""Does a scan notice the annotator, and how many frames a second reach their rows? JSON on stdout.

    python -m benchmarks.live callback|plan|throughput|memory [--model default] > benchmarks/results/NAME.json

Frames have 1043 x 981 pixels and lie inside events, or in an HDF5 file of which stream datums speak. `callback`:
time inside the callback for each document. `plan`: how long a plan takes with and without the callback, in turns.
`throughput`: frames a second from document to row, and where the time goes. `memory`: resident memory while many
frames pass.
"""

from __future__ import annotations

from benchmarks.command import run
from benchmarks.live.callback import callback
from benchmarks.live.memory import memory
from benchmarks.live.plan import plan
from benchmarks.live.throughput import throughput

if __name__ == "__main__":
    run(
        "live",
        __doc__,
        {"callback": callback, "plan": plan, "throughput": throughput, "memory": memory},
        model="default",
        device="cpu",
        frames=500,
        rounds=7,
        exposures={
            "type": float,
            "nargs": "+",
            "default": [0.0, 0.01, 0.1],
            "help": "seconds a frame, of the plans of `plan`; with none, a plan is nothing but Bluesky's own work",
        },
        batch_size=16,
        interval=(0.01, "seconds between documents of `callback`"),
    )
