"""The card of a bundle: what it was trained on, how well it does, and what it is not to be trusted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvfb_stream.labels import LABELS

COLUMNS = {"image": "image alone", "coefficient": "coefficients alone", "joint": "joint"}

SEVERAL_HEADS = """ "Image alone" and "coefficients alone" are the heads of
the two sub-networks, trained in the same pass."""


def write_card(name: str, version: str, facts: Mapping[str, Any]) -> str:
    """Return the text of `CARD.md` from the training facts that `model.json` holds."""
    frames, seeds, test = facts["frames"], facts["simulator_seeds"], facts["test"]
    return f"""# Model `{name}` {version}

{facts["purpose"][:1].upper()}{facts["purpose"][1:]}. Input: one detector frame with its geometry; output: a
probability for each of ten labels.

## Trained on

Simulated frames alone, of `dvfb_stream.simulation`. No real frame was used, neither to train nor to choose.

| | |
| --- | --- |
| training | {frames["train"]} frames, simulator seed {seeds["train"]} |
| calibration and thresholds | {frames["validation"]} frames, seed {seeds["validation"]} |
| test | {frames["test"]} frames, seed {seeds["test"]} |
| fit | {facts["fitting"]["epochs"]} epochs in {facts["fitting_seconds"] / 60:.0f} minutes |
| machine | {facts["machine"]}, torch {facts["software"]["torch"]} |
| date | {facts["date"]} |

## Average precision on simulated frames never seen

Test frames come from other experiments than training frames, hence have other centres, masks and samples, but they
come from the same simulator.{SEVERAL_HEADS if len(test["average_precision"]) > 1 else ""} A ranking without knowledge
scores the share of positives.

{precision_table(test["average_precision"], test["positive_ratio"])}

Expected calibration error over all labels: {test["expected_calibration_error"]:.4f}.

## What it is not to be trusted with

- It was never measured on labelled real frames: none are public in number. What the simulator does not know
  (samples, optics or parasitic scattering of a particular beamline) it has not seen either. `novelty` says
  which share of held-out simulated frames that show something look more familiar; near 1, a frame looks like none.
- Labels mean what `docs/labels.md` defines, which is what stands above the noise on valid pixels.
- The beam centre is taken as given. A wrong centre makes symmetry labels wrong.
"""


def precision_table(results: Mapping[str, Mapping[str, float]], ratios: Mapping[str, float]) -> str:
    """Return average precisions, one column a head, as a Markdown table beside the share of positives."""
    heads = [head for head in COLUMNS if head in results]
    lines = [
        f"| label | positives | {' | '.join(COLUMNS[head] for head in heads)} |",
        f"| --- | --- |{' --- |' * len(heads)}",
    ]
    for label in (*LABELS, "mean"):
        ratio = f"{ratios[label]:.4f}" if label in ratios else ""
        cells = (f"{results[head].get(label, float('nan')):.4f}" for head in heads)
        lines.append(f"| {label} | {ratio} | {' | '.join(cells)} |")
    return "\n".join(lines)
