"""Sheets to look at, one a label: the real frames that a model is surest of, with what is measured on each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvfb_stream.cli.measure.label_frames import (
    FRAMES_SHOWN,
    JudgedFrame,
    LabelFrames,
    Verdict,
    labels_shown,
    most_confident,
)
from dvfb_stream.cli.output_files import figure_file
from dvfb_stream.cli.plot.azimuth import measure_azimuth
from dvfb_stream.cli.plot.azimuthal_panels import (
    draw_contrasts,
    draw_polar_map,
    legend_of_orders,
    order_in_words,
)
from dvfb_stream.cli.plot.panels import draw_view, new_figure
from dvfb_stream.cli.terminal import ProgressBar
from dvfb_stream.labels import TITLES
from dvfb_stream.view import make_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLUMN_INCHES, ROW_INCHES = 3.0, 6.3
MOST_CHARACTERS = 40
"""Of a frame's set-up and name; longer ones would run into the next."""


def draw_label_sheets(judged: Sequence[JudgedFrame], folder: Path, *, model: str) -> list[Path]:
    """Draw a sheet of each label of which there is a frame to show, and return the files, FOLDER/LABEL.png.

    Parameters are those of `draw_label_sheet` and `most_confident`; errors as well, and SettingsError when a file
    cannot be written.
    """
    labels = labels_shown(judged)
    written = []
    with ProgressBar(len(labels), "drawing") as progress:
        for label in labels:
            sheet = draw_label_sheet(most_confident(judged, label), model=model)
            inputs = [frame.real.spec for frame in judged]
            file = figure_file(folder / f"{label}.png", inputs, option="--figures: the figure")
            written.append(file.save(sheet))
            progress.advance()
    return written


def draw_label_sheet(frames: LabelFrames, *, model: str) -> Figure:
    """Return the sheet of a label: right frames above, wrong ones below.

    Of each its view, the azimuth-radius map, and against radius the contrast of orders 2, 4 and 6.

    Parameters
    ----------
    frames
        Of `most_confident`; read and measured here.
    model
        Whose labels they are.

    Raises
    ------
    FrameError, GeometryError
        When a frame cannot be read again.
    MissingExtraError
        When matplotlib is not installed.
    """
    right, wrong = _headings(frames)
    groups = ((right, frames.right), (wrong, frames.wrong))
    heights = [ROW_INCHES if shown else 0.7 for _, shown in groups]
    figure = new_figure(COLUMN_INCHES * FRAMES_SHOWN, sum(heights) + 0.9, "constrained")
    figure.suptitle(
        f"{TITLES[frames.label]}, known of {frames.known} real frames · {model}",
        fontsize=12,
        parse_math=False,
    )
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    for part, (title, shown) in zip(parts, groups, strict=True):
        part.suptitle(title, fontsize=10.5, x=0.01, ha="left", weight="bold")
        if shown:
            _draw_group(part, frames.label, shown)
    if any(shown for _, shown in groups):
        figure.legend(
            handles=legend_of_orders(), loc="outside lower center", ncols=5, fontsize=9, frameon=False
        )
    return figure


def _headings(frames: LabelFrames) -> tuple[str, str]:
    """Return what stands above the right frames, and above the wrong ones."""
    counts = frames.counts
    undecided = counts[Verdict.UNDECIDED]
    missed = counts[Verdict.MISSED] + undecided
    in_doubt = f" ({undecided} doubtful)" if undecided else ""
    most, least = "the most probable first", "the least probable first"
    return (
        f"rightly accepted: {counts[Verdict.RIGHT]}, {most}" if frames.right else "rightly accepted: none",
        f"accepted, but not there: {f'{counts[Verdict.WRONG]}, {most}' if counts[Verdict.WRONG] else 'none'}; "
        f"there, but not accepted: {f'{missed}{in_doubt}, {least}' if missed else 'none'}",
    )


def _draw_group(part: SubFigure, label: str, shown: Sequence[JudgedFrame]) -> None:
    panels = part.subplots(3, FRAMES_SHOWN, height_ratios=(2.1, 1, 1), squeeze=False)
    for column in range(FRAMES_SHOWN):
        view, polar, contrasts = panels[:, column]
        if column >= len(shown):
            for axes in (view, polar, contrasts):
                axes.set_axis_off()
            continue
        _draw_frame((view, polar, contrasts), label, shown[column])
    panels[1, 0].set_ylabel("azimuth", fontsize=8)
    panels[2, 0].set_ylabel("contrast", fontsize=8)


def _draw_frame(panels: Sequence[Axes], label: str, judged: JudgedFrame) -> None:
    view, polar, contrasts = panels
    frame = judged.real.read()
    seen = make_view(frame)
    azimuth = measure_azimuth(seen, frame.geometry)
    draw_view(view, seen)
    draw_polar_map(polar, azimuth)
    draw_contrasts(contrasts, azimuth)
    contrasts.set_xlabel("radius (view pixels)", fontsize=8)
    polar.tick_params(labelbottom=False)
    annotation = judged.annotation
    lines = (
        _cut(f"{judged.real.setup}: {judged.real.name}"),
        f"probability {annotation.scores[label]:.2f}: {judged.verdict(label)}",
        order_in_words(azimuth, annotation.measured_order, annotation.measured_contrast),
    )
    view.set_title("\n".join(lines), fontsize=8.5, parse_math=False)


def _cut(line: str) -> str:
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"
