"""Are the nearest of a million frames found at once, how else might they be, and which frames are near?

    python -m benchmarks.similar million --features FEATURES.npy --kinds scattering > benchmarks/results/...
    python -m benchmarks.similar ways --features FEATURES.npy    > benchmarks/results/similar-ways.json
    python -m benchmarks.similar metric --real FOLDER            > benchmarks/results/similar-metric.json

Features are those of the default model: FEATURES.npy holds those of `--simulated` simulated frames, and is made where
it is not there. A million frames are made of them: 1,000 runs, each between two mixtures of three simulated frames,
noise of 5 % on each feature and frame (`scattering`); and normal deviates without any structure (`gaussian`), the
worst case, which no network makes. Half of the queries are frames of the index, which are then left out, half are of
further runs. Recall is against cosines of all frames in single precision.

`million` kills the process that builds ten times, at random moments. `ways` needs the extra `bench`; each way on one
thread. FOLDER holds frames as `docs/real-frames.md` says, with `labels.json`; nothing is fitted to them. Processor
times hold on a busy machine, too.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.similar_frames.feature_index import FeatureIndex, RunFeatures
from dvfb_stream.catalog.similar_frames.index_files import Part

FRAMES_A_RUN = 1_000
RUNS_A_STEP = 32
WIDTH = 256
N = 10
QUERIES = {"scattering": 100, "gaussian": 10}
"""By kind."""
KILLS = 10
KINDS = ("scattering", "gaussian")


def simulated_features(path: Path, frames: int) -> NDArray[np.float32]:
    """Return features of simulated frames, (frames, 256), from a file that is made where it is not there."""
    if not path.exists():
        from dvfb_stream import Annotator, Frame
        from dvfb_stream.examination import features_of
        from dvfb_stream.simulation import Simulator

        annotator, simulator = Annotator.load("default", device="cpu"), Simulator(seed=987)
        found = [
            features_of(
                annotator, [Frame(one.pixels, one.geometry) for one in simulator.frames(k, k + 128)]
            ).activations
            for k in range(0, frames, 128)
        ]
        np.save(path, np.concatenate(found))
    features: NDArray[np.float32] = np.load(path)
    return features[np.isfinite(features).all(axis=1)]


def features_of_run(kind: str, run: int, simulated: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the features of one run's frames, (1000, 256), the same whenever it is asked for."""
    rng = np.random.default_rng((KINDS.index(kind), run))
    if kind == "gaussian":
        return rng.standard_normal((FRAMES_A_RUN, WIDTH), np.float32)
    begins, ends = (
        rng.dirichlet((1, 1, 1)) @ simulated[rng.choice(len(simulated), 3, replace=False)] for _ in range(2)
    )
    along = np.linspace(0, 0.5, FRAMES_A_RUN)[:, None]
    clean = ((1 - along) * begins + along * ends).astype(np.float32)
    return clean * (1 + 0.05 * rng.standard_normal(clean.shape, np.float32))


def build(folder: str, kind: str, runs: int, features: str) -> None:
    """Add the runs that an index does not have yet, and say what it took."""
    simulated = np.load(features)
    index = FeatureIndex(Path(folder), WIDTH)
    made = 0.0
    wall, processor = time.monotonic(), time.process_time()
    while True:
        with index.writing():
            known = {part.analysis_uid for part in index.parts()}
            missing = [run for run in range(runs) if str(run) not in known][:RUNS_A_STEP]
            if not missing:
                break
            began = time.process_time()
            read = [
                RunFeatures(
                    Part(str(run), f"raw-{run}", "primary", "image", 0, 0, "done"),
                    np.arange(FRAMES_A_RUN),
                    features_of_run(kind, run, simulated),
                )
                for run in missing
            ]
            made += time.process_time() - began
            index.put(read)
    took = {
        "seconds": round(time.monotonic() - wall, 1),
        "processor_seconds_without_making_features": round(time.process_time() - processor - made, 1),
        "megabytes_of_memory": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
    }
    (Path(folder) / "took.txt").write_text(json.dumps(took))


def build_and_kill(folder: str, kind: str, runs: int, features: str, kills: int) -> dict[str, Any]:
    """Build in processes of which some are killed, until one gets to the end."""
    processes = multiprocessing.get_context("spawn")
    known, killed = [], 0
    while True:
        process = processes.Process(target=build, args=(folder, kind, runs, features))
        process.start()
        if killed < kills:
            # Once it has added something, so that ten processes get through the runs.
            before = _listed(folder)
            while process.is_alive() and _listed(folder) == before:
                time.sleep(0.02)
            process.join(random.uniform(0, 1.0))
            if process.is_alive():
                process.kill()
                process.join()
                killed += 1
                known.append(len(FeatureIndex(Path(folder), WIDTH)))
                continue
        process.join()
        break
    took = json.loads((Path(folder) / "took.txt").read_text())
    (Path(folder) / "took.txt").unlink()
    return {"last_process": took, "killed": killed, "frames_kept_at_each_kill": known}


