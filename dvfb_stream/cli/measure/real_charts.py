"""Figures of what was measured on real frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dvfb_stream.cli.measure.aims import OF_ALTERATIONS, OF_REAL_FRAMES, Aim
from dvfb_stream.cli.measure.real_sheets import SHARES
from dvfb_stream.errors import MissingExtraError
from dvfb_stream.labels import TITLES
from dvfb_stream.training.real_frames.card_section import ALTERATIONS

try:
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError(error.name or "matplotlib", "files") from None

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

OUTCOMES = {"right": "#1e8449", "missed": "#d5d8dc", "wrong": "#c0392b"}
SCORES = {
    "average_precision": ("#c0392b", "average precision"),
    "roc_area": ("#2471a3", "area under the ROC curve"),
}


def real_figure(results: Mapping[str, Any]) -> Figure:
    """Draw what was measured on real frames: over all labels, how each is ranked, and what became of each.

    Parameters
    ----------
    results
        Of `measure_real`.
    """
    labels, shares = list(results["labels"]), [name for name in SHARES if name in results]
    figure = Figure(figsize=(14, 5), layout="constrained")
    whole, ranked, counted = figure.subplots(1, 3, width_ratios=(1, 1.2, 1))
    _draw_statistics(whole, [results[name] for name in shares], "#34495e", 0.0)
    _draw_aims(whole, [OF_REAL_FRAMES.get(name) for name in shares])
    whole.set_yticks(range(len(shares)), [SHARES[name] for name in shares])
    whole.set_title("over all labels", loc="left")
    for shift, (name, (colour, title)) in zip((-0.12, 0.12), SCORES.items(), strict=True):
        _draw_statistics(ranked, [results["labels"][label][name] for label in labels], colour, shift, title)
    ranked.legend(loc="lower left", frameon=False)
    ranked.set_title("ranking", loc="left")
    begun = np.zeros(len(labels))
    for outcome, colour in OUTCOMES.items():
        frames = np.array([results["labels"][label][outcome] for label in labels])
        counted.barh(range(len(labels)), frames, left=begun, color=colour, label=outcome)
        begun += frames
    counted.set_xlabel("frames")
    counted.set_title("acceptances", loc="left")
    counted.legend(frameon=False)
    counted.set_ylim(-0.5, len(labels) - 0.5)
    for axes in (ranked, counted):
        axes.set_yticks(range(len(labels)), [TITLES[label] for label in labels])
    for axes in (whole, ranked, counted):
        axes.invert_yaxis()
    figure.suptitle(
        f"{results['model']}: {results['frames']} real frames of {len(results['setups'])} set-ups, "
        "95 % intervals over set-ups",
        fontsize=10,
    )
    return figure


def invariance_figure(results: Mapping[str, Any]) -> Figure:
    """Draw the share of frames whose labels stay the same, an alteration a line.

    Parameters
    ----------
    results
        Of `measure_altered`.
    """
    names = list(results["alterations"])
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for shift, which, colour, title in (
        (-0.12, "unchanged", "#c0392b", "all of a frame's alterations"),
        (0.12, "each", "#2471a3", "each altered frame"),
    ):
        _draw_statistics(axes, [results["alterations"][name][which] for name in names], colour, shift, title)
    _draw_aims(axes, [OF_ALTERATIONS.get(name) for name in names])
    axes.set_yticks(range(len(names)), [ALTERATIONS[name] for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("share with the same accepted labels")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"{results['model']}: {results['frames']} real frames, altered in ways that change no label",
        fontsize=10,
    )
    return figure


def _draw_aims(axes: Axes, aims: Sequence[Aim | None]) -> None:
    """Draw what is aimed at as a bar across each line."""
    for place, aim in enumerate(aims):
        if aim is not None:
            title = "aim" if place == 0 else None
            axes.plot(aim.bound, place, "|", color="black", markersize=16, markeredgewidth=2, label=title)


def _draw_statistics(
    axes: Axes, found: Sequence[Mapping[str, Any]], colour: str, shift: float, title: str | None = None
) -> None:
    """Draw statistics as dots with intervals, a line each; what was not measured is left out."""
    for place, statistic in enumerate(found):
        if statistic["interval"] is not None:
            axes.plot(statistic["interval"], [place + shift] * 2, color=colour, linewidth=4, alpha=0.4)
        if statistic["value"] is not None:
            axes.plot(statistic["value"], place + shift, marker="o", color=colour, label=title)
            title = None
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.5, len(found) - 0.5)
    axes.grid(axis="x", alpha=0.4)
