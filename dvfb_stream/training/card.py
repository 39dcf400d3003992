"""The card of a bundle: what it was trained on, how well it does, and what it is not to be trusted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvfb_stream.training.evaluation import precision_table


def write_card(name: str, version: str, facts: Mapping[str, Any]) -> str:
    """Return the text of `CARD.md` from the training facts that `model.json` holds."""
    frames, test = facts["frames"], facts["test"]
    return f"""# Model `{name}` {version}

Joint double-view network (image CNN and Fourier-Bessel coefficient CNN with common fully connected layers), in
compact form. Input: one detector frame with its geometry; output: a probability for each of ten labels.

## Trained on

Simulated frames alone: {frames["train"]} frames of the simulator of `dvfb_stream.simulation`, seed
{facts["simulator_seeds"]["train"]}; {frames["validation"]} frames of seed
{facts["simulator_seeds"]["validation"]} for calibration and thresholds. No real frame was used, neither to train
nor to choose. {facts["fitting"]["epochs"]} epochs in {facts["fitting_seconds"] / 60:.0f} minutes on
{facts["machine"]}, torch {facts["software"]["torch"]}, {facts["date"]}.

## Average precision on simulated frames never seen

{frames["test"]} frames of seed {facts["simulator_seeds"]["test"]}: other experiments, hence other centres, masks
and samples, but the same simulator. "Image alone" and "coefficients alone" are the heads of the two sub-networks,
trained in the same pass. A ranking without knowledge scores the share of positives.

{precision_table(test["average_precision"], test["positive_ratio"])}

Expected calibration error of the joint head over all labels: {test["expected_calibration_error"]:.4f}.

## What it is not to be trusted with

- It was never measured on labelled real frames: none are public in number. What the simulator does not know
  (grazing incidence, crystals, parasitic scattering of a particular beamline) it has not seen either. `novelty`
  near 1 means that a frame looks like none of the simulation.
- Labels mean what `docs/labels.md` defines, which is what stands above the noise on valid pixels.
- The beam centre is taken as given. A wrong centre makes symmetry labels wrong.
"""
