"""``dvfb train``: a model bundle from a preset, or one adapted to a beamline's own labelled frames."""

from __future__ import annotations

import json as json_format
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.geometry_options import CenterX, CenterY, DetectorName, Masks, Poni
from dvfb_stream.cli.terminal import (
    TaskProgress,
    WrongCallError,
    quiet_libraries,
    refuse_options,
    report_note,
)

if TYPE_CHECKING:
    from dvfb_stream.models import Bundle
    from dvfb_stream.training import Recipe

DEFAULT = "default"
SCALE, FIT, ADAPT = "How many frames", "How to fit", "Adapting to a beamline"


def train(
    preset: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET]", help="What to train; without it, the presets are listed."),
    ] = None,
    *,
    work: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Frames (0.14 MB each), checkpoints and bundles; resumed if begun."
        ),
    ] = Path("runs"),
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of the bundle.  [default: WORK/PRESET/bundle]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the bundle.  [default: the preset's]")] = None,
    version: Annotated[str | None, typer.Option(help="Of the bundle.  [default: the preset's]")] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=100, help="To train on.  [default: the preset's, 45,000]", rich_help_panel=SCALE),
    ] = None,
    validation_frames: Annotated[
        int | None,
        typer.Option(min=100, help="To choose and calibrate on.  [default: 4,000]", rich_help_panel=SCALE),
    ] = None,
    test_frames: Annotated[
        int | None, typer.Option(min=100, help="To measure on.  [default: 5,000]", rich_help_panel=SCALE)
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET.h5",
            help="Train on the views of a `dvfb simulate` dataset instead of simulating.",
            rich_help_panel=SCALE,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="New frames from the simulator for every epoch.", rich_help_panel=SCALE),
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the frames.", rich_help_panel=FIT)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=2, help="Frames a step.", rich_help_panel=FIT)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak.", rich_help_panel=FIT)] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="bce|asymmetric", help="What is made small.", rich_help_panel=FIT)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=0, help="Epochs without progress before it ends; 0: never.", rich_help_panel=FIT),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of weights, order, augmentation.", rich_help_panel=FIT)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=FIT)] = "auto",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Simulating at a time.  [default: one a core]")
    ] = None,
    adapt: Annotated[
        Path | None,
        typer.Option(
            metavar="LABELS.csv",
            help="Fit new heads to your own labelled frames instead of training a network (docs/models.md).",
            rich_help_panel=ADAPT,
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Bundle to adapt.", rich_help_panel=ADAPT)] = DEFAULT,
    augment: Annotated[
        bool,
        typer.Option(help="Fit to turned and mirrored copies of the frames too.", rich_help_panel=ADAPT),
    ] = True,
    center_x: CenterX = None,
    center_y: CenterY = None,
    poni: Poni = None,
    mask: Masks = None,
    detector: DetectorName = None,
    json: Annotated[bool, typer.Option("--json", help="Write the result as a JSON object.")] = False,
) -> None:
    """Train a network and write it as a model bundle, or adapt one to a beamline's own frames.

    Simulates what it learns from. Interrupted and called again in the same words, the command goes on where it was.
    Presets in one work folder share their frames, and a network that another builds on is trained once.

    dvfb train default

    dvfb train paper-joint --frames 10000 --work runs

    dvfb train --adapt labels.csv --center-x 302.7 --center-y 530.9

    Where the command line's packages are not there, and on several GPUs by way of torchrun:
    python -m dvfb_stream.training PRESET --work FOLDER
    """
    geometry: dict[str, Any] = {
        "center_x": center_x,
        "center_y": center_y,
        "poni": poni,
        "mask": mask or [],
        "detector": detector,
    }
    fitting = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "loss": loss,
        "patience": patience,
    }
    if adapt is not None:
        if preset is not None:
            raise WrongCallError("--adapt fits heads on a bundle that is there; leave the preset away")
        refuse_options(
            "is for training a network; --adapt fits heads on one that is there",
            frames=frames,
            validation_frames=validation_frames,
            test_frames=test_frames,
            dataset=dataset,
            fresh=fresh,
            **fitting,
            processes=processes,
        )
        from dvfb_stream.cli.train.adaptation import adapt_from_csv, show_adaptation

        with quiet_libraries():
            adapted = adapt_from_csv(
                adapt,
                model=model,
                bundle=bundle,
                name=name,
                version=version,
                **geometry,
                device=device,
                augment=augment,
                seed=seed or 0,
            )
        if not show_adaptation(adapted, json=json):
            raise typer.Exit(1)
        return
    from dvfb_stream.errors import SettingsError
    from dvfb_stream.training import PRESETS
    from dvfb_stream.training import preset as find_preset

    if preset is None:
        if json:
            typer.echo(json_format.dumps({recipe.name: recipe.purpose for recipe in PRESETS.values()}))
            return
        for recipe in PRESETS.values():
            typer.echo(f"{recipe.name:18} {recipe.purpose}")
        return
    refuse_options(
        "belongs to --adapt",
        **geometry,
        model=None if model == DEFAULT else model,
        no_augment=not augment,
    )
    chosen = find_preset(preset)
    if fresh and dataset is not None:
        raise WrongCallError("--fresh simulates new frames and --dataset uses stored ones; give one of them")
    try:
        chosen = chosen.changed(
            name=name,
            version=version,
            frames={"train": frames, "validation": validation_frames, "test": test_frames},
            fresh=fresh,
            fitting={**fitting, "seed": seed},
        )
    except SettingsError as error:
        raise WrongCallError(str(error)) from error
    result = _train(chosen, work, bundle, dataset, device, processes or os.cpu_count() or 1)
    _show(result, bundle or work / chosen.name / "bundle", json=json)


def _train(
    recipe: Recipe, work: Path, bundle: Path | None, dataset: Path | None, device: str, processes: int
) -> Bundle:
    from dvfb_stream.fbt import find_device
    from dvfb_stream.training import Reports
    from dvfb_stream.training import train as follow

    stored = None
    if dataset is not None:
        from dvfb_stream.cli.train.stored import read_dataset

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
        typer.echo(
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
        typer.echo(f"{label:16} {score:.4f}")
    typer.echo(f"{bundle.identity}: average precision on {facts['frames_taken']['test']} test frames, above")
    typer.echo(f"wrote {folder}; `dvfb annotate --model {folder} FILES` uses it")
