"""The card of a bundle: how well it does, on real frames first, what it was trained on, what not to trust it with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from dvfb_stream.errors import SettingsError
from dvfb_stream.training.presets import PRESETS
from dvfb_stream.training.real_frames.card_section import real_section

Facts = Mapping[str, Any]

COLUMNS = {
    "image": "image alone",
    "rings": "rings alone",
    "coefficient": "coefficients alone",
    "joint": "joint",
}

WIDTH = 110
"""Characters of a line."""

SEVERAL_HEADS = """
Each sub-network alone has a head of its own, trained in the same pass."""

NOT_MEASURED = """\
It was not measured on labelled real frames. `dvfb evaluate --real` measures it, and `dvfb models card` writes this
card anew with what was found."""


def write_card(name: str, version: str, facts: Facts, *, measured: Sequence[Facts] = ()) -> str:
    """Return the text of `CARD.md`.

    Parameters
    ----------
    name, version
        Of the bundle.
    facts
        ``training`` of its `model.json`.
    measured
        Results on real frames, of `dvfb evaluate --real` (one an operating point) and `dvfb invariance`.

    Raises
    ------
    SettingsError
        When the facts are not those of a training, or results are of another kind or not whole.
    """
    try:
        return _card(name, version, facts, real_section(measured) if measured else NOT_MEASURED)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"no card can be written of {name} {version} ({type(error).__name__}: {error}): `training` of its "
            "model.json must be what `dvfb train` writes, results those of dvfb evaluate --real and dvfb invariance"
        ) from error


def _card(name: str, version: str, facts: Facts, real: str) -> str:
    frames, seeds, test = facts["frames"], facts["simulator_seeds"], facts["test"]
    precisions = test["average_precision"]
    heads = SEVERAL_HEADS if len(precisions) > 1 else ""
    return f"""# Model `{name}` {version}

{facts["purpose"][:1].upper()}{facts["purpose"][1:]}. Input: one detector frame with its geometry; output: a
probability for each of {len(test["positive_ratio"])} labels.

## On real frames

{real}

## Trained on

Frames of `dvfb_stream.simulation`. No real frame was trained on.

{fill(f"What real frames decided: {_decided(name, version, facts)}", WIDTH)}

| | |
| --- | --- |
| training | {frames["train"]} frames, simulator seed {seeds["train"]}{_settings(facts)} |
| calibration and thresholds | {frames["validation"]} frames, seed {seeds["validation"]} |
| test | {frames["test"]} frames, seed {seeds["test"]} |
| fit | {_fit(facts)} |
| machine | {facts["machine"]}, torch {facts["software"]["torch"]} |
| date | {facts["date"]} |

## Average precision on simulated frames never seen

Test frames come from other experiments than training frames, hence have other centres, masks and samples, but they
come from the same simulator: do not expect these figures of real frames.{heads}
A ranking without knowledge scores the share of positives.

{precision_table(precisions, test["positive_ratio"])}

Expected calibration error over all labels: {test["expected_calibration_error"]:.4f}.

## What it is not to be trusted with

- What the simulator does not know (samples, optics or parasitic scattering of a particular beamline) it has not seen
  either. `novelty` says which share of held-out simulated frames that show something look more familiar; near 1, a
  frame looks like none. It tells what is no scattering, not which labels are wrong.
- Probabilities and both thresholds were fitted to simulated frames. On real ones they promise what is measured above.
- Labels mean what `docs/labels.md` defines, which is what stands above the noise on valid pixels.
- The beam centre is taken as given. A wrong centre makes symmetry labels wrong.
"""


def _decided(name: str, version: str, facts: Facts) -> str:
    """Return what the training says, or the recipe where a bundle is older than that."""
    recipe = PRESETS.get(name)
    of_recipe = recipe.real_frames if recipe is not None and recipe.version == version else "not recorded"
    return f"{facts.get('real_frames', of_recipe).rstrip('.')}."


def _settings(facts: Facts) -> str:
    paper = facts.get("paper_frames", 0)
    return f"; {paper} of them as the paper's, the others as of real beamlines" if paper else ""


def _fit(facts: Facts) -> str:
    if facts.get("members"):
        return "mean of " + "; ".join(f"`{name}`, {_fit(one)}" for name, one in facts["members"].items())
    fitting, epochs = facts["fitting"], len(facts["history"])
    steps = epochs * (facts["frames"]["train"] // fitting["batch_size"])
    return (
        f"{epochs} epochs, {steps} steps of {fitting['batch_size']} frames by {fitting['optimizer']}, in "
        f"{facts['fitting_seconds'] / 60:.0f} minutes"
    )


def precision_table(results: Mapping[str, Mapping[str, float]], ratios: Mapping[str, float]) -> str:
    """Return average precisions, one column a head, as a Markdown table beside the share of positives."""
    heads = [
        *(head for head in COLUMNS if head in results),
        *(head for head in results if head not in COLUMNS),
    ]
    lines = [
        f"| label | positives | {' | '.join(COLUMNS.get(head, head) for head in heads)} |",
        f"| --- | --- |{' --- |' * len(heads)}",
    ]
    for label in (*ratios, "mean"):
        ratio = f"{ratios[label]:.4f}" if label in ratios else ""
        cells = (f"{results[head].get(label, float('nan')):.4f}" for head in heads)
        lines.append(f"| {label} | {ratio} | {' | '.join(cells)} |")
    return "\n".join(lines)
