"""Where the time of one annotation goes: JSON on stdout.

    python -m benchmarks.annotate_frames [--model default] [--beside FOLDER ...] > benchmarks/results/NAME.json

All figures are seconds per frame on this machine, the least over rounds in which all stages take turns; compare
ratios. Beside what annotates stands what did before: the network as it was trained, and batches that are not divided
among the processor's cores. `--cpu-seconds` counts what the process computes instead of what the clock says, which
tells little on a machine that others use.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.command import run
from benchmarks.live.documents import GEOMETRY, SHAPE, exposures
from dvfb_stream import Annotator, Frame
from dvfb_stream.azimuthal.orders import AzimuthalOrders
from dvfb_stream.fbt import FourierBessel
from dvfb_stream.models import Bundle, find_bundle, load_bundle
from dvfb_stream.models.folded import folded
from dvfb_stream.models.network_cost import cost_of
from dvfb_stream.models.networks import AnnotationNetwork
from dvfb_stream.models.novelty import statistics_of
from dvfb_stream.view import ViewResampler

BATCHES = (1, 16, 64)


def frames(count: int) -> list[Frame]:
    """Rings on a falling background, with the module gaps of a 1-megapixel detector."""
    mask = np.ones(SHAPE, dtype=bool)
    for row in (195, 407, 619, 831):
        mask[row : row + 17] = False
    mask[:, 487:494] = False
    geometry = dataclasses.replace(GEOMETRY, mask=mask)
    return [Frame(pixels, geometry) for pixels in exposures(count)]


class Undivided:
    """In place of an annotator's lanes: all of a batch by the thread that annotates."""

    def map(self, work: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> list[Any]:
        """Return what `work` makes of all items."""
        return list(work(items))


def annotator_before(bundle: Bundle) -> Annotator:
    """Return an annotator that annotates as before networks were folded and batches divided."""
    annotator = Annotator(bundle, device="cpu")
    annotator._network, annotator._lanes = bundle.network.eval(), Undivided()  # type: ignore[assignment]
    return annotator


def network_of(
    network: AnnotationNetwork,
    images: torch.Tensor,
    masks: torch.Tensor,
    coefficients: torch.Tensor,
    rings: torch.Tensor,
    *,
    bfloat16: bool,
) -> Callable[[], object]:
    """Return what a network does with a batch: its input and its logits."""

    @torch.inference_mode()
    def run() -> object:
        inputs = network.prepare(images, masks, coefficients, rings)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            return network(inputs)

    return run


def in_turns(
    stages: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Least duration of each stage, after one run for warmth."""
    least = dict.fromkeys(stages, float("inf"))
    for number in range(rounds + 1):
        for name, work in stages.items():
            started = clock()
            work()
            if number:
                least[name] = min(least[name], clock() - started)
    return least


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all stages, and the networks of other bundles."""
    annotator = Annotator.load(options.model, device="cpu")
    bundles = {name: load_bundle(find_bundle(name)) for name in (options.model, *options.beside)}
    before = annotator_before(bundles[options.model])
    clock = time.process_time if options.cpu_seconds else time.perf_counter
    taken = frames(options.frames)

    resampler = ViewResampler(taken[0].geometry)
    views = [resampler.view(frame.pixels) for frame in taken]
    building = time.perf_counter()
    plan = FourierBessel(center_x=views[0].center_x, center_y=views[0].center_y, mask=views[0].mask)
    plan.estimate(views[0].image[None])
    plan_seconds = time.perf_counter() - building
    images = torch.from_numpy(np.stack([view.image for view in views]))
    masks = torch.from_numpy(np.stack([view.mask for view in views]))
    coefficients = plan.estimate(images)
    raster = resampler.fine
    orders = AzimuthalOrders(
        views[0].fine.mask, raster.center_x, raster.center_y, raster.area, step=raster.step
    )
    counts = np.stack([view.fine.counts for view in views])
    rings = torch.from_numpy(orders.statistics(counts))

    batches = {}
    for size in [size for size in BATCHES if size <= options.frames]:
        part = slice(0, size)
        batch = (images[part], masks[part], coefficients[part], rings[part])
        stages: dict[str, Callable[[], object]] = {
            "view": lambda part=part: [resampler.view(frame.pixels) for frame in taken[part]],
            "coefficients": lambda part=part: plan.estimate(images[part]),
            "rings": lambda part=part: orders.examine(counts[part]),
            "novelty_statistics": lambda part=part: statistics_of(images[part], masks[:1]),
            "annotate": lambda part=part: annotator.annotate(taken[part]),
            "annotate before": lambda part=part: before.annotate(taken[part]),
        }
        for bundle in bundles.values():
            name, network = bundle.description.name, bundle.network.eval()
            stages[f"network {name}"] = network_of(folded(network), *batch, bfloat16=False)
            for precision in ("float32", "bfloat16"):
                stages[f"network {name} as trained, {precision}"] = network_of(
                    network, *batch, bfloat16=precision == "bfloat16"
                )
        measured = in_turns(stages, options.rounds, clock)
        batches[str(size)] = {
            "seconds_per_frame": {stage: value / size for stage, value in measured.items()},
            "frames_per_second": size / measured["annotate"],
        }
    costs = {bundle.description.name: cost_of(bundle.network) for bundle in bundles.values()}
    return {
        "what": f"{SHAPE[0]} x {SHAPE[1]} int32 frames of one geometry; annotate is all of it",
        "model": str(annotator.identity),
        "threads": torch.get_num_threads(),
        "clock": "seconds of all cores together" if options.cpu_seconds else "seconds",
        "batches": batches,
        "networks": {
            name: {"multiply_adds": cost.multiply_adds, "parameters": cost.parameters}
            for name, cost in costs.items()
        },
        "plan_build_seconds": plan_seconds,
        "plan_bytes": plan.nbytes,
    }


if __name__ == "__main__":
    run(
        "annotate-frames",
        __doc__,
        measure,
        model="default",
        beside={"nargs": "*", "default": [], "help": "other bundles, whose networks are timed too"},
        frames=64,
        rounds=15,
        cpu_seconds={
            "action": "store_true",
            "help": "count the process's own seconds, of all cores together",
        },
    )
