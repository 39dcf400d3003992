"""From a seed to the weights of an unrolled encoder: simulate, solve, fit, measure, write down."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBesselSettings, PenaltyReading
from dvfb_stream.reproduction.encoder_training import problems
from dvfb_stream.reproduction.encoder_training.fitting import EncoderEpoch, EncoderFittingSettings, fit
from dvfb_stream.reproduction.encoders.weights import EncoderWeights, save_weights

SEEDS = {"train": 4, "validation": 5}
"""Of the simulator; not those of the bundles' recipe, whose test frames encoders are measured on."""

FITTING = {
    # Well conditioned: each layer squares what the one before it left; after three no network could tell.
    PenaltyReading.PER_SAMPLE: EncoderFittingSettings(layers=3, learning_rate=0.05),
    # Stiff: steps start far longer than the solver's, whose ρ is made for hundreds of them.
    PenaltyReading.UNIT_NORM: EncoderFittingSettings(
        layers=4, first_curvature=-3.0, curvature=-3.0, relaxation=1.2
    ),
}
"""What was found to fit each reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecipe:
    """All that trained weights depend on."""

    fbt: FourierBesselSettings = field(default_factory=FourierBesselSettings)
    train_geometries: int = 64
    validation_geometries: int = 12
    frames: int = 16
    """Of each geometry."""
    fitting: EncoderFittingSettings | None = None
    """None: `FITTING` of the reading."""


def train(
    recipe: EncoderRecipe,
    *,
    work: Path,
    weights: Path,
    processes: int = 1,
    say: Callable[[str], None] = lambda line: None,
    on_problem: Callable[[str, int, int], None] = lambda which, done, total: None,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> EncoderWeights:
    """Follow `recipe` and return the weights.

    Interrupted at any moment and called again, it goes on behind the last solved geometry or finished epoch.

    Parameters
    ----------
    work
        Folder for solved problems, 3 MB a geometry, and the checkpoint.
    weights
        File that is written.
    processes
        Simulating and solving at a time.
    say, on_problem, on_step
        Told about progress.

    Raises
    ------
    SettingsError
        When there is no L1 term to learn, a number is out of range, or problems of other settings are in the way.
    BundleError
        When the checkpoint belongs to another fit.
    OSError
        When a folder cannot be written; for the weights', before anything is simulated.
    """
    if recipe.fbt.penalty * recipe.fbt.l1_ratio == 0:
        raise SettingsError(
            f"penalty {recipe.fbt.penalty} with l1_ratio {recipe.fbt.l1_ratio} is least squares, which the linear "
            "encoder solves; there is nothing to learn"
        )
    weights.parent.mkdir(parents=True, exist_ok=True)
    fitting = FITTING[recipe.fbt.reading] if recipe.fitting is None else recipe.fitting
    counts = {"train": recipe.train_geometries, "validation": recipe.validation_geometries}
    solved = {}
    for which, seed in SEEDS.items():

        def report(done: int, total: int, which: str = which) -> None:
            on_problem(which, done, total)

        solved[which] = problems.build(
            work / which,
            seed=seed,
            geometries=counts[which],
            frames=recipe.frames,
            settings=recipe.fbt,
            processes=processes,
            report=report,
        )
    started = time.monotonic()

    def on_epoch(epoch: EncoderEpoch) -> None:
        measured = ", ".join(f"{name} {value:.2e}" for name, value in epoch.validation.items())
        say(f"epoch {epoch.number}: loss {epoch.loss:.3f}, validation {measured} ({epoch.seconds:.0f} s)")

    layers, history = fit(
        solved["train"],
        solved["validation"],
        orders=recipe.fbt.orders,
        settings=fitting,
        checkpoint=work / "checkpoint.safetensors",
        on_step=on_step,
        on_epoch=on_epoch,
    )
    say(f"fitted in {time.monotonic() - started:.0f} s")
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "simulator_seeds": SEEDS,
        "geometries": {which: len(part) for which, part in solved.items()},
        "frames": {which: sum(len(p.projections) for p in part) for which, part in solved.items()},
        "fitting": asdict(fitting),
        "history": [asdict(epoch) for epoch in history],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "software": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    return save_weights(weights, layers, settings=recipe.fbt, training=facts)
