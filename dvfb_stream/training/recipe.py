"""From a recipe to a bundle: simulate, fit stage by stage, calibrate, measure on frames never seen, write down."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dvfb_stream.azimuthal.ring_statistics import VERSION as RINGS_VERSION
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import find_device
from dvfb_stream.fbt.device import find_precision
from dvfb_stream.models import Bundle, load_bundle, save_bundle
from dvfb_stream.models.calibration import fit_label, probabilities
from dvfb_stream.models.network_cost import cost_of
from dvfb_stream.models.networks import AnnotationNetwork, mean_of_rings
from dvfb_stream.models.novelty import Novelty, novelty_inputs
from dvfb_stream.process_pool import process_pool
from dvfb_stream.training.card import write_card
from dvfb_stream.training.checkpoint import Epoch
from dvfb_stream.training.dataset import (
    FRAMES_PER_EXPERIMENT,
    EpochFrames,
    FreshFrames,
    SimulatedDataset,
    StoredFrames,
    beamline_simulation,
    build,
    default_simulation,
)
from dvfb_stream.training.evaluation import average_precision, expected_calibration_error, predict
from dvfb_stream.training.examples import Encoded, Examples, join, together
from dvfb_stream.training.fitting import fit, resolved
from dvfb_stream.training.outliers import LABELLED, OUTLIERS, encoded_outliers
from dvfb_stream.training.presets import SEEDS, Recipe, preset
from dvfb_stream.view import FULL_SCALE, MAXIMUM, VIEW_SIZE

FAMILIAR_FRAMES = 5_000
"""Training frames that the novelty score is fitted to."""

OUTLIER_EXPERIMENTS = 60
"""Geometries of the outliers that it is fitted to."""

OUTLIER_FRAMES = 8
"""Of each kind and geometry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """Who is told about progress."""

    say: Callable[[str], None] = lambda line: None
    """A line about what begins or has ended."""
    on_block: Callable[[str, int, int], None] = lambda which, done, total: None
    """Frames simulated: which set, blocks done, blocks in all."""
    on_step: Callable[[int, int, int, float], None] = lambda epoch, step, steps, loss: None
    """A step of the fit: epoch, step in it, steps an epoch, mean loss of the epoch so far."""
    on_epoch: Callable[[Epoch], None] = lambda epoch: None


def train(
    recipe: Recipe,
    *,
    work: Path,
    bundle: Path | None = None,
    stored: Examples | None = None,
    processes: int = 1,
    device: str = "cpu",
    reports: Reports | None = None,
) -> Bundle:
    """Follow `recipe` and return the bundle.

    Interrupted at any moment and called again, it goes on behind the last finished block of frames or epoch. Recipes
    in one `work` folder share its frames, and a stage that is finished there is not fitted again.

    Parameters
    ----------
    recipe
        What to train.
    work
        Folder for frames (0.14 MB each), checkpoints and the bundles of stages.
    bundle
        Folder that the bundle is written into; None: ``work/<name>/bundle``.
    stored
        Examples to train on instead of simulated ones; validation and test frames are simulated all the same.
    processes
        Simulating at a time.
    device
        Where to fit.
    reports
        Told about progress.

    Raises
    ------
    SettingsError
        When the device does not exist, frames of other settings are in the way, or a label does not occur in the
        training, validation or test frames.
    OSError
        When a folder cannot be written; for the bundle's, before anything is simulated.
    """
    reports = reports or Reports()
    bundle = bundle or work / recipe.name / "bundle"
    # Better refused now than after the fit.
    bundle.mkdir(parents=True, exist_ok=True)
    find_device(device)
    if stored is not None:
        known = stored.labels.shape[1]
        if known < len(recipe.labels):
            raise SettingsError(
                f"{recipe.name} learns {len(recipe.labels)} labels, but the frames of the dataset have {known}; "
                "simulate one with this version of dvfb simulate"
            )
        stored = dataclasses.replace(stored, labels=stored.labels[:, : len(recipe.labels)])
        recipe = dataclasses.replace(
            recipe, frames={**recipe.frames, "train": len(stored)}, fresh=False, paper_share=0.0
        )
    elif recipe.fresh:  # each epoch's are of one simulation
        recipe = dataclasses.replace(recipe, paper_share=0.0)
    stages = {
        view: _stage(
            name, recipe, work=work, stored=stored, processes=processes, device=device, reports=reports
        )
        for view, name in recipe.stages.items()
    }
    examples = simulate(recipe, work=work, stored=stored, processes=processes, reports=reports)
    if recipe.members:
        return _joined(
            recipe,
            examples,
            work=work,
            bundle=bundle,
            stored=stored,
            processes=processes,
            device=device,
            reports=reports,
        )
    checkpoint = work / recipe.name / "checkpoint.safetensors"
    recipe = dataclasses.replace(recipe, fitting=resolved(recipe.fitting, checkpoint, device))
    reports.say(f"{recipe.name}: fitting on {len(examples['train'])} frames in {recipe.fitting.precision}")
    with _frames_of_epochs(recipe, examples["train"], work, processes) as source:
        network, history = fit(
            source,
            examples["validation"],
            architecture=recipe.architecture,
            orders=recipe.fbt.orders,
            settings=recipe.fitting,
            checkpoint=checkpoint,
            device=device,
            start={view: _weights_of(stage, view) for view, stage in stages.items()},
            facts={"stages": {view: stage.identity.sha256 for view, stage in stages.items()}},
            on_step=reports.on_step,
            on_epoch=reports.on_epoch,
        )
    return finish(
        recipe,
        network,
        history,
        examples,
        stages=stages,
        work=work,
        bundle=bundle,
        device=device,
        reports=reports,
    )


