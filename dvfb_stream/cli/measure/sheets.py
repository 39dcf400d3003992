"""Results as tables on a terminal or in Markdown, ours beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dvfb_stream.cli.terminal import print_lines, print_table
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import LABELS, TITLES
from dvfb_stream.reproduction import paper

SYMMETRY_LABELS = ("symmetry_halo", "symmetry_rings", "two_fold", "four_fold", "six_fold")

FEATURES = {
    "coefficients": "F-B coefficients",
    "log_coefficients": "log F-B coefficients",
    "image": "image CNN fc (AlexNet)",
    "coefficient": "coefficient CNN fc (2conv)",
    "joint": "joint fc (AlexNet + 2conv)",
}
METHODS = {
    "lbphog": "lbp + hog",
    "pcanet": "PCANet",
    "alexnet": "AlexNet fc",
    "vgg16": "VGG-16 fc",
    "resnet50": "ResNet-50 fc",
    "joint": "joint fc (AlexNet + 2c-pool-2c)",
}

LAST_WITHOUT_FIBRES = "2026-11-24"
"""Day up to which tables of the paper were measured, on frames that the simulator made before it had fibres."""

NOVELTY_SCORES = {
    "novelty": "novelty",
    "novelty_against_labelled": "labelled",
    "fit_residual": "residual",
    "fit_residual_against_labelled": "labelled",
}


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table and what is said beneath it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=tuple)


def print_results(results: Mapping[str, Any]) -> None:
    """Print results of any kind as a table."""
    made = sheet(results)
    print_table(made.columns, made.rows, title=made.title, breakable=made.columns[:1])
    print_lines(*made.notes)


def sheet(results: Mapping[str, Any]) -> Sheet:
    """Return the table of results, by their ``kind``.

    Raises
    ------
    SettingsError
        When there is no such kind of results, or they lack something.
    """
    kind = str(results.get("kind"))
    from dvfb_stream.cli.measure.real_sheets import invariance_sheet, real_sheet

    sheets = {**_SHEETS, "real": real_sheet, "invariance": invariance_sheet}
    if kind not in sheets:
        raise SettingsError(f"there are no results of the kind {kind!r}; there are {', '.join(sheets)}")
    try:
        return sheets[kind](results)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"these results of the kind {kind} are not whole ({type(error).__name__}: {error}); make them anew"
        ) from error


def _score(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def circumstances(results: Mapping[str, Any]) -> str:
    """Say where, when and how long something was measured."""
    return f"Measured on {results['device']}, {results['date']}, in {_duration(results['seconds'])}."


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"


def _trained(results: Mapping[str, Any]) -> list[str]:
    """Say what the networks are, and how far their fits are from the paper's."""
    lines = []
    if results["date"] <= LAST_WITHOUT_FIBRES:
        lines.append(
            "Of an earlier simulator: none of its frames, trained or measured on, has fibres. Nothing here compares "
            "with figures of the default model."
        )
    lines.append("The paper trains to convergence; ours are short fits with learning rates of their own:")
    for name, facts in results["trained_on"].items():
        fitting = facts["fitting"]
        steps = facts["epochs"] * (facts["frames"] // fitting["batch_size"])
        lines.append(
            f"{name} ({facts['preset']}): {facts['frames']} simulated frames, {facts['epochs']} epochs, {steps} "
            f"steps of {fitting['batch_size']} frames, learning rate {fitting['learning_rate']:g}, "
            f"{_duration(facts['seconds'])}, {facts['cost']['multiply_adds'] / 1e6:.0f} million multiply-adds a frame"
        )
    return lines


def _table1(results: Mapping[str, Any]) -> Sheet:
    rows = [
        [title, str(row["features"]), _score(row["average_precision"]["mean"]), _score(paper.TABLE_1[name])]
        for name, title in FEATURES.items()
        if (row := results["rows"].get(name)) is not None
    ]
    return Sheet(
        "Table 1: mean average precision of linear SVMs",
        ("feature", "length", "ours", "paper"),
        rows,
        [
            f"SVMs fitted to {results['svm_frames']} frames and measured on {results['test_frames']}, all simulated; "
            "the paper's 45,000 and 5,000 are other frames, of its own simulator.",
            *_trained(results),
            circumstances(results),
        ],
    )


def _table2(results: Mapping[str, Any]) -> Sheet:
    ours = {name: row["average_precision"] for name, row in results["rows"].items()}
    columns = ["label", "share"]
    for name in paper.TABLE_2:
        columns += [name, "paper"]
    rows = []
    for label in (*LABELS, "mean"):
        cells = [TITLES.get(label, "mean"), _score(results["positive_ratio"].get(label))]
        for name, printed in paper.TABLE_2.items():
            cells += [_score(ours[name].get(label)), _score(printed[label])]
        rows.append(cells)
    gain = ours["joint"]["mean"] - ours["image"]["mean"]
    printed_gain = paper.TABLE_2["joint"]["mean"] - paper.TABLE_2["image"]["mean"]
    better = [label for label in SYMMETRY_LABELS if ours["coefficient"][label] > ours["image"][label]]
    return Sheet(
        "Table 2: average precision per label",
        columns,
        rows,
        [
            "Share: of frames that have the label. Beside ours, what the paper states.",
            f"Joint over image alone: {100 * gain:+.1f} points of mean average precision (paper "
            f"{100 * printed_gain:+.1f}).",
            f"Symmetry labels that coefficients alone rank better than the image alone: "
            f"{', '.join(better) or 'none'} ({len(better)} of {len(SYMMETRY_LABELS)}).",
            f"Measured on {results['test_frames']} simulated frames; the paper's 5,000 are of its own simulator.",
            *_trained(results),
            circumstances(results),
        ],
    )


def _table4(results: Mapping[str, Any]) -> Sheet:
    domains = results["domains"]
    columns = ["method"]
    for name in domains:
        columns += [name, "paper"]
    rows = []
    for method, title in METHODS.items():
        cells = [title]
        for name, found in domains.items():
            measured = found["methods"].get(method)
            cells += [
                _score(measured and measured["average_precision"]["mean"]),
                _score(paper.TABLE_4[method][name]),
            ]
        rows.append(cells)
    sizes = "; ".join(
        f"{name}: {found['train_frames']} frames to fit, {found['test_frames']} to test, "
        f"{len(found['labels'])} labels"
        for name, found in domains.items()
    )
    return Sheet(
        "Table 4: mean average precision of kernel SVMs on domains that were not trained on",
        columns,
        rows,
        [
            f"{sizes}.",
            "Our domains are made by sasmodels and pyFAI; the paper's are experiments, which are not public. "
            "lbp + hog needs no training; PCANet learned its filters from frames of the domain. VGG-16 and ResNet-50 "
            "start from nothing and take fewer steps than the others (below): this table does not rank them.",
            *_trained(results),
            circumstances(results),
        ],
    )


def _model(results: Mapping[str, Any]) -> Sheet:
    heads = list(results["heads"])
    rows = []
    for label in (*LABELS, "mean"):
        error = (
            results["expected_calibration_error"]
            if label == "mean"
            else results["expected_calibration_error_per_label"][label]
        )
        rows.append(
            [
                TITLES.get(label, "mean"),
                _score(results["positive_ratio"].get(label)),
                *(_score(results["heads"][head].get(label)) for head in heads),
                _score(error),
            ]
        )
    return Sheet(
        f"{results['model']}: average precision",
        ("label", "positives", *heads, "calibration error"),
        rows,
        [
            f"Measured on {results['test_frames']} simulated frames.",
            "Calibration error by scaling of the logits, fitted to half of the frames and measured on the others: "
            + ", ".join(
                f"{name} {found['expected_calibration_error']:.4f}"
                for name, found in results["calibrations"].items()
            )
            + ".",
            circumstances(results),
        ],
    )


def _novelty(results: Mapping[str, Any]) -> Sheet:
    rows = [
        [title + name, str(found["frames"]), *(_score(found["auroc"][score]) for score in NOVELTY_SCORES)]
        for group, title in (("kinds", ""), ("domains", "domain "))
        for name, found in results[group].items()
    ]
    return Sheet(
        f"{results['model']}: area under the ROC curve, unfamiliar frames against familiar ones",
        ("kind of frame", "frames", *NOVELTY_SCORES.values()),
        rows,
        [
            f'Familiar: {results["familiar"]}; "labelled": against those with a label alone.',
            "A domain is scattering that another simulator made: 0.5 would be indistinguishable from ours.",
            circumstances(results),
        ],
    )


def _labelled(results: Mapping[str, Any]) -> Sheet:
    rows, confused = [], []
    for label, found in results["labels"].items():
        lowest, highest = found["lowest_positive"], found["highest_negative"]
        rows.append(
            [
                TITLES[label],
                str(found["positives"]),
                str(found["negatives"]),
                _score(lowest and lowest["score"]),
                _score(highest and highest["score"]),
                _score(found["average_precision"]),
            ]
        )
        if lowest and highest and lowest["score"] <= highest["score"]:
            confused.append(
                f"{label}: {_place(lowest)} has it and scores {lowest['score']:.4f}, {_place(highest)} has it not "
                f"and scores {highest['score']:.4f}."
            )
    return Sheet(
        f"{results['model']}: {len(results['frames'])} labelled frames of {results['table']}",
        ("label", "have it", "have it not", "lowest", "highest", "average precision"),
        rows,
        [
            '"lowest" is the lowest probability of a frame that has the label, "highest" the highest of one that has '
            "not.",
            *(confused or ["Every frame that has a label ranks above every frame that has not."]),
            circumstances(results),
        ],
    )


def _place(frame: Mapping[str, Any]) -> str:
    return f"{frame['file']}[{frame['index']}]"


_SHEETS: Mapping[str, Callable[[Mapping[str, Any]], Sheet]] = {
    "table-1": _table1,
    "table-2": _table2,
    "table-4": _table4,
    "model": _model,
    "novelty": _novelty,
    "labelled": _labelled,
}
