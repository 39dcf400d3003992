"""From a seed to a bundle: simulate, fit, calibrate, measure on frames never seen, write down."""

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
from dvfb_stream.fbt import FourierBesselSettings, find_device
from dvfb_stream.labels import LABELS
from dvfb_stream.models import Bundle, save_bundle
from dvfb_stream.models.calibration import FeatureDensity, fit_label, probabilities
from dvfb_stream.training import dataset
from dvfb_stream.training.card import write_card
from dvfb_stream.training.evaluation import average_precision, expected_calibration_error, predict
from dvfb_stream.training.fitting import Epoch, FittingSettings, fit
from dvfb_stream.view import FULL_SCALE, MAXIMUM, VIEW_SIZE

SEEDS = {"train": 1, "validation": 2, "test": 3}
"""Of the simulator. Experiments of different seeds share nothing, neither centre nor mask nor sample."""

DENSITY_FRAMES = 10_000
"""Training frames that the feature density is fitted to; its covariance has 256² entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that a trained bundle depends on."""

    name: str = "default"
    version: str = "0.1.0"
    train_frames: int = 30_000
    validation_frames: int = 3_000
    test_frames: int = 5_000
    architecture: dict[str, Any] = field(default_factory=lambda: {"name": "joint-compact-1", "hidden": 256})
    fbt: FourierBesselSettings = field(default_factory=FourierBesselSettings)
    fitting: FittingSettings = field(default_factory=FittingSettings)


def train(
    recipe: Recipe,
    *,
    work: Path,
    bundle: Path,
    processes: int = 1,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
    on_shard: Callable[[str, int, int], None] = lambda which, done, total: None,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> Bundle:
    """Follow `recipe` and return the bundle.

    Interrupted at any moment and called again, it goes on behind the last finished shard or epoch.

    Parameters
    ----------
    work
        Folder for shards and the checkpoint.
    bundle
        Folder that the bundle is written into.
    processes
        Simulating at a time.
    device
        Where to fit.
    say, on_shard, on_step
        Told about progress.

    Raises
    ------
    SettingsError
        When the device does not exist, shards of other settings are in the way, or a label does not occur in the
        training, validation or test frames.
    OSError
        When a folder cannot be written; for the bundle's, before anything is simulated.
    """
    # Better refused now than after the fit.
    bundle.mkdir(parents=True, exist_ok=True)
    find_device(device)  # before an hour of simulation, not after
    started = time.monotonic()
    counts = {
        "train": recipe.train_frames,
        "validation": recipe.validation_frames,
        "test": recipe.test_frames,
    }
    examples = {}
    for which, seed in SEEDS.items():

        def report(done: int, total: int, which: str = which) -> None:
            on_shard(which, done, total)

        examples[which] = dataset.build(
            work / "shards" / which,
            seed=seed,
            count=counts[which],
            settings=recipe.fbt,
            processes=processes,
            report=report,
        )
        absent = [label for k, label in enumerate(LABELS) if not examples[which].labels[:, k].any()]
        if absent:
            raise SettingsError(
                f"no {which} frame of {counts[which]} shows {', '.join(absent)}; simulate more"
            )
    simulated = time.monotonic()
    say(f"{sum(map(len, examples.values()))} frames ready after {simulated - started:.0f} s; fitting")

    def on_epoch(epoch: Epoch) -> None:
        scores = ", ".join(f"{head} {score:.4f}" for head, score in epoch.validation.items())
        say(f"epoch {epoch.number}: loss {epoch.loss:.4f}, validation mAP {scores} ({epoch.seconds:.0f} s)")

    network, history = fit(
        examples["train"],
        examples["validation"],
        architecture=recipe.architecture,
        orders=recipe.fbt.orders,
        settings=recipe.fitting,
        checkpoint=work / "checkpoint.safetensors",
        device=device,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    logits, hidden = predict(network, examples["validation"])
    truth = examples["validation"].labels.numpy()
    calibrations = {label: fit_label(logits["joint"][:, k], truth[:, k]) for k, label in enumerate(LABELS)}
    _, familiar = predict(network, _first(examples["train"], DENSITY_FRAMES))
    density = FeatureDensity.fit(familiar, hidden)

    test_logits, _ = predict(network, examples["test"])
    test_truth = examples["test"].labels.numpy()
    stated = probabilities(test_logits["joint"], tuple(calibrations.values()))
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "simulator_seeds": SEEDS,
        "frames": {which: len(part) for which, part in examples.items()},
        "fitting": asdict(recipe.fitting),
        "history": [asdict(epoch) for epoch in history],
        "fitting_seconds": round(sum(epoch.seconds for epoch in history)),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, device {device}",
        "software": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "test": {
            "positive_ratio": {label: float(test_truth[:, k].mean()) for k, label in enumerate(LABELS)},
            "average_precision": {head: average_precision(v, test_truth) for head, v in test_logits.items()},
            "expected_calibration_error": expected_calibration_error(stated, test_truth),
        },
    }
    return save_bundle(
        bundle,
        name=recipe.name,
        version=recipe.version,
        network=network,
        architecture=recipe.architecture,
        calibrations=calibrations,
        density=density,
        view={"size": VIEW_SIZE, "maximum": MAXIMUM, "full_scale": FULL_SCALE},
        fbt=recipe.fbt,
        training=facts,
        card=write_card(recipe.name, recipe.version, facts),
    )


def _first(examples: dataset.Examples, count: int) -> dataset.Examples:
    return dataset.Examples(
        examples.images[:count],
        examples.masks[:count],
        examples.coefficients[:count],
        examples.labels[:count],
    )
