"""Where the time of one annotation goes: JSON on stdout.

    python benchmarks/annotate_frames.py [--model default] [--frames 64] > benchmarks/results/NAME.json

All figures are seconds per frame on this machine, medians over repetitions, measured in one run; compare ratios.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.fbt import FourierBessel
from dvfb_stream.models.inputs import coefficient_input, halve, image_input
from dvfb_stream.view import ViewPlan

SHAPE = (1043, 981)
BATCHES = (1, 16, 64)


def seconds(work: Callable[[], object], *, repetitions: int) -> float:
    """Median duration after one warm-up."""
    work()
    durations = []
    for _ in range(repetitions):
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations)


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    annotator = Annotator.load(options.model, device="cpu")
    exposures = frames(options.frames)

    views_plan = ViewPlan(exposures[0].geometry)
    views = [views_plan.view(frame.pixels) for frame in exposures]
    started = time.perf_counter()
    plan = FourierBessel(center_x=views[0].center_x, center_y=views[0].center_y, mask=views[0].mask)
    plan.estimate(views[0].image[None])
    plan_seconds = time.perf_counter() - started
    images = torch.from_numpy(np.stack([view.image for view in views]))
    masks = torch.from_numpy(np.stack([view.mask for view in views]))
    coefficients = plan.estimate(images)

    results: dict[str, object] = {}
    for batch in [size for size in BATCHES if size <= options.frames]:
        part = slice(0, batch)

        @torch.inference_mode()
        def network(part: slice = part) -> None:
            annotator._network(
                image_input(*halve(images[part], masks[part])), coefficient_input(coefficients[part])
            )

        stages = {
            "view": lambda part=part: [views_plan.view(frame.pixels) for frame in exposures[part]],
            "coefficients": lambda part=part: plan.estimate(images[part]),
            "network": network,
            "annotate_all": lambda part=part: annotator.annotate(exposures[part]),
        }
        results[f"batch_{batch}"] = {
            stage: seconds(work, repetitions=options.repetitions) / batch for stage, work in stages.items()
        }

    print(
        json.dumps(
            {
                "what": "seconds per frame, 1043 x 981 int32 frames of one geometry",
                "machine": {
                    "processor": platform.processor() or platform.machine(),
                    "torch_threads": torch.get_num_threads(),
                    "torch": torch.__version__,
                },
                "model": str(annotator.identity),
                "ours": results,
                "plan_build_seconds": plan_seconds,
                "plan_bytes": plan.nbytes,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
