"""Which compact network, and which loss? Mean average precision on validation frames against cost: JSON on stdout.

    python -m benchmarks.choose_default --work runs [--frames 10000] [--epochs 4] > benchmarks/results/NAME.json

Variants of the preset `default` are fitted to the first frames of a work folder and measured on its validation
frames, never on test frames.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.command import run
from dvfb_stream.models.network_cost import cost_of
from dvfb_stream.training.dataset import SimulatedDataset, StoredFrames, build
from dvfb_stream.training.fitting import fit
from dvfb_stream.training.presets import PAPER_FRAMES, SEEDS, preset

HALF = {"image": [8, 16, 16, 32, 48], "coefficient": [12, 24, 48, 48]}
TWICE = {"image": [32, 64, 64, 128, 192], "coefficient": [48, 96, 192, 192]}


def variants() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return changes of the architecture and of the fit, by name."""

    def as_wide_as(widths: dict[str, list[int]]) -> dict[str, Any]:
        return {view: {"name": "compact", "widths": values} for view, values in widths.items()}

    return {
        "default": ({}, {}),
        "half as wide": (as_wide_as(HALF), {}),
        "twice as wide": (as_wide_as(TWICE), {}),
        "hidden layer of 64": ({"hidden": [64]}, {}),
        "no heads of the views": ({"heads": False}, {}),
        "asymmetric loss": ({}, {"loss": "asymmetric"}),
        "without symmetries": ({}, {"symmetries": False}),
        "float32": ({}, {"precision": "float32"}),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Fit each variant and measure it on the validation frames."""
    recipe = preset("default")
    counts = {"train": options.frames, "validation": PAPER_FRAMES["validation"]}
    sets = {
        which: build(
            options.work / "frames" / which,
            SimulatedDataset(seed=SEEDS[which], count=count, fbt=recipe.fbt),
            processes=options.processes,
        )
        for which, count in counts.items()
    }
    train, found = StoredFrames(sets["train"].in_memory()), {}
    for name, (architecture, fitting) in variants().items():
        if options.only and name not in options.only:
            continue
        fits = []
        for seed in range(options.seeds):
            begun = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                network, history = fit(
                    train,
                    sets["validation"],
                    architecture={**recipe.architecture, **architecture},
                    orders=recipe.fbt.orders,
                    settings=dataclasses.replace(recipe.fitting, epochs=options.epochs, seed=seed, **fitting),
                    checkpoint=Path(folder) / "checkpoint.safetensors",
                )
            fits.append({"validation": history[-1].validation, "seconds": round(time.monotonic() - begun, 1)})
            print(f"{name}: {fits[-1]}", file=sys.stderr)
        found[name] = {"fits": fits, **dataclasses.asdict(cost_of(network))}
    return {
        **{f"{which}_frames": len(frames) for which, frames in sets.items()},
        "epochs": options.epochs,
        "threads": torch.get_num_threads(),
        "variants": found,
    }


if __name__ == "__main__":
    run(
        "choose-default",
        __doc__,
        measure,
        work={"type": Path, "required": True, "help": "folder for frames, as of `dvfb train`"},
        frames=10_000,
        epochs=4,
        seeds=(1, "fits of each variant"),
        processes=(1, "simulating at a time"),
        only={"nargs": "*", "help": "names of variants; all by default"},
    )