def _joined(
    recipe: Recipe,
    examples: Mapping[str, Examples],
    *,
    work: Path,
    bundle: Path,
    stored: Examples | None,
    processes: int,
    device: str,
    reports: Reports,
) -> Bundle:
    """Return the bundle of the mean of ring networks, those fitted first that are not yet in `work`."""
    members = {
        name: _stage(
            name, recipe, work=work, stored=stored, processes=processes, device=device, reports=reports
        )
        for name in recipe.members
    }
    network, architecture = mean_of_rings(
        [member.network for member in members.values()],
        without=recipe.architecture["rings"].get("without", ()),
    )
    recipe = dataclasses.replace(
        recipe,
        architecture=architecture,  # the preset's, where its members are those of the preset
        fitting=dataclasses.replace(recipe.fitting, precision=find_precision("float32", device)),
    )
    return finish(
        recipe,
        network,
        [],
        examples,
        stages=members,
        work=work,
        bundle=bundle,
        device=device,
        reports=reports,
    )


@contextmanager
def _frames_of_epochs(recipe: Recipe, train: Examples, work: Path, processes: int) -> Iterator[EpochFrames]:
    if not recipe.fresh:
        yield StoredFrames(train.in_memory())
        return
    folder, epochs = work / recipe.name / "frames", recipe.fitting.epochs
    with process_pool(processes) as pool:
        yield FreshFrames(folder, _dataset(recipe, "train"), epochs=epochs, pool=pool)


def simulate(
    recipe: Recipe, *, work: Path, stored: Examples | None = None, processes: int, reports: Reports
) -> dict[str, Examples]:
    """Return the frames to train, validate and test on, those that `work` has not got yet being simulated.

    Parameters
    ----------
    recipe, work, processes, reports
        As `train`.
    stored
        Taken for the frames to train on.

    Raises
    ------
    SettingsError
        When a label does not occur in one of the three sets.
    """
    examples = {}
    for which in SEEDS:

        def report(done: int, total: int, which: str = which) -> None:
            reports.on_block(which, done, total)

        if which == "train" and stored is not None:
            examples[which] = stored
        else:
            examples[which] = build(
                work / "frames" / (f"{which}-beamlines" if recipe.beamlines else which),
                _dataset(recipe, which),
                processes=processes,
                report=report,
            )
        if which == "train" and stored is None and recipe.paper_frames:
            paper = dataclasses.replace(
                recipe, beamlines=False, frames={**recipe.frames, which: recipe.paper_frames}, paper_share=0.0
            )
            dataset = dataclasses.replace(_dataset(paper, which), labels=recipe.labels)
            examples[which] = together(
                examples[which],
                build(
                    work / "frames" / "train-beside-beamlines", dataset, processes=processes, report=report
                ),
            )
        absent = [label for k, label in enumerate(recipe.labels) if not examples[which].truth[:, k].any()]
        if absent:
            raise SettingsError(
                f"no {which} frame of {recipe.frames[which]} shows {', '.join(absent)}; simulate more"
            )
    return examples


