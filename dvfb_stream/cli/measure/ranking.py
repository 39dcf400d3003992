"""``dvfb rank``: a model on frames that a scientist has labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dvfb_stream.annotator import Annotator
from dvfb_stream.cli.frame_files import Failures
from dvfb_stream.cli.labelled.frames import Batch, FramesOfACentre, batches, files_of
from dvfb_stream.cli.labelled.table import LabelTable
from dvfb_stream.cli.terminal import FailureReporter, ProgressBar
from dvfb_stream.errors import SettingsError
from dvfb_stream.models import Bundle
from dvfb_stream.training.evaluation import average_precision


def measure_labelled(
    bundle: Bundle, table: LabelTable, groups: Sequence[FramesOfACentre], *, device: str = "cpu"
) -> dict[str, Any]:
    """Return the probabilities of labelled frames, and how well they rank each label; JSON-ready.

    A frame that cannot be annotated costs a line on stderr.

    Parameters
    ----------
    bundle
        The model.
    table, groups
        What is known of the frames, and where they are.
    device
        Where to annotate.

    Returns
    -------
    dict
        ``frames``: of each its file, index, known ``truth``, ``scores``, accepted ``labels``, ``doubtful`` ones,
        ``novelty`` and ``fit_residual``. ``labels``: of each with a column how many frames have it and have it not,
        the lowest score of the former, the highest of the latter, each with its frame, and ``average_precision``,
        null where all known frames are alike.

    Raises
    ------
    SettingsError
        When no frame can be annotated.
    """
    annotator = Annotator(bundle, device=device)
    frames: list[dict[str, Any]] = []

    def take(batch: Batch, failures: Failures) -> None:
        readable = [read.frame for read, _ in batch if read.frame is not None]
        annotations = iter(annotator.annotate(readable))
        for read, labelled in batch:
            reason = read.reason
            if read.frame is not None:
                annotation = next(annotations)
                reason = annotation.reason
                if annotation.ok:
                    frames.append(
                        {
                            "file": Path(labelled.file).name,
                            "index": read.index,
                            "truth": dict(labelled.labels),
                            "scores": dict(annotation.scores),
                            "labels": list(annotation.labels),
                            "doubtful": list(annotation.doubtful),
                            "novelty": annotation.novelty,
                            "fit_residual": annotation.fit_residual,
                        }
                    )
            failures.see(read, reason or None)

    with ProgressBar(files_of(groups), "annotating") as progress:
        reporter = FailureReporter(progress)
        batches(table, groups, progress, reporter, take)
    if not frames:
        raise SettingsError(f"none of the {len(table.frames)} frames of {table.path} can be annotated")
    return {
        "model": str(bundle.identity),
        "table": table.path.name,
        "failures": reporter.failures,
        "labels": {label: _ranked(label, frames) for label in table.labels},
        "frames": frames,
    }


def _ranked(label: str, frames: Sequence[dict[str, Any]]) -> dict[str, Any]:
    known = [frame for frame in frames if label in frame["truth"]]
    truth = np.array([frame["truth"][label] == 1 for frame in known], dtype=bool)
    scores = np.array([frame["scores"][label] for frame in known])
    found: dict[str, Any] = {"positives": int(truth.sum()), "negatives": int((~truth).sum())}
    for which, among, extreme in (
        ("lowest_positive", truth, np.argmin),
        ("highest_negative", ~truth, np.argmax),
    ):
        places = np.flatnonzero(among)
        found[which] = None
        if len(places):
            place = int(places[extreme(scores[places])])
            found[which] = {
                "file": known[place]["file"],
                "index": known[place]["index"],
                "score": float(scores[place]),
            }
    found["average_precision"] = None
    if truth.any() and not truth.all():
        score = average_precision(scores[:, None], truth[:, None], (label,))[label]
        found["average_precision"] = None if math.isnan(score) else score
    return found
