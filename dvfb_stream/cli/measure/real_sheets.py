"""Tables of what was measured on real frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dvfb_stream.cli.measure.sheets import Sheet, circumstances
from dvfb_stream.labels import TITLES

Statistic = Mapping[str, Any]

SHARES = {
    "all_right": "Frames with every known label right",
    "mean_average_precision": "Mean average precision",
    "precision": "Precision of accepted labels",
    "recall": "Recall of accepted labels",
    "expected_calibration_error": "Calibration error",
}
ALTERATIONS = {
    "symmetries": "turned and mirrored, 7 ways, exactly",
    "rotations": "turned by 3 angles of any size",
    "centre_off": "centre off by 3 pixels, 4 ways",
    "counts_tenth": "a tenth of the counts",
    "counts_tenfold": "ten times the counts",
    "beamstop": "beamstop masked, or not masked",
    "binned": "2 x 2 pixels summed",
    "larger_detector": "on a detector 1.5 times as large",
}
WARNINGS = {"novelty": "Novelty", "fit_residual": "Fit residual"}


def stated(found: Statistic) -> str:
    """Return a statistic with its interval."""
    if found["value"] is None:
        return ""
    if found["interval"] is None:
        return f"{found['value']:.2f}"
    low, high = found["interval"]
    return f"{found['value']:.2f} ({low:.2f} to {high:.2f})"


def real_sheet(results: Mapping[str, Any]) -> Sheet:
    """Return the table of `measure_real`: a line a label, then what is over all of them."""
    rows = []
    for label, found in results["labels"].items():
        counts = [str(found[name]) for name in ("have_it", "have_it_not", "right", "wrong", "missed")]
        rows.append(
            [TITLES[label], *counts, *(stated(found[name]) for name in ("average_precision", "roc_area"))]
        )
    setups = results["setups"]
    without = f" without {', '.join(results['without'])}" if results.get("without") else ""
    precise = " at high_precision" if results["operating_point"] == "high_precision" else ""
    return Sheet(
        f"{results['model']}{precise}: {results['frames']} real frames of {len(setups)} set-ups, "
        f"{results['folder']}{without}",
        ("label", "have it", "have it not", "right", "wrong", "missed", "average precision", "ROC area"),
        rows,
        [
            *(f"{title}: {stated(results[name])}." for name, title in SHARES.items()),
            *(
                f"{WARNINGS[name]} finds frames with a label that is not as it should be: ROC area "
                f"{stated(found['against_any'])}; with a wrong accepted label: {stated(found['against_accepted'])}."
                for name, found in results["finds_wrong_frames"].items()
            ),
            "All right, by set-up: "
            + ", ".join(
                f"{name} {found['all_right']:.2f} of {found['frames']}" for name, found in setups.items()
            )
            + ".",
            "right, wrong: frames with the label accepted; missed: not accepted though they have it. All else weighs "
            "a frame by one over the frames of its set-up. In brackets 95 % intervals, "
            f"{results['draws']} bootstrap draws of set-ups.",
            circumstances(results),
        ],
    )


def invariance_sheet(results: Mapping[str, Any]) -> Sheet:
    """Return the table of `measure_altered`: a line an alteration."""
    rows = []
    for name, found in results["alterations"].items():
        often = sorted(found["labels"].items(), key=lambda label: -(label[1] or 0.0))[:2]
        rows.append(
            [
                ALTERATIONS[name],
                str(found["frames"]),
                stated(found["unchanged"]),
                stated(found["each"]),
                ", ".join(f"{label} {share:.2f}" for label, share in often if share),
            ]
        )
    twins = results["isotropic"]
    without = f" without {', '.join(results['without'])}" if results.get("without") else ""
    return Sheet(
        f"{results['model']}: labels that stay the same, {results['frames']} real frames of "
        f"{results['folder']}{without}",
        ("frames are", "frames", "all unchanged", "each unchanged", "what changes most"),
        rows,
        [
            f"Isotropic twins of {twins['frames']} frames with a fold or symmetry label: "
            f"{stated(twins['fold_or_symmetry'])}.",
            "all unchanged: share of frames with the same accepted labels in all ways that the line names; each "
            "unchanged: share of the altered frames; what changes most: labels and the share of altered frames in "
            "which they change. Shares weigh a frame by one over the frames of its set-up; in brackets 95 % "
            f"intervals, {results['draws']} bootstrap draws of set-ups.",
            circumstances(results),
        ],
    )