def _dataset(recipe: Recipe, which: str) -> SimulatedDataset:
    return SimulatedDataset(
        seed=SEEDS[which],
        count=recipe.frames[which] - (recipe.paper_frames if which == "train" else 0),
        fbt=recipe.fbt,
        simulation=beamline_simulation() if recipe.beamlines else default_simulation(),
        labels=recipe.labels,
    )


def _stage(
    name: str,
    recipe: Recipe,
    *,
    work: Path,
    stored: Examples | None,
    processes: int,
    device: str,
    reports: Reports,
) -> Bundle:
    """Return the finished bundle of a stage at the scale of `recipe`, fitting it if it is not there."""
    wanted = dataclasses.replace(
        preset(name).changed(
            fitting={} if recipe.fitting.precision == "auto" else {"precision": recipe.fitting.precision}
        ),
        frames=recipe.frames,
        fbt=recipe.fbt,
        fresh=recipe.fresh,
    )
    folder = work / name / "bundle"
    if (folder / "model.json").exists():
        found = load_bundle(folder)
        frames = found.description.training.get("frames")
        if frames == _kept(wanted) and found.fbt_settings == recipe.fbt:
            return found
    reports.say(f"{recipe.name}: its first stage {name} comes before")
    return train(wanted, work=work, stored=stored, processes=processes, device=device, reports=reports)


def _kept(recipe: Recipe) -> dict[str, int]:
    return dict(recipe.frames)


def _weights_of(stage: Bundle, view: str) -> Mapping[str, Tensor]:
    return stage.network.branches[view].state_dict()


def finish(
    recipe: Recipe,
    network: AnnotationNetwork,
    history: list[Epoch],
    examples: Mapping[str, Examples],
    *,
    stages: Mapping[str, Bundle],
    work: Path,
    bundle: Path,
    device: str,
    reports: Reports,
) -> Bundle:
    """Calibrate a fitted network on the validation frames, measure it on the test frames and write its bundle."""
    reports.say(f"{recipe.name}: calibrating and measuring")
    output, precision = network.output, recipe.fitting.precision
    started = time.monotonic()
    logits, hidden = predict(network, examples["validation"], device=device, precision=precision)
    truth = examples["validation"].truth
    calibrations = {
        label: fit_label(logits[output][:, k], truth[:, k]) for k, label in enumerate(recipe.labels)
    }
    novelty = _fit_novelty(recipe, network, examples, hidden, work, device)
    test_logits, _ = predict(network, examples["test"], device=device, precision=precision)
    test_truth = examples["test"].truth
    stated = probabilities(test_logits[output], tuple(calibrations.values()))
    network.cpu()
    facts: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "purpose": recipe.purpose,
        "real_frames": recipe.real_frames,
        "simulator_seeds": SEEDS,
        "simulator": json.loads(_dataset(recipe, "train").origin())["software"]["simulator"],
        "frames": _kept(recipe),
        "paper_frames": recipe.paper_frames,
        "frames_taken": {which: len(part) for which, part in examples.items()},
        "fresh_frames": recipe.fresh,
        "fitting": asdict(recipe.fitting),
        "stages": {view: asdict(stage.identity) for view, stage in stages.items()},
        "members": {
            name: {
                key: stage.description.training[key]
                for key in ("fitting", "fitting_seconds", "history", "frames")
            }
            for name, stage in stages.items()
            if name in recipe.members
        },
        "history": [asdict(epoch) for epoch in history],
        "fitting_seconds": round(sum(epoch.seconds for epoch in history)),
        "cost": asdict(cost_of(network)),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, device {device}",
        "software": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "test": {
            "output": output,
            "positive_ratio": {
                label: float(test_truth[:, k].mean()) for k, label in enumerate(recipe.labels)
            },
            "average_precision": {
                head: average_precision(v, test_truth, recipe.labels) for head, v in test_logits.items()
            },
            "expected_calibration_error": expected_calibration_error(stated, test_truth),
            "seconds": round(time.monotonic() - started),
        },
    }
    return save_bundle(
        bundle,
        name=recipe.name,
        version=recipe.version,
        network=network,
        architecture=recipe.architecture,
        calibrations=calibrations,
        novelty=novelty,
        view={
            "size": VIEW_SIZE,
            "maximum": MAXIMUM,
            "full_scale": FULL_SCALE,
            **({"rings": RINGS_VERSION} if network.takes_rings else {}),
        },
        fbt=recipe.fbt,
        training=facts,
        card=write_card(recipe.name, recipe.version, facts),
        decision=recipe.decision,
    )


