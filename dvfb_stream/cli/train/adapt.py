"""``dvfb adapt``: new heads of a model for a beamline's own labelled frames."""

from __future__ import annotations

import hashlib
import json as json_format
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.options import (
    CenterX,
    CenterY,
    DetectorName,
    Device,
    Json,
    Masks,
    Model,
    Poni,
    flag,
    option,
)
from dvfb_stream.cli.terminal import (
    FailureReporter,
    ProgressBar,
    WrongCallError,
    quiet_libraries,
    report_error,
    say,
)
from dvfb_stream.errors import SettingsError

if TYPE_CHECKING:
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.cli.frame_files import Failures
    from dvfb_stream.cli.labelled.frames import Batch, FramesOfACentre
    from dvfb_stream.cli.labelled.table import LabelTable
    from dvfb_stream.models import Bundle
    from dvfb_stream.training.adaptation import LabelledFeatures, LabelOutcome


def adapt(
    labels: Annotated[
        Path, typer.Argument(metavar="LABELS.csv", help="Which frames have which labels (docs/models.md).")
    ],
    *,
    model: Model = "default",
    bundle: Annotated[
        Path | None,
        option("FOLDER", "Of the new bundle.  [default: where `dvfb models` finds it by its name]"),
    ] = None,
    name: Annotated[str | None, option("NAME", "Of the new bundle.  [default: MODEL-LABELS]")] = None,
    version: Annotated[
        str | None,
        option("VERSION", "Of the new bundle.  [default: the model's, its last number one higher]"),
    ] = None,
    augment: Annotated[bool, flag("Fit to turned and mirrored copies of the frames too.")] = True,
    seed: Annotated[int, option("N", "Of the cross-validation.", min=0, max=2**32 - 1)] = 0,
    center_x: CenterX = None,
    center_y: CenterY = None,
    poni: Poni = None,
    mask: Masks = None,
    detector: DetectorName = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Fit heads of a model to labelled frames of your own, and write the adapted model as a bundle.

    A label gets a head of its own where that judges frames it was not fitted to better; if none does, nothing is
    written and the exit status is 1. A frame that cannot be used costs one line on stderr.

    dvfb adapt labels.csv --center-x 302.7 --center-y 530.9
    """
    with quiet_libraries():
        adapted = adapt_from_csv(
            labels,
            model=model,
            bundle=bundle,
            name=name,
            version=version,
            center_x=center_x,
            center_y=center_y,
            poni=poni,
            mask=mask or [],
            detector=detector,
            device=device,
            augment=augment,
            seed=seed,
        )
    if not show_adaptation(adapted, json=json):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptationResult:
    """What came of a table of labels."""

    bundle: Bundle | None
    """None: no label got better, and nothing was written."""
    folder: Path
    """Of the bundle."""
    outcomes: tuple[LabelOutcome, ...]
    frames: int
    """Labelled frames that were used."""
    failures: int
    """Lines on stderr about frames that were not."""


def adapt_from_csv(
    labels: Path,
    *,
    model: str = "default",
    bundle: Path | None = None,
    name: str | None = None,
    version: str | None = None,
    center_x: float | None = None,
    center_y: float | None = None,
    poni: Path | None = None,
    mask: Sequence[str] = (),
    detector: str | None = None,
    device: str = "auto",
    augment: bool = True,
    seed: int = 0,
) -> AdaptationResult:
    """Fit heads to the frames of a table of labels and write the adapted bundle; the parameters are the command's.

    Raises
    ------
    SettingsError
        When the table is wrong, the bundle cannot be written, or no frame can be used.
    BundleError
        When there is no such base model.
    """
    from dvfb_stream.cli.labelled.frames import by_centre, files_of
    from dvfb_stream.cli.labelled.table import read_label_table

    table = read_label_table(labels)
    groups = by_centre(table, center_x=center_x, center_y=center_y, poni=poni, mask=mask, detector=detector)
    # Last: it takes seconds, and most of what a user may have got wrong is known by now.
    import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.models import find_bundle, load_bundle
    from dvfb_stream.training.adaptation import adapt as fit_heads
    from dvfb_stream.training.adaptation import save_adapted
    from dvfb_stream.training.adaptation.bundle import next_version

    base = load_bundle(find_bundle(model))
    name = name or f"{base.identity.name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', labels.stem)}"
    folder = _folder(bundle, name)
    with ProgressBar(files_of(groups), "reading") as progress:
        reporter = FailureReporter(progress)
        labelled = _features(
            Annotator(base, device=device), table, groups, progress, reporter, augment=augment
        )
        adaptation = fit_heads(labelled, seed=seed)
    written = None
    if adaptation.heads is not None:
        written = save_adapted(
            base,
            adaptation,
            folder,
            name=name,
            version=version or next_version(base.identity.version),
            frames=len(labelled.truth),
            copies=len(labelled.activations),
            source={
                "labels": labels.name,
                "sha256": hashlib.sha256(labels.read_bytes()).hexdigest(),
                "frames": len(table.frames),
                "augment": augment,
                "seed": seed,
            },
        )
    return AdaptationResult(
        bundle=written,
        folder=folder,
        outcomes=adaptation.outcomes,
        frames=len(labelled.truth),
        failures=reporter.failures,
    )


def show_adaptation(result: AdaptationResult, *, json: bool = False) -> bool:
    """Write what came of it to stdout; whether all went well."""
    model = None if result.bundle is None else str(result.bundle.identity)
    if json:
        outcomes = [asdict(outcome) for outcome in result.outcomes]
        folder = None if result.bundle is None else str(result.folder)
        say(
            json_format.dumps(
                {"bundle": folder, "model": model, "frames": result.frames, "outcomes": outcomes}
            )
        )
    else:
        for outcome in result.outcomes:
            say(str(outcome))
        if model is not None:
            say(f"wrote {model} to {result.folder}; `dvfb models show {result.folder}` describes it")
    if model is None:
        report_error("no label is judged better by a head of its own; no bundle was written")
    return model is not None and not result.failures


def _folder(bundle: Path | None, name: str) -> Path:
    """Return where the new bundle goes, a folder that is not there yet or is empty."""
    from dvfb_stream.cli.output_files import check_writable
    from dvfb_stream.models import user_folder

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise WrongCallError(f"--name {name!r}: a bundle's name has letters, digits, and . _ - between them")
    folder = user_folder() / name if bundle is None else bundle
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder} exists already; give another --name or --bundle, or delete it")
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be made: {error.strerror or error}") from error
    check_writable(folder, f"bundle {folder}")
    if new:
        folder.rmdir()  # made again when there is something to put into it
    return folder


def _features(
    annotator: Annotator,
    table: LabelTable,
    groups: Sequence[FramesOfACentre],
    progress: ProgressBar,
    reporter: FailureReporter,
    *,
    augment: bool,
) -> LabelledFeatures:
    """Return what the network makes of the frames that can be used, in all their copies."""
    import numpy as np

    from dvfb_stream.cli.labelled.frames import batches
    from dvfb_stream.examination import features_of
    from dvfb_stream.labels import LABELS
    from dvfb_stream.training.adaptation import LabelledFeatures, copies_of, turned
    from dvfb_stream.training.adaptation.heads import UNKNOWN

    symmetries = copies_of(len(table.frames)) if augment else (0,)
    activations, scores, truth = [], [], []

    def take(batch: Batch, failures: Failures) -> None:
        readable = [read.frame for read, _ in batch if read.frame is not None]
        copies = [
            features_of(annotator, [turned(frame, symmetry) for frame in readable]) for symmetry in symmetries
        ]
        reasons = iter(zip(*(copy.reasons for copy in copies), strict=True))
        usable = []
        for read, labelled in batch:
            reason = read.reason
            if read.frame is not None:
                reason = next(filter(None, next(reasons)), "")
                usable.append(not reason)
            if not reason:
                truth.append([labelled.labels.get(label, UNKNOWN) for label in LABELS])
            failures.see(read, reason or None)
        activations.append(np.stack([copy.activations[usable] for copy in copies]))
        scores.append(copies[0].scores[usable])

    batches(table, groups, progress, reporter, take)
    if not truth:
        raise SettingsError(f"none of the {len(table.frames)} frames of {table.path} can be used")
    return LabelledFeatures(
        activations=np.concatenate(activations, axis=1),
        truth=np.array(truth, dtype=np.int8),
        scores=np.concatenate(scores)[:, : len(LABELS)],
        labels=table.labels,
    )
