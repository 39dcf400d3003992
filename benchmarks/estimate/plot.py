"""Draw what `compare` and `scaling` printed as one picture, a PNG."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

OURS, THEIRS, WARNING = "#0b6e8f", "#b8c4cc", "#c8553d"

PANEL_WIDTH, ROW_HEIGHT = 7.0, 0.3
"""Inches."""

LABELS = {
    "scikit_learn_as_printed": "scikit-learn, as the paper ran it",
    "scikit_learn_as_printed_with_basis": "the same, stacking the basis each time",
    "scikit_learn_gram": "scikit-learn, Gram matrix",
    "scikit_learn_gram_batched": "scikit-learn, Gram matrix, batched",
    "scikit_learn_20_sweeps": "scikit-learn, ended after 20 sweeps",
    "skglm_gram": "skglm, Gram matrix",
    "fle_2d_evaluate_t": "fle_2d evaluate_t, batched",
    "fle_2d_evaluate_t_batch_1": "fle_2d evaluate_t, one by one",
    "fle_2d_expand": "fle_2d expand",
    "aspire_evaluate_t": "ASPIRE evaluate_t, batched",
    "aspire_evaluate_t_batch_1": "ASPIRE evaluate_t, one by one",
    "aspire_expand": "ASPIRE expand",
}


class ResultError(Exception):
    """A file is none of this benchmark's results."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT.json", help="of compare or scaling")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.png", help="where to draw")


def draw(paths: Sequence[Path], output: Path) -> None:
    """Draw the results of all files.

    Raises
    ------
    ResultError
        When a file cannot be read or is no result of `compare` or `scaling`, or the picture cannot be written.
    """
    panels: list[tuple[float, Callable[[Axes], None]]] = []
    machines = []
    for path in paths:
        result = _read(path)
        panels += PANELS[result["what"]](result)
        machines.append(f"{path.name}: {_machine(result['machine'])}")
    columns = 2 if len(panels) > 1 else 1
    rows = [panels[first : first + columns] for first in range(0, len(panels), columns)]
    heights = [max(height for height, _ in row) for row in rows]
    figure, axes = plt.subplots(
        len(rows),
        columns,
        squeeze=False,
        figsize=(PANEL_WIDTH * columns, sum(heights) + 0.3),
        gridspec_kw={"height_ratios": heights},
        layout="constrained",
    )
    for row, drawn in zip(axes, rows, strict=True):
        for axis, (_, paint) in zip(row, drawn, strict=False):
            axis.spines[["top", "right"]].set_basis(False)
            paint(axis)
        for axis in row[len(drawn) :]:
            axis.set_axis_off()
    figure.supxlabel("\n".join(machines), fontsize=7, color="#66727a")
    try:
        figure.savefig(output, dpi=150)
    except (OSError, ValueError) as error:
        raise ResultError(f"cannot write {output}: {error}") from error
    finally:
        plt.close(figure)


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ResultError(f"cannot read {path}: {error}") from error
    if not isinstance(result, dict) or result.get("what") not in PANELS:
        raise ResultError(f"{path} is no result of {' or '.join(PANELS)}")
    return result


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"{machine['device']}, {machine['cores']} cores, {machine['threads']['torch']} threads, "
        f"torch {machine['versions']['torch']}, load {machine['load_average']:.1f} at the start"
    )


def _label(name: str) -> str:
    if name.startswith("ours_batch_"):
        return f"ours, batch {name.rpartition('_')[2]}"
    for prefix, words in (
        ("plain_torch_batch_", "plain torch"),
        ("dense_projection_batch_", "one matrix product"),
    ):
        if name.startswith(prefix):
            return f"{words}, batch {name.removeprefix(prefix)}"
    return LABELS.get(name, name)


