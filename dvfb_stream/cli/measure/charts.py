"""Figures of what was measured: the paper's Figure 6, reliability diagrams, how novelty is distributed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.cli.measure.sheets import METHODS
from dvfb_stream.errors import MissingExtraError
from dvfb_stream.labels import LABELS, TITLES
from dvfb_stream.training.evaluation import expected_calibration_error

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError(error.name or "matplotlib", "files") from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = {
    "joint": ("o", "#c0392b"),
    "vgg16": ("^", "#2471a3"),
    "resnet50": ("v", "#1e8449"),
    "alexnet": ("s", "#b9770e"),
    "pcanet": ("P", "#7d3c98"),
    "lbphog": ("X", "#566573"),
}
BARS = "#d5d8dc"
BINS = 15
FEWEST_FRAMES = 10
"""In a bin of a reliability diagram; the share that fewer have is left to chance."""


def figure6(results: Mapping[str, Any]) -> Figure:
    """Draw average precision per label of six methods over the number of positive frames, a panel a domain.

    Parameters
    ----------
    results
        Of Table 4.
    """
    domains = results["domains"]
    figure = Figure(figsize=(11, 4.6 * len(domains)), layout="constrained")
    panels = figure.subplots(len(domains), 1, squeeze=False)[:, 0]
    for axes, (name, found) in zip(panels, domains.items(), strict=True):
        _draw_domain(axes, name, found)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_domain(axes: Axes, name: str, found: Mapping[str, Any]) -> None:
    labels = sorted(found["labels"], key=lambda label: -found["positives"][label])
    places = np.arange(len(labels))
    counts = axes.twinx()
    counts.bar(places, [found["positives"][label] for label in labels], color=BARS, width=0.72)
    counts.set_ylabel("positive frames", color="#808b96")
    counts.tick_params(axis="y", colors="#808b96")
    # Bars behind the markers, which belong to the other axes.
    axes.set_zorder(counts.get_zorder() + 1)
    axes.patch.set_visible(False)
    for method, (marker, colour) in STYLES.items():
        if method in found["methods"]:
            scores = found["methods"][method]["average_precision"]
            axes.plot(
                places,
                [scores.get(label, np.nan) for label in labels],
                marker=marker,
                color=colour,
                linewidth=1.0,
                markersize=6,
                label=METHODS[method],
            )
    axes.bar(0, np.nan, color=BARS, label="positive frames")
    axes.set_xticks(places, [_title(label) for label in labels], rotation=35, ha="right")
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylim(0.0, 1.03)
    axes.set_ylabel("average precision")
    axes.grid(axis="y", alpha=0.4)
    axes.set_title(
        f"{name}: {found['train_frames']} frames to fit, {found['test_frames']} to test", loc="left"
    )


def _title(label: str) -> str:
    return TITLES.get(label, label.replace("_", " ").capitalize())


def reliability_figure(probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> Figure:
    """Draw for each label how often it is there against how probable it was called, in bins of enough frames.

    Parameters
    ----------
    probabilities, truth
        (N, 10) each, in the order of `LABELS`.
    """
    figure = Figure(figsize=(13, 5.8), layout="constrained")
    grid = figure.subplots(2, 5, sharex=True, sharey=True)
    for k, (axes, label) in enumerate(zip(grid.flat, LABELS, strict=True)):
        stated, happened = probabilities[:, k], truth[:, k]
        which = np.minimum((stated * BINS).astype(int), BINS - 1)
        population = np.bincount(which, minlength=BINS)
        filled = population >= FEWEST_FRAMES
        centres = (np.arange(BINS) + 0.5) / BINS
        axes.bar(centres, population / population.max(), width=1 / BINS, color=BARS, label="frames (scaled)")
        axes.plot([0, 1], [0, 1], color="#808b96", linewidth=1.0, linestyle="--", label="perfect")
        axes.plot(
            np.bincount(which, weights=stated, minlength=BINS)[filled] / population[filled],
            np.bincount(which, weights=happened, minlength=BINS)[filled] / population[filled],
            marker="o",
            markersize=4,
            color="#c0392b",
            label="observed",
        )
        error = expected_calibration_error(stated[:, None], happened[:, None])
        axes.set_title(f"{TITLES[label]}, error {error:.3f}", fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
    for axes in grid[-1]:
        axes.set_xlabel("probability stated")
    figure.supylabel("share observed")
    handles, names = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False)
    return figure


NOVELTY_TITLES = {"novelty": "novelty", "fit_residual": "fit residual"}
COLOURS = {"familiar": "#1e8449", "domain": "#2471a3", "unfamiliar": "#c0392b"}


def novelty_figure(results: Mapping[str, Any]) -> Figure:
    """Draw how novelty and fit residual are distributed over each kind of frame.

    Parameters
    ----------
    results
        Of `measure_novelty`.
    """
    rows = [
        ("simulated", COLOURS["familiar"], results["familiar_scores"]),
        *((f"domain {name}", COLOURS["domain"], found) for name, found in results["domains"].items()),
        *((kind, COLOURS["unfamiliar"], found) for kind, found in results["kinds"].items()),
    ]
    figure = Figure(figsize=(11, 0.8 + 0.42 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(NOVELTY_TITLES), sharey=True)
    for axes, (score, title) in zip(panels, NOVELTY_TITLES.items(), strict=True):
        for place, (_, colour, found) in enumerate(rows):
            if found["quantiles"][score] is None:
                axes.text(
                    0.5, place, f"all {found['failed']} frames failed", ha="center", va="center", fontsize=9
                )
                continue
            quantiles = dict(zip(results["shares"], found["quantiles"][score], strict=True))
            for low, high, width in ((0.05, 0.95, 3.0), (0.25, 0.75, 9.0)):
                axes.plot(
                    [quantiles[low], quantiles[high]],
                    [place, place],
                    color=colour,
                    linewidth=width,
                    alpha=0.55,
                    solid_capstyle="butt",
                )
            axes.plot(quantiles[0.5], place, marker="o", color=colour, markersize=6, markeredgecolor="white")
            if "auroc" in found:
                area = found["auroc"][f"{score}_against_labelled"]
                axes.annotate(
                    f"{area:.3f}",
                    (1.01, place),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    fontsize=9,
                    annotation_clip=False,
                )
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel(title)
        axes.grid(axis="x", alpha=0.4)
        axes.set_title("AUROC", loc="right", fontsize=9)
    panels[0].set_yticks(range(len(rows)), [name for name, _, _ in rows])
    panels[0].invert_yaxis()
    figure.suptitle(
        f"{results['model']}: median, half and nine tenths of the frames of each kind; "
        f"AUROC against {results['labelled_frames']} simulated frames with labels",
        fontsize=10,
    )
    return figure
