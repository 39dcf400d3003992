"""Tables of what was measured on real frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dvfb_stream.cli.measure.aims import (
    OF_ALTERATIONS,
    OF_GRAZING_FRAMES,
    OF_REAL_FRAMES,
    OF_ROC_AREA,
    OF_TWINS,
    OF_WARNINGS,
    Aim,
)
from dvfb_stream.cli.measure.sheets import Sheet, circumstances
from dvfb_stream.labels import DIRECTED, LABELS, TITLES
from dvfb_stream.training.real_frames.card_section import ALTERATIONS, stated

Statistic = Mapping[str, Any]

SHARES = {
    "all_right": "Frames with every known label right",
    "mean_average_precision": "Mean average precision",
    "precision": "Precision of accepted labels",
    "recall": "Recall of accepted labels",
    "expected_calibration_error": "Calibration error",
    "coverage": "Known labels that are decided, not doubtful",
    "all_right_decided": "Frames with every decided label right",
}
COUNTS = ("have_it", "have_it_not", "right", "wrong", "missed", "doubtful")
MOST_TOLD = 12
"""Frames that are named beneath the table, those that change most; all are in the results' `outcomes`."""
WARNINGS = {
    "novelty": "Novelty",
    "fit_residual": "Fit residual",
    "doubtful_or_novel": "Share of doubtful labels, or novelty if that is larger,",
}


def real_sheet(results: Mapping[str, Any]) -> Sheet:
    """Return the table of `measure_real`: a line a label, then what is over all of them."""
    rows = []
    for label, found in results["labels"].items():
        counts = [str(found.get(name, "")) for name in COUNTS]
        area = found["roc_area"]
        aim = OF_ROC_AREA[label].beside(area["value"]) if label in OF_ROC_AREA else ""
        rows.append([TITLES[label], *counts, stated(found["average_precision"]), stated(area), aim])
    setups = results["setups"]
    without = f" without {', '.join(results['without'])}" if results.get("without") else ""
    precise = " at high_precision" if results["operating_point"] == "high_precision" else ""
    return Sheet(
        f"{results['model']}{precise}: {results['frames']} real frames of {len(setups)} set-ups, "
        f"{results['folder']}{without}",
        ("label", *(name.replace("_", " ") for name in COUNTS), "average precision", "ROC area", "aim"),
        rows,
        [
            *(
                f"{title}: {_with_aim(results[name], OF_REAL_FRAMES.get(name))}."
                for name, title in SHARES.items()
                if name in results
            ),
            *_warnings(results["finds_wrong_frames"]),
            *_grazing(results.get("grazing_frames", {"frames": 0})),
            "All right, by set-up: "
            + ", ".join(
                f"{name} {found['all_right']:.2f} of {found['frames']}" for name, found in setups.items()
            )
            + ".",
            "right, wrong: frames with the label accepted; missed: not accepted though they have it, be it rejected "
            "or doubtful. What is over all labels is over the ten. All else weighs a frame by one over the frames of "
            f"its set-up. In brackets 95 % intervals, {results['draws']} bootstrap draws of set-ups.",
            circumstances(results),
        ],
    )


def _with_aim(found: Statistic, aim: Aim | None) -> str:
    said = stated(found) or "not known"
    return said if aim is None else f"{said}; aim {aim.beside(found['value'])}"


def _warnings(warnings: Mapping[str, Any]) -> list[str]:
    """Return a line on each warning, that of doubtful labels with its aim."""
    return [
        f"{WARNINGS[name]} finds frames with a label that is not as it should be: ROC area "
        f"{_with_aim(found['against_any'], None)}; with a wrong accepted label: "
        f"{_with_aim(found['against_accepted'], OF_WARNINGS.get(name))}."
        for name, found in warnings.items()
    ]


def _grazing(found: Mapping[str, Any]) -> list[str]:
    if not found["frames"]:
        return []
    shares = [f"{label} {_with_aim(found[label], aim)}" for label, aim in OF_GRAZING_FRAMES.items()]
    return [f"Accepted on those of {found['frames']} grazing frames that have it not: {'. '.join(shares)}."]


def invariance_sheet(results: Mapping[str, Any]) -> Sheet:
    """Return the table of `measure_altered`: a line an alteration."""
    rows = []
    for name, found in results["alterations"].items():
        often = sorted(found["labels"].items(), key=lambda label: -(label[1] or 0.0))[:2]
        rows.append(
            [
                ALTERATIONS[name],
                str(found["frames"]),
                f"{found['altered'] / found['frames']:.0f}" if found["frames"] else "",
                stated(found["unchanged"]),
                OF_ALTERATIONS[name].beside(found["unchanged"]["value"]),
                stated(found["each"]),
                ", ".join(f"{label} {share:.2f}" for label, share in often if share),
            ]
        )
    twins = results["isotropic"]
    without = f" without {', '.join(results['without'])}" if results.get("without") else ""
    contradicted = [
        f"{ALTERATIONS[name]} {found['not_contradicted']['value']:.2f}"
        for name, found in results["alterations"].items()
        if found.get("not_contradicted", {}).get("value") is not None
    ]
    return Sheet(
        f"{results['model']}: labels that stay the same, {results['frames']} real frames of "
        f"{results['folder']}{without}{', quick' if results.get('quick') else ''}",
        ("frames are", "frames", "ways", "all unchanged", "aim", "each unchanged", "what changes most"),
        rows,
        [
            f"Isotropic twins of {twins['frames']} frames with a fold or symmetry label: "
            f"{_with_aim(twins['fold_or_symmetry'], OF_TWINS)}."
            + "".join(
                f" {outcome['name']} ({outcome['setup']}): {', '.join(labels)}."
                for outcome in results["outcomes"]
                if (labels := [label for label in DIRECTED if label in (outcome["twin"] or ())])
            ),
            *_changes(results["outcomes"]),
            *(
                [
                    "Altered frames of which no label is accepted here and rejected there, doubtful being neither: "
                    + ", ".join(contradicted)
                    + "."
                ]
                if any(outcome.get("doubtful") for outcome in results["outcomes"])
                else []
            ),
            "all unchanged: share of frames with the same accepted labels of the ten in all ways of that line; each "
            "unchanged: share of the altered frames; what changes most: labels and the share of altered frames in "
            "which they change. Shares weigh a frame by one over the frames of its set-up; in brackets 95 % "
            f"intervals, {results['draws']} bootstrap draws of set-ups.",
            circumstances(results),
        ],
    )


def _changes(outcomes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line on the frames that change in most ways, with the labels that they lose and get."""
    told = []
    for outcome in outcomes:
        ways = [(name, labels) for name, found in outcome["changed"].items() for labels in found]
        changes = Counter(label for _, labels in ways for label in labels if label in LABELS)
        if changes:
            lost_and_got = ", ".join(
                f"{'-' if label in outcome['labels'] else '+'}{label} in {often}"
                for label, often in changes.most_common()
            )
            n_changed = sum(any(label in LABELS for label in labels) for _, labels in ways)
            told.append((n_changed, f"{outcome['name']} ({outcome['setup']}) in {n_changed}: {lost_and_got}"))
    if not told:
        return []
    told.sort(key=lambda one: -one[0])
    more = f"; and {len(told) - MOST_TOLD} more, in the results" if len(told) > MOST_TOLD else ""
    return [
        "Frames that change, by the number of altered frames with other labels (- lost, + got): "
        + "; ".join(line for _, line in told[:MOST_TOLD])
        + f"{more}."
    ]
