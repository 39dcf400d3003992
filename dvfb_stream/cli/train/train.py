"""``dvfb train``: a model bundle from a preset."""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.options import Device, Json, Precision, Processes, option
from dvfb_stream.cli.terminal import TaskProgress, WrongCallError, report_note, say

if TYPE_CHECKING:
    from dvfb_stream.models import Bundle
    from dvfb_stream.training import Recipe

SCALE, FIT = "How many frames", "How to fit"
FRESH = "fresh"
MOST_FRAMES = 10_000_000
"""1.4 TB of views; the simulator takes weeks for them."""


def _count(help: str) -> object:  # noqa: A002
    return option("N", help, panel=SCALE, min=100, max=MOST_FRAMES)


def train(
    preset: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET]", help="What to train; without it, the presets are listed."),
    ] = None,
    *,
    work: Annotated[
        Path, option("FOLDER", "Frames (0.14 MB each), checkpoints and bundles; resumed if begun.")
    ] = Path("runs"),
    bundle: Annotated[
        Path | None, option("FOLDER", "Folder of the bundle.  [default: WORK/PRESET/bundle]")
    ] = None,
    name: Annotated[str | None, option("NAME", "Of the bundle.  [default: the preset's]")] = None,
    version: Annotated[str | None, option("VERSION", "Of the bundle.  [default: the preset's]")] = None,
    frames: Annotated[int | None, _count("To train on.  [default: the preset's, 45,000]")] = None,
    validation_frames: Annotated[int | None, _count("To choose and calibrate on.  [default: 4,000]")] = None,
    test_frames: Annotated[int | None, _count("To measure on.  [default: 5,000]")] = None,
    dataset: Annotated[
        str | None,
        option(
            "DATASET.h5|fresh",
            "Train on the views of a `dvfb simulate` dataset, or on fresh frames from the simulator in every epoch.  "
            "[default: frames that are simulated once]",
            panel=SCALE,
        ),
    ] = None,
    epochs: Annotated[
        int | None, option("N", "Passes over the frames.", panel=FIT, min=1, max=100_000)
    ] = None,
    batch_size: Annotated[int | None, option("N", "Frames a step.", panel=FIT, min=2, max=65_536)] = None,
    learning_rate: Annotated[float | None, option("RATE", "Peak.", panel=FIT)] = None,
    loss: Annotated[str | None, option("bce|asymmetric", "What is made small.", panel=FIT)] = None,
    patience: Annotated[
        int | None, option("N", "Epochs without progress before it ends; 0: never.", panel=FIT, min=0)
    ] = None,
    seed: Annotated[
        int | None, option("N", "Of weights, order, augmentation.", panel=FIT, min=0, max=2**63 - 1)
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    processes: Processes = None,
    json: Json = False,
) -> None:
    """Train a network and write it as a model bundle.

    Simulates what it learns from. Interrupted and called again in the same words, the command goes on where it was.
    Presets in one work folder share their frames, and a network that another builds on is trained once.

    dvfb train default

    dvfb train paper-joint --frames 10000 --work runs

    To fit heads of a trained network to frames of your own: dvfb adapt

    Where the command line's packages are not there, and on several GPUs by way of torchrun:
    python -m dvfb_stream.training PRESET --work FOLDER
    and for vgg16 and resnet50 python -m dvfb_stream.reproduction PRESET --work FOLDER
    """
    import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
    from dvfb_stream.errors import SettingsError
    from dvfb_stream.training import PRESETS
    from dvfb_stream.training import preset as find_preset

    if preset is None:
        purposes = {recipe.name: recipe.purpose for recipe in PRESETS.values()}
        if json:
            say(json_format.dumps(purposes))
        else:
            for known, purpose in purposes.items():
                say(f"{known:18} {purpose}")
        return
    chosen = find_preset(preset)
    try:
        chosen = chosen.changed(
            name=name,
            version=version,
            frames={"train": frames, "validation": validation_frames, "test": test_frames},
            fresh=dataset == FRESH,
            fitting={
                "epochs": epochs,
                "batch_size": batch_size,
                "learning_rate": learning_rate,
                "loss": loss,
                "patience": patience,
                "precision": precision,
                "seed": seed,
            },
        )
    except SettingsError as error:
        raise WrongCallError(str(error)) from error
    stored = None if dataset in (None, FRESH) else Path(dataset)
    result = _train(chosen, work, bundle, stored, device, processes or os.cpu_count() or 1)
    _show(result, bundle or work / chosen.name / "bundle", json=json)


def _train(
    recipe: Recipe, work: Path, bundle: Path | None, dataset: Path | None, device: str, processes: int
) -> Bundle:
    from dvfb_stream.fbt import find_device
    from dvfb_stream.training import Reports
    from dvfb_stream.training import train as follow

    stored = None
    if dataset is not None:
        from dvfb_stream.cli.train.stored_examples import read_dataset

        stored = read_dataset(dataset, work / "frames", recipe.fbt)
    try:
        with TaskProgress() as progress:
            return follow(
                recipe,
                work=work,
                bundle=bundle,
                stored=stored,
                processes=processes,
                device=str(find_device(device)),
                reports=Reports(
                    say=progress.say,
                    on_block=lambda which, done, total: progress.show(
                        f"simulating {which} frames, blocks of 100", done, total
                    ),
                    on_step=lambda epoch, step, steps, loss: progress.show(
                        f"epoch {epoch}", step, steps, f"loss {loss:.3f}"
                    ),
                    on_epoch=lambda epoch: progress.say(str(epoch)),
                ),
            )
    except KeyboardInterrupt:
        report_note(f"what is done is kept in {work}; called again in the same words, the command goes on")
        raise


def _show(bundle: Bundle, folder: Path, *, json: bool) -> None:
    facts = bundle.description.training
    test = facts["test"]
    scores = test["average_precision"][test["output"]]
    if json:
        say(
            json_format.dumps(
                {
                    "bundle": str(folder),
                    "model": str(bundle.identity),
                    "frames": facts["frames"],
                    "seconds": facts["fitting_seconds"],
                    "test": test,
                }
            )
        )
        return
    for label, score in scores.items():
        say(f"{label:16} {score:.4f}")
    say(f"{bundle.identity}: average precision on {facts['frames_taken']['test']} test frames, above")
    say(f"wrote {folder}; `dvfb annotate --model {folder} FILES` uses it")
