"""Draws the frames that were found as a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dvfb_stream.cli.output_files import figure_file
from dvfb_stream.cli.plot.contact_sheet import SheetFrame, SheetRun, draw_contact_sheet
from dvfb_stream.cli.terminal import report_note
from dvfb_stream.errors import DvfbError
from dvfb_stream.frames import Geometry
from dvfb_stream.view import ViewResampler

if TYPE_CHECKING:
    from dvfb_stream.catalog.searching.found_frames import FoundFrame, FoundFrames

MOST_FRAMES = 48
"""More are no more looked at than read."""
_SIDE = 256
"""Pixels of a view."""


def draw_sheet(found: FoundFrames, path: Path, *, title: str) -> None:
    """Draw the first frames that were found, run by run.

    Raises
    ------
    SettingsError
        When the file cannot be written.
    """
    runs: list[SheetRun] = []
    for frame in found[:MOST_FRAMES]:
        name = frame.raw_uid[:8]
        if not runs or runs[-1].title != name:
            runs.append(SheetRun(title=name, frames=[]))
        runs[-1].frames.append(_drawn(frame))  # type: ignore[attr-defined]
    if not runs:
        report_note("no sheet is drawn: no frame was found")
        return
    figure_file(path, option="--sheet").save(draw_contact_sheet(runs, title=title))
    drawn = min(MOST_FRAMES, len(found))
    report_note(f"contact sheet of {drawn} of {len(found)} frames: {path}")


def _drawn(frame: FoundFrame) -> SheetFrame:
    image = np.zeros((_SIDE, _SIDE), np.float32)
    mask = np.zeros((_SIDE, _SIDE), np.bool_)
    failure = str(frame.row["reason"] or "")
    if not failure:
        try:
            pixels = frame.image()
            view = ViewResampler(_geometry(pixels, frame.row)).view(pixels)
            image, mask = view.image, view.mask
        except DvfbError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - what Tiled's client raises where the file is not there any more
            failure = f"its pixels cannot be read ({error})"
    return SheetFrame(
        index=frame.frame,
        image=image,
        mask=mask,
        labels=frame.labels,
        doubtful=frame.doubtful,
        truth=None,
        failure=failure,
    )


def _geometry(pixels: Any, row: dict[str, Any]) -> Geometry:
    # The mask is not stored; what is no count, the frame's values say.
    return Geometry(shape=pixels.shape, center_x=row["center_x"], center_y=row["center_y"])