def _listed(folder: str) -> int:
    path = Path(folder) / "index.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def queries_of(kind: str, runs: int, simulated: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Give run and frame of each query: half of them of the index."""
    rng = np.random.default_rng(5)
    for k in range(QUERIES[kind]):
        run = int(rng.integers(runs)) if k % 2 == 0 else runs + k
        yield run, int(rng.integers(FRAMES_A_RUN))


def unit(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return features divided by their length."""
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


class Exact:
    """The nearest by comparison with all frames, in single precision."""

    def __init__(self, queries: NDArray[np.float32], own: list[tuple[int, int]]) -> None:
        self._queries, self._own = queries, own
        self._cosines = np.full((len(queries), N), -np.inf, np.float32)
        self._frames = np.full((len(queries), N), -1)

    def add(self, run: int, features: NDArray[np.float32]) -> None:
        """Look at a run's frames."""
        cosines = self._queries @ unit(features).T
        for k, (own_run, own_frame) in enumerate(self._own):
            if own_run == run:
                cosines[k, own_frame] = -np.inf
        all_cosines = np.concatenate([self._cosines, cosines], axis=1)
        numbers = np.broadcast_to(run * FRAMES_A_RUN + np.arange(len(features)), cosines.shape)
        all_frames = np.concatenate([self._frames, numbers], axis=1)
        best = np.argpartition(-all_cosines, N, axis=1)[:, :N]
        self._cosines = np.take_along_axis(all_cosines, best, 1)
        self._frames = np.take_along_axis(all_frames, best, 1)

    def recall(self, found: list[list[int]]) -> float:
        """Return the share of the nearest that were found."""
        shares = [
            len({*mine} & {*exact.tolist()}) / N for mine, exact in zip(found, self._frames, strict=True)
        ]
        return round(statistics.mean(shares), 4)


def timed(ask: Callable[[int], list[int]], queries: int) -> tuple[list[list[int]], dict[str, Any]]:
    """Ask each query, and return what was found and how long it took."""
    found, walls, processors = [], [], []
    for k in range(queries):
        wall, processor = time.perf_counter(), time.process_time()
        found.append(ask(k))
        walls.append(1e3 * (time.perf_counter() - wall))
        processors.append(1e3 * (time.process_time() - processor))
    return found, {
        "milliseconds": _spread(walls[1:]),
        "processor_milliseconds": _spread(processors[1:]),
        "first_milliseconds": round(walls[0], 1),
    }


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "least": round(ordered[0], 2),
        "median": round(statistics.median(ordered), 2),
        "95_of_100": round(ordered[int(0.95 * len(ordered))], 2),
        "most": round(ordered[-1], 2),
    }


def million(options: argparse.Namespace) -> dict[str, Any]:
    """Build, search and extend an index of a million frames."""
    simulated = simulated_features(Path(options.features), options.simulated)
    found: dict[str, Any] = {"frames": options.runs * FRAMES_A_RUN, "nearest": N}
    for kind in options.kinds.split(","):
        found[kind] = _of_kind(kind, options, simulated)
        print(kind, json.dumps(found[kind]), file=sys.stderr, flush=True)
    return found


def _of_kind(kind: str, options: argparse.Namespace, simulated: NDArray[np.float32]) -> dict[str, Any]:
    own = list(queries_of(kind, options.runs, simulated))
    queries = np.stack([features_of_run(kind, run, simulated)[frame] for run, frame in own])
    exact = Exact(unit(queries), own)
    for run in range(options.runs):
        exact.add(run, features_of_run(kind, run, simulated))
    with tempfile.TemporaryDirectory(prefix="dvfb-similar-", dir=options.folder) as folder:
        kills = KILLS if kind == "scattering" else 0
        built = build_and_kill(folder, kind, options.runs, options.features, kills)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        began = time.perf_counter()
        index = FeatureIndex(Path(folder), WIDTH)
        frames = len(index)
        opened = time.perf_counter() - began

        def ask(k: int) -> list[int]:
            run, frame = own[k]
            nearest = index.nearest(queries[k], N, without_frame=(str(run), frame))
            return [int(one.part.analysis_uid) * FRAMES_A_RUN + one.frame for one in nearest]

        found, took = timed(ask, len(own))
        more = RunFeatures(
            Part("more", "more", "primary", "image", 0, 0, "done"),
            np.arange(FRAMES_A_RUN),
            features_of_run(kind, options.runs + 1, simulated),
        )
        wall, processor = time.perf_counter(), time.process_time()
        with index.writing():
            index.put([more])
        return {
            "frames_in_the_index": frames,
            "megabytes": round(size / 1e6, 1),
            "built": built,
            "milliseconds_to_open": round(1e3 * opened, 1),
            **took,
            "recall": exact.recall(found),
            "a_run_of_1000_frames_added": {
                "milliseconds": round(1e3 * (time.perf_counter() - wall), 1),
                "processor_milliseconds": round(1e3 * (time.process_time() - processor), 1),
            },
        }


