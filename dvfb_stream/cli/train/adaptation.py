"""``dvfb train --adapt LABELS.csv``: a bundle adapted to a beamline's own labelled frames."""

from __future__ import annotations

import hashlib
import json as json_format
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer
from numpy.typing import NDArray

from dvfb_stream.cli.frame_files import Failures
from dvfb_stream.cli.labelled.frames import Batch, FramesOfACentre, batches, by_centre, files_of
from dvfb_stream.cli.labelled.table import LabelTable, read_label_table
from dvfb_stream.cli.output_files import check_writable
from dvfb_stream.cli.terminal import FailureReporter, ProgressBar, WrongCallError, report_error
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import LABELS

if TYPE_CHECKING:
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.models import Bundle
    from dvfb_stream.training.adaptation import LabelledFeatures, LabelOutcome


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
    """Fit heads to the frames of a table of labels and write the adapted bundle.

    A frame that cannot be used costs a line on stderr.

    Parameters
    ----------
    labels
        CSV file, see `read_label_table`.
    model
        Base model: name or folder of a bundle.
    bundle
        Folder of the new bundle; None: the user's folder of bundles, where it is found by its name.
    name
        Of the new bundle; None: ``<base>-<name of the table>``.
    version
        Of the new bundle; None: the base's, its last number one higher.
    center_x, center_y, poni, mask, detector
        Geometry of frames whose centre the table does not say, as in ``dvfb annotate``.
    device
        Where the base model runs.
    augment
        Whether heads are fitted to turned and mirrored copies of the frames too.
    seed
        Of the cross-validation.

    Raises
    ------
    SettingsError
        When the table is wrong, the bundle cannot be written, or no frame can be used.
    BundleError
        When there is no such base model.
    """
    table = read_label_table(labels)
    groups = by_centre(table, center_x=center_x, center_y=center_y, poni=poni, mask=mask, detector=detector)
    # Last: it takes seconds, and most of what a user may have got wrong is known by now.
    from dvfb_stream.annotator import Annotator
    from dvfb_stream.models import find_bundle, load_bundle
    from dvfb_stream.training.adaptation import adapt, save_adapted
    from dvfb_stream.training.adaptation.bundle import next_version

    base = load_bundle(find_bundle(model))
    name = name or f"{base.identity.name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', labels.stem)}"
    folder = _folder(bundle, name)
    with ProgressBar(files_of(groups), "reading") as progress:
        reporter = FailureReporter(progress)
        labelled = _Gathering(Annotator(base, device=device), table, augment=augment).run(
            groups, progress, reporter
        )
        adaptation = adapt(labelled, seed=seed)
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
        typer.echo(
            json_format.dumps(
                {"bundle": folder, "model": model, "frames": result.frames, "outcomes": outcomes}
            )
        )
    else:
        for outcome in result.outcomes:
            typer.echo(str(outcome))
        if model is not None:
            typer.echo(f"wrote {model} to {result.folder}; `dvfb models show {result.folder}` describes it")
    if model is None:
        report_error("no label is judged better by a head of its own; no bundle was written")
    return model is not None and not result.failures


def _folder(bundle: Path | None, name: str) -> Path:
    """Return where the new bundle goes, a folder that is not there yet or is empty."""
    from dvfb_stream.models.registry import user_folder

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


class _Gathering:
    """Features and labels of the frames of a table, as they are read."""

    def __init__(self, annotator: Annotator, table: LabelTable, *, augment: bool) -> None:
        from dvfb_stream.training.adaptation import copies_of

        self._annotator = annotator
        self._table = table
        self._symmetries = copies_of(len(table.frames)) if augment else (0,)
        self._activations: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float64]] = []
        self._truth: list[NDArray[np.int8]] = []

    def run(
        self,
        groups: Sequence[FramesOfACentre],
        progress: ProgressBar,
        reporter: FailureReporter,
    ) -> LabelledFeatures:
        """Read all frames and return what is known of those that can be used."""
        from dvfb_stream.training.adaptation import LabelledFeatures

        batches(self._table, groups, progress, reporter, self._take)
        if not self._truth:
            raise SettingsError(
                f"none of the {len(self._table.frames)} frames of {self._table.path} can be used"
            )
        return LabelledFeatures(
            activations=np.concatenate(self._activations, axis=1),
            truth=np.stack(self._truth),
            scores=np.concatenate(self._scores),
            labels=self._table.labels,
        )

    def _take(self, batch: Batch, failures: Failures) -> None:
        """Take a batch through the network, in all copies."""
        from dvfb_stream.training.adaptation import turned
        from dvfb_stream.training.adaptation.heads import UNKNOWN

        readable = [read.frame for read, _ in batch if read.frame is not None]
        copies = [self._annotator.features([turned(f, s) for f in readable]) for s in self._symmetries]
        usable, place = [], 0
        for read, labelled in batch:
            reason = read.reason
            if read.frame is not None:
                reason = next((copy.reasons[place] for copy in copies if copy.reasons[place]), "")
                if not reason:
                    usable.append(place)
                    self._truth.append(
                        np.array([labelled.labels.get(label, UNKNOWN) for label in LABELS], dtype=np.int8)
                    )
                place += 1
            failures.see(read, reason or None)
        self._activations.append(np.stack([copy.activations[usable] for copy in copies]))
        self._scores.append(copies[0].scores[usable])