def _time(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _times(ratio: float) -> str:
    return f"{ratio:.0f} x" if ratio >= 10 else f"{ratio:.2g} x"


def _compare(result: dict[str, Any]) -> list[tuple[float, Callable[[Axes], None]]]:
    allowed = result["problem"]["excess_allowed"]
    panels = []
    for case in result["cases"]:
        for reading, found in case["readings"].items():
            title = (
                f"{case['name'].replace('_', '-')} beam, {reading.replace('_', '-')} penalty\n"
                f"{case['fitted_pixels']} pixels, {case['unknowns']} unknowns"
            )
            panels.append(_bars(title, found["contenders"], allowed))
    if result.get("full_disk", {}).get("contenders"):
        disk = result["full_disk"]
        title = f"full disk of {disk['size']} x {disk['size']} pixels, no mask\n(ours solves the elastic net besides)"
        panels.append(_bars(title, disk["contenders"], allowed))
    return panels


def _bars(
    title: str, contenders: list[dict[str, Any]], allowed: float
) -> tuple[float, Callable[[Axes], None]]:
    """Seconds per frame as bars on a logarithmic scale, the fastest on top."""
    ordered = sorted(contenders, key=lambda line: line["seconds_per_frame"]["median"])

    def paint(axis: Axes) -> None:
        medians = [line["seconds_per_frame"]["median"] for line in ordered]
        colors = [OURS if line["name"].startswith("ours") else THEIRS for line in ordered]
        axis.barh(range(len(ordered)), medians, color=colors, height=0.7)
        axis.set_yticks(range(len(ordered)), [_label(line["name"]) for line in ordered], fontsize=8)
        axis.invert_yaxis()
        axis.set_xscale("log")
        axis.set_xlim(min(medians) / 2, max(medians) * 30)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
        axis.tick_params(axis="x", labelsize=8)
        axis.set_xlabel("per frame, and times ours in its largest batch", fontsize=8)
        axis.set_title(title, fontsize=9, loc="left")
        for row, line in enumerate(ordered):
            excess = line.get("excess")
            far = excess is not None and excess > allowed
            above = f", {excess:.0e} above the minimum" if far else ""
            axis.text(
                medians[row] * 1.1,
                row,
                f"{_time(medians[row])}, {_times(line['times_ours'])}{above}",
                va="center",
                fontsize=7.5,
                color=WARNING if far else "#33404a",
            )

    return 1.1 + ROW_HEIGHT * len(ordered), paint


def _scaling(result: dict[str, Any]) -> list[tuple[float, Callable[[Axes], None]]]:
    pixels, unknowns = result["pixels"], sorted(result["unknowns"], key=lambda line: line["unknowns"])
    geometries = result["geometries"]
    batch = f"batch {result['batch']}"
    return [
        _curves("working pixels fitted", "840 unknowns, " + batch, pixels, "fitted_pixels"),
        _curves("unknowns", f"256 x 256 views, {batch}", unknowns, "unknowns"),
        _curves("frames in a batch", "256 x 256 views, 840 unknowns", result["batches"], "batch"),
        _curves(
            "geometries that take turns",
            f"{geometries['frames_per_visit']} frames a visit; the cache holds "
            f"{geometries['plans_within_bound']} estimators",
            geometries["counts"],
            "geometries",
            bound=geometries["plans_within_bound"],
        ),
        _estimators(
            "working pixels fitted", "what an estimator costs, 840 unknowns", pixels, "fitted_pixels"
        ),
        _estimators("unknowns", "what an estimator costs, 256 x 256 views", unknowns, "unknowns"),
    ]


def _curves(
    label: str, title: str, lines: list[dict[str, Any]], key: str, *, bound: int | None = None
) -> tuple[float, Callable[[Axes], None]]:
    """Seconds per frame against what grows, both logarithmic but for few geometries."""

    def paint(axis: Axes) -> None:
        x = [line[key] for line in lines]
        # Where only some visits build an estimator, the median hides them.
        figure = "mean" if "mean" in lines[0]["seconds_per_frame"] else "median"
        axis.plot(x, [line["seconds_per_frame"][figure] for line in lines], "o-", color=OURS, label=figure)
        axis.plot(x, [line["seconds_per_frame"]["least"] for line in lines], ":", color=OURS, label="least")
        axis.set_yscale("log")
        if bound is None:
            axis.set_xscale("log")
            axis.set_xticks(x, [str(value) for value in x], fontsize=7, rotation=30)
            axis.minorticks_off()
        else:
            axis.axvline(bound + 0.5, color=WARNING, linewidth=1, linestyle="--")
            axis.set_xticks(x)
        _finish(axis, label, title)
        axis.set_ylabel("per frame", fontsize=8)

    return 3.0, paint


def _estimators(
    label: str, title: str, lines: list[dict[str, Any]], key: str
) -> tuple[float, Callable[[Axes], None]]:
    """Seconds to build an estimator, and its bytes on an axis of their own."""

    def paint(axis: Axes) -> None:
        x = [line[key] for line in lines]
        axis.plot(x, [line["build_seconds_one_core"] for line in lines], "o-", color=OURS, label="one core")
        axis.plot(x, [line["build_seconds"] for line in lines], "o:", color=OURS, label="all threads")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(x, [str(value) for value in x], fontsize=7, rotation=30)
        axis.minorticks_off()
        memory = axis.twinx()
        memory.spines["top"].set_basis(False)
        memory.plot(x, [line["plan_bytes"] / 1e6 for line in lines], "s-", color=WARNING, markersize=4)
        memory.set_ylabel("MB held", fontsize=8, color=WARNING)
        memory.set_ylim(bottom=0)
        memory.tick_params(labelsize=8)
        _finish(axis, label, title)
        axis.set_ylabel("to build", fontsize=8)

    return 3.0, paint


def _finish(axis: Axes, label: str, title: str) -> None:
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_minor_locator(LogLocator(subs=()))
    low, high = axis.get_ylim()
    axis.set_ylim(low / 1.3, high * 1.3)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axis.tick_params(axis="y", labelsize=8)
    axis.set_xlabel(label, fontsize=8)
    axis.set_title(title, fontsize=9, loc="left")
    axis.legend(fontsize=7, frameon=False)


PANELS: dict[str, Callable[[dict[str, Any]], list[tuple[float, Callable[[Axes], None]]]]] = {
    "compare": _compare,
    "scaling": _scaling,
}