def ways(options: argparse.Namespace) -> dict[str, Any]:
    """Compare ways to search, on fewer frames."""
    simulated = simulated_features(Path(options.features), options.simulated)
    results: dict[str, Any] = {"frames": options.compared * FRAMES_A_RUN, "nearest": N, "threads": 1}
    for kind in KINDS:
        own = list(queries_of(kind, options.compared, simulated))
        queries = np.stack([features_of_run(kind, run, simulated)[frame] for run, frame in own])
        points = np.concatenate(
            [unit(features_of_run(kind, run, simulated)) for run in range(options.compared)]
        )
        exact = Exact(unit(queries), own)
        for run in range(options.compared):
            exact.add(run, points[run * FRAMES_A_RUN : (run + 1) * FRAMES_A_RUN])
        results[kind] = {}
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory(prefix="dvfb-similar-", dir=options.folder) as folder:
                wall, processor = time.perf_counter(), time.process_time()
                try:
                    search = way(points, Path(folder))
                except ImportError as error:
                    results[kind][name] = f"not installed: {error.name}"
                    continue
                built = {
                    "seconds": round(time.perf_counter() - wall, 1),
                    "processor_seconds": round(time.process_time() - processor, 1),
                }
                size = sum(path.stat().st_size for path in Path(folder).iterdir())

                def ask(k: int, search: Any = search, own: Any = own, queries: Any = queries) -> list[int]:
                    run, frame = own[k]
                    number = run * FRAMES_A_RUN + frame
                    return [one for one in search(unit(queries[k : k + 1])[0]) if one != number][:N]

                found, took = timed(ask, len(own))
                results[kind][name] = {
                    "built": built,
                    "megabytes": round(size / 1e6, 1),
                    **took,
                    "recall": exact.recall(found),
                }
    return results


Search = Callable[[NDArray[np.float32]], list[int]]


def _ours(points: NDArray[np.float32], folder: Path) -> Search:
    index = FeatureIndex(folder, WIDTH)
    for first in range(0, len(points), RUNS_A_STEP * FRAMES_A_RUN):
        part = points[first : first + RUNS_A_STEP * FRAMES_A_RUN]
        whose = Part(str(first), str(first), "primary", "image", 0, 0, "done")
        with index.writing():
            index.put([RunFeatures(whose, first + np.arange(len(part)), part)])
    return lambda query: [one.frame for one in index.nearest(query, N + 1)]


def _all(points: NDArray[np.float32], folder: Path) -> Search:
    np.save(folder / "points.npy", points)

    def search(query: NDArray[np.float32]) -> list[int]:
        cosines = points @ query
        best = np.argpartition(-cosines, N + 1)[: N + 1]
        return best[np.argsort(-cosines[best])].tolist()

    return search


def _usearch(points: NDArray[np.float32], folder: Path, dtype: str = "f16") -> Search:
    from usearch.index import Index

    index = Index(ndim=WIDTH, metric="cos", dtype=dtype)
    index.add(np.arange(len(points)), points, threads=1)
    index.save(str(folder / "index"))
    index.expansion_search = 128
    return lambda query: index.search(query, N + 1, threads=1).keys.tolist()


def _hnswlib(points: NDArray[np.float32], folder: Path) -> Search:
    import hnswlib

    index = hnswlib.Index(space="cosine", dim=WIDTH)
    index.init_index(max_elements=len(points), M=16, ef_construction=200)
    index.set_num_threads(1)
    index.add_items(points, np.arange(len(points)))
    index.save_index(str(folder / "index"))
    index.set_ef(128)
    return lambda query: index.knn_query(query, N + 1)[0][0].tolist()


