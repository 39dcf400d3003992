"""Is history annotated once whatever is killed, and how fast? JSON on stdout.

    python -m benchmarks.history kills [--runs 1000] [--kills 20] > benchmarks/results/history-kills.json
    python -m benchmarks.history speed [--model default] > benchmarks/results/history-speed.json
    python -m benchmarks.history bytes > benchmarks/results/history-bytes.json

Each with a Tiled server of its own (SQLite, DuckDB), on the machine that annotates, too.

`kills`: raw runs of three frames each: in HDF5 by stream resources, in old assets, inline. Two worker processes. Of
the kills by SIGKILL, at moments chosen by chance among the rows made, every second hits a worker, the others the
process of the call, which is made again. In the end each stored row is compared with the frame that it is of, and the
notes of an annotator, which writes down each frame that it is given, tell what was annotated twice, and whether it
was in hand when its process was killed.

`speed`: frames of 1043 x 981 pixels in HDF5, a chunk each, compressed by bitshuffle and LZ4, and not compressed;
frames a second by the number of workers, from the first row to the end, and the seconds of each stage a frame. What
the workers and the server take of the processors says more than the clock where others are at work; `--workers 0`
annotates in the benchmark's process, and leaves all that begins it out.

`bytes`: what a run and a row take in the catalog's database and in that of its tables, raw runs aside.
"""

from __future__ import annotations

from benchmarks.command import run
from benchmarks.history.kills import kills
from benchmarks.history.speed import speed
from benchmarks.history.stored_bytes import stored_bytes

run(
    "history",
    __doc__,
    {"kills": kills, "speed": speed, "bytes": stored_bytes},
    runs=(0, "raw runs; 0: 1000 of kills, 4 of each file of speed, 30 of bytes"),
    frames=(0, "frames a run; 0: 3 of kills, 200 of speed, 20000 of one run of bytes"),
    kills=(20, "by SIGKILL"),
    workers=("", "1,2,3 for speed, 2 for kills, unless given"),
    seed=(0, "of when and whom kills hit"),
    model=("default", "bundle of speed"),
    rounds=(2, "how often each way of speed has its turn"),
)
