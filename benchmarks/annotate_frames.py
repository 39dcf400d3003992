"""Where the time of one annotation goes: JSON on stdout.

    python -m benchmarks.annotate_frames [--model default] [--beside FOLDER ...] > benchmarks/results/NAME.json

All figures are seconds per frame on this machine, medians over rounds in which all stages take turns; compare ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.printing import print_results
from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.fbt import FourierBessel
from dvfb_stream.models import Bundle, find_bundle, load_bundle
from dvfb_stream.models.networks.cost import cost_of
from dvfb_stream.models.novelty import statistics_of
from dvfb_stream.view import ViewPlan

SHAPE = (1043, 981)
BATCHES = (1, 16, 64)


def frames(count: int) -> list[Frame]:
    """Rings on a falling background, Poisson counts, with the module gaps of a 1-megapixel detector."""
    mask = np.ones(SHAPE, dtype=bool)
    for row in (195, 407, 619, 831):
        mask[row : row + 17] = False
    mask[:, 487:494] = False
    geometry = Geometry(shape=SHAPE, center_x=302.7, center_y=530.9, mask=mask)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r, phi = np.hypot(x - 302.7, y - 530.9), np.arctan2(y - 530.9, x - 302.7)
    rng = np.random.default_rng(0)
    result = []
    for i in range(count):
        counts = (
            500 / (1 + (r / 30) ** 2) + 50 * np.exp(-(((r - 150 - i) / 12) ** 2)) * (1 + np.cos(4 * phi)) + 1
        )
        result.append(Frame(rng.poisson(counts).astype(np.int32), geometry))
    return result


def network_of(
    bundle: Bundle, images: torch.Tensor, masks: torch.Tensor, coefficients: torch.Tensor, *, bfloat16: bool
) -> Callable[[], object]:
    """Return what a network does with a batch: its input and its logits."""
    network = bundle.network.eval()

    @torch.inference_mode()
    def run() -> object:
        inputs = network.prepare(images, masks, coefficients)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            return network(inputs)

    return run


def in_turns(stages: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median duration of each stage, after one run for warmth."""
    durations: dict[str, list[float]] = {name: [] for name in stages}
    for number in range(rounds + 1):
        for name, work in stages.items():
            started = time.perf_counter()
            work()
            if number:
                durations[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in durations.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--beside", nargs="*", default=[], help="other bundles, whose networks are timed too")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    started = time.monotonic()
    annotator = Annotator.load(options.model, device="cpu")
    bundles = {name: load_bundle(find_bundle(name)) for name in (options.model, *options.beside)}
    exposures = frames(options.frames)

    views_plan = ViewPlan(exposures[0].geometry)
    views = [views_plan.view(frame.pixels) for frame in exposures]
    building = time.perf_counter()
    plan = FourierBessel(center_x=views[0].center_x, center_y=views[0].center_y, mask=views[0].mask)
    plan.estimate(views[0].image[None])
    plan_seconds = time.perf_counter() - building
    images = torch.from_numpy(np.stack([view.image for view in views]))
    masks = torch.from_numpy(np.stack([view.mask for view in views]))
    coefficients = plan.estimate(images)

    batches = {}
    for size in [size for size in BATCHES if size <= options.frames]:
        part = slice(0, size)
        batch = (images[part], masks[part], coefficients[part])
        stages: dict[str, Callable[[], object]] = {
            "view": lambda part=part: [views_plan.view(frame.pixels) for frame in exposures[part]],
            "coefficients": lambda part=part: plan.estimate(images[part]),
            "novelty_statistics": lambda part=part: statistics_of(images[part], masks[part]),
            "annotate": lambda part=part: annotator.annotate(exposures[part]),
        }
        for bundle in bundles.values():
            for precision in ("float32", "bfloat16"):
                stages[f"network {bundle.description.name} {precision}"] = network_of(
                    bundle, *batch, bfloat16=precision == "bfloat16"
                )
        measured = in_turns(stages, options.rounds)
        batches[str(size)] = {
            "seconds_per_frame": {stage: value / size for stage, value in measured.items()},
            "frames_per_second": size / measured["annotate"],
        }
    found = {
        "what": f"{SHAPE[0]} x {SHAPE[1]} int32 frames of one geometry; annotate is all of it",
        "model": str(annotator.identity),
        "threads": torch.get_num_threads(),
        "batches": batches,
        "networks": {
            bundle.description.name: {
                "multiply_adds": cost_of(bundle.network).multiply_adds,
                "parameters": cost_of(bundle.network).parameters,
            }
            for bundle in bundles.values()
        },
        "plan_build_seconds": plan_seconds,
        "plan_bytes": plan.nbytes,
    }
    print_results("annotate-frames", found, started=started)


if __name__ == "__main__":
    main()