def _faiss(points: NDArray[np.float32], folder: Path, described: str) -> Search:
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.index_factory(WIDTH, described, faiss.METRIC_INNER_PRODUCT)
    index.train(points[:: max(1, len(points) // 50_000)])
    index.add(points)
    faiss.write_index(index, str(folder / "index"))
    if "IVF" in described:
        index.nprobe = 16
    elif "HNSW" in described:
        index.hnsw.efSearch = 128
    return lambda query: index.search(query[None], N + 1)[1][0].tolist()


WAYS: dict[str, Callable[[NDArray[np.float32], Path], Search]] = {
    "outlines, exact (dvfb_stream)": _ours,
    "product with all, float32 (numpy)": _all,
    "HNSW, float16 (usearch)": _usearch,
    "HNSW, int8 (usearch)": lambda points, folder: _usearch(points, folder, "i8"),
    "HNSW, float32 (hnswlib)": _hnswlib,
    "all, int8 (faiss)": lambda points, folder: _faiss(points, folder, "SQ8"),
    "1024 cells, int8 (faiss)": lambda points, folder: _faiss(points, folder, "IVF1024,SQ8"),
    "HNSW, int8 (faiss)": lambda points, folder: _faiss(points, folder, "HNSW16_SQ8"),
}


def metric(options: argparse.Namespace) -> dict[str, Any]:
    """Say what the nearest of real frames have in common, by several metrics."""
    import h5py
    import hdf5plugin  # noqa: F401 - how the frames are compressed

    from dvfb_stream import Annotator, Frame, Geometry
    from dvfb_stream.examination import features_of

    folder = Path(options.real)
    entries = json.loads((folder / "labels.json").read_text())
    annotator = Annotator.load("default", device="cpu")
    rows = []
    for entry in entries:
        with h5py.File(folder / entry["file"]) as file:
            pixels, masked = file[entry["dataset"]][()], file[entry["mask"]][()] != 0
        geometry = Geometry(
            shape=pixels.shape,
            center_x=entry["beam_center_x"],
            center_y=entry["beam_center_y"],
            masked=masked,
        )
        rows.append(features_of(annotator, [Frame(pixels, geometry)]).activations[0])
    features = np.stack(rows)
    there = np.isfinite(features).all(axis=1)
    entries = [entry for entry, is_there in zip(entries, there, strict=True) if is_there]
    setups = np.array([entry["setup"] for entry in entries])
    labels = np.array(
        [
            [{True: 1.0, False: 0.0}.get(value, np.nan) for value in entry["labels"].values()]
            for entry in entries
        ]
    )
    simulated = simulated_features(Path(options.features), options.simulated)
    deviations = simulated.std(axis=0)
    deviations = np.maximum(deviations, 1e-3 * deviations.max())
    spaces = {
        "cosine": unit(features[there]),
        "euclidean": features[there],
        "euclidean, each feature divided by its deviation": features[there] / deviations,
    }
    weights = np.array([1 / (setups == setup).sum() for setup in setups])
    results = {name: _in_common(space, setups, labels, weights) for name, space in spaces.items()}
    rng = np.random.default_rng(0)
    chance = [_in_common(rng.standard_normal((len(setups), 8)), setups, labels, weights) for _ in range(20)]
    results["by chance"] = {
        name: round(statistics.mean(one[name] for one in chance), 3) for name in chance[0]
    }
    return {"frames": len(setups), "setups": len(set(setups)), "nearest": 5, "metrics": results}


def _in_common(
    space: NDArray[np.floating],
    setups: NDArray[Any],
    labels: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> dict[str, float]:
    """Each set-up weighs the same; labels that readers were not sure of do not count."""
    squares = ((space[:, None] - space[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(squares, np.inf)
    same = setups[:, None] == setups[None]

    def share(nearest: NDArray[np.int64]) -> tuple[float, float]:
        known = np.isfinite(labels[nearest]) & np.isfinite(labels[:, None])
        agree = np.where(known, labels[nearest] == labels[:, None], 0).sum(axis=(1, 2)) / known.sum(
            axis=(1, 2)
        )
        shown = known & (labels[:, None] == 1)
        number = shown.sum(axis=(1, 2))
        shared = np.where(shown, labels[nearest], 0).sum(axis=(1, 2)) / np.maximum(number, 1)
        return _mean(agree, weights), _mean(shared[number > 0], weights[number > 0])

    nearest = np.argsort(squares, axis=1)[:, :5]
    others = np.argsort(np.where(same, np.inf, squares), axis=1)[:, :5]
    agree, _ = share(nearest)
    agree_elsewhere, shared_elsewhere = share(others)
    return {
        "of the same set-up": _mean((setups[nearest] == setups[:, None]).mean(axis=1), weights),
        "labels that agree": agree,
        "labels that agree, of other set-ups": agree_elsewhere,
        "labels of the frame that others have, of other set-ups": shared_elsewhere,
    }


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return round(float(np.average(values, weights=weights)), 3)


if __name__ == "__main__":
    # Processes that build import this module, and nothing else that takes long.
    from benchmarks import command

    command.run(
        "similar",
        __doc__,
        {"million": million, "ways": ways, "metric": metric},
        features=("features-of-simulated-frames.npy", "file with features of simulated frames"),
        simulated=(4096, "frames to simulate where it is not there"),
        kinds=(",".join(KINDS), "which frames the large index has"),
        runs=(1000, "runs of 1,000 frames in the large index"),
        compared=(100, "runs of 1,000 frames that each way searches"),
        folder=(tempfile.gettempdir(), "where indexes are built"),
        real=("", "folder of real frames"),
    )
