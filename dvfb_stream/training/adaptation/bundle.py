"""An adapted bundle: the base model's network and calibration, a beamline's own heads, and a card that says so."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sklearn

from dvfb_stream.models import Bundle, save_bundle
from dvfb_stream.training.adaptation.heads import CERTAIN, FEWEST, FOLDS, Adaptation, LabelOutcome, joined


def next_version(version: str) -> str:
    """Return a version with its last number one higher; without a number, ``.1`` is appended."""
    found = re.search(r"\d+(?=\D*$)", version)
    if found is None:
        return f"{version}.1"
    return version[: found.start()] + str(int(found[0]) + 1) + version[found.end() :]


def save_adapted(
    base: Bundle,
    adaptation: Adaptation,
    folder: Path,
    *,
    name: str,
    version: str,
    frames: int,
    copies: int,
    source: Mapping[str, Any],
) -> Bundle:
    """Write the adapted bundle into `folder`, made if need be, and return it as read back.

    Parameters
    ----------
    base
        The model whose features the heads are fitted to.
    adaptation
        What `adapt` found.
    folder
        Written into.
    name, version
        Of the new bundle.
    frames
        Labelled frames that were used.
    copies
        Of each, the frame as it is included.
    source
        Where labels and frames came from, JSON-ready, for provenance.
    """
    description = base.description
    calibrations = dict(zip(description.labels, base.calibrations, strict=True)) | adaptation.calibrations
    outcomes = adaptation.outcomes
    facts = {
        "adapted_from": asdict(base.identity),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "labelled_frames": frames,
        "copies_of_each": copies,
        "source": dict(source),
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "test": _measured(outcomes),
        "machine": platform.machine(),
        "software": {
            "python": platform.python_version(),
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
        "base": description.training,
    }
    return save_bundle(
        folder,
        name=name,
        version=version,
        network=base.network,
        architecture=description.architecture,
        calibrations=calibrations,
        novelty=base.novelty,
        view=description.view,
        fbt=base.fbt_settings,
        training=facts,
        card=write_adapted_card(name, version, facts, outcomes),
        heads=joined(base.heads, adaptation.heads),
        decision=base.decision,
    )


def _measured(outcomes: tuple[LabelOutcome, ...]) -> dict[str, Any]:
    """Return what was measured in the form in which every bundle's results are kept."""
    measured = [outcome for outcome in outcomes if outcome.adapted is not None]
    after = {o.label: o.adapted if o.kept else o.base for o in measured}
    before = {o.label: o.base for o in measured}
    precisions = {"adapted": after, "base": before}
    return {
        "output": "adapted",
        "positive_ratio": {o.label: o.positive / (o.positive + o.negative) for o in measured},
        "average_precision": {
            which: {**values, "mean": float(np.mean(list(values.values())))} if values else {}
            for which, values in precisions.items()
        },
    }


def write_adapted_card(
    name: str, version: str, facts: Mapping[str, Any], outcomes: tuple[LabelOutcome, ...]
) -> str:
    """Return the text of `CARD.md` of an adapted bundle."""
    base = facts["adapted_from"]
    return f"""# Model `{name}` {version}

`{base["name"]}` {base["version"]} (weights {base["sha256"][:12]}), adapted to {facts["labelled_frames"]} labelled
frames of a beamline by kernel SVMs on the activations of its first fully connected layer, the paper's transfer
learning (section 4.3). The network itself is unchanged.

## Labels

| label | positive frames | negative frames | base model | adapted | judged by |
| --- | --- | --- | --- | --- | --- |
{_rows(outcomes)}

Average precision on the labelled frames. *Adapted* is cross-validated in {FOLDS} folds: each frame is judged by a
head that has seen neither it nor its turned and mirrored copies ({facts["copies_of_each"]} of each, with the frame
itself). A new head is in this bundle where it is the better of the two in {CERTAIN:.0%} of resamples of the frames,
and being chosen for that flatters it. A label with fewer than {FEWEST} frames of either kind was not adapted; labels
that the table does not have were not labelled. All these are judged by the base model, with its calibration.

Labelled from {facts["source"].get("labels", "a table")} on {facts["date"]}, scikit-learn
{facts["software"]["scikit-learn"]}.

## What it is not to be trusted with

- The adapted labels' probabilities are calibrated by the same cross-validation, hence hold where labels are as
  frequent as they were among the labelled frames.
- Frames of one scan look alike. Where the labelled frames have near twins among them, the table above promises too
  much for frames of other samples.
- `novelty` is still measured against the base model's training frames, and the card of the base model still holds.
"""


def _rows(outcomes: tuple[LabelOutcome, ...]) -> str:
    return "\n".join(
        f"| {o.label} | {o.positive} | {o.negative} | {_number(o.base)} | {_number(o.adapted)} | "
        f"{'the new head' if o.kept else 'the base model'} |"
        for o in outcomes
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