def _fit_novelty(
    recipe: Recipe,
    network: AnnotationNetwork,
    examples: Mapping[str, Examples],
    validation_hidden: NDArray[np.float32],
    work: Path,
    device: str,
) -> Novelty:
    """Fit the novelty score to frames that show something, against outliers of the same geometries."""
    train, validation = examples["train"].first(FAMILIAR_FRAMES), examples["validation"]
    outliers = _outliers(recipe, work)
    precision = recipe.fitting.precision
    _, familiar_hidden = predict(network, train, device=device, precision=precision)
    _, outlier_hidden = predict(network, outliers, device=device, precision=precision)
    return Novelty.fit(
        _novelty_inputs(network, train, familiar_hidden)[train.truth.any(axis=1)],
        _novelty_inputs(network, outliers, outlier_hidden),
        _novelty_inputs(network, validation, validation_hidden)[validation.truth.any(axis=1)],
    )


def _kinds(recipe: Recipe) -> tuple[str, ...]:
    """Return the outliers that a network shall find novel: not those for which it has a label."""
    return tuple(kind for kind in OUTLIERS if not (recipe.beamlines and kind in LABELLED))


def _outliers(recipe: Recipe, work: Path) -> Examples:
    """Return frames that are no scattering, made once for all recipes of a work folder."""
    sizes = tuple(sorted({default_simulation().size, _dataset(recipe, "train").simulation.size}))
    experiments = min(OUTLIER_EXPERIMENTS, max(1, recipe.frames["train"] // FRAMES_PER_EXPERIMENT))

    def parts() -> Iterator[tuple[Encoded, NDArray[np.bool_]]]:
        for encoded in encoded_outliers(
            SEEDS["train"],
            experiments=experiments,
            frames=OUTLIER_FRAMES,
            settings=recipe.fbt,
            kinds=_kinds(recipe),
            sizes=sizes,
        ):
            yield encoded, np.zeros((len(encoded.images), len(recipe.labels)), dtype=bool)

    origin = f"{_dataset(recipe, 'train').origin()} {experiments} {OUTLIER_FRAMES} {_kinds(recipe)}"
    key = hashlib.sha256(origin.encode()).hexdigest()[:12]
    most = experiments * OUTLIER_FRAMES * len(_kinds(recipe))
    return join(work / "frames" / f"outliers-{key}", most, parts)


def _novelty_inputs(
    network: AnnotationNetwork, examples: Examples, hidden: NDArray[np.float32]
) -> NDArray[np.float32]:
    parts = torch.split(torch.from_numpy(hidden), 256)
    return np.concatenate(
        [
            novelty_inputs(part, batch.images, batch.masks, invariant=network.invariant)
            for part, batch in zip(parts, examples.batches(256), strict=True)
        ]
    )
