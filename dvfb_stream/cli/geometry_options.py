"""The geometry options that several commands share: beam centre or .poni, masks, detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.terminal import WrongCallError

if TYPE_CHECKING:
    from dvfb_stream.files import DetectorDescription

PANEL = "Geometry: where the direct beam is, which pixels count"

CenterX = Annotated[
    float | None,
    typer.Option(
        help="Direct beam in pixels from the left; the centre of the first pixel is 0, so a program that counts "
        "from the pixel's edge (pyFAI, Fit2D) says 0.5 more. May lie off the image.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
CenterY = Annotated[
    float | None,
    typer.Option(
        help="Direct beam in pixels from the top row, the first in the file.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Poni = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="pyFAI geometry, instead of the two centres; the gaps of the detector it names are masked.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Mask of the frame's shape, as npy, text, tif, edf or file.h5::/path. 0 (False) means valid, 1 "
        "(True, or any other number) masked: the convention of pyFAI and Fit2D, boolean npy files included. "
        "Give it again for further masks; a pixel counts if none masks it. Negative pixels and the detector's "
        "overflow value are always masked.",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]
DetectorName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="pyFAI's name of the detector, to mask the gaps between its modules: Pilatus1M, Eiger2_4M, ...",
        rich_help_panel=PANEL,
        show_default=False,
    ),
]


def detector_description(
    center_x: float | None, center_y: float | None, poni: Path | None, masks: list[str], detector: str | None
) -> DetectorDescription:
    """Return what the geometry options of a command describe.

    Raises
    ------
    WrongCallError
        When the centre is missing, half given or given twice, or a value is out of range.
    """
    if poni is None and center_x is None and center_y is None:
        raise WrongCallError(
            "the beam centre is missing: give --center-x and --center-y in pixels, or --poni"
        )
    if poni is not None and (center_x is not None or center_y is not None):
        raise WrongCallError("give the beam centre once: by --center-x and --center-y, or by --poni")
    if poni is None and (center_x is None or center_y is None):
        missing = "--center-x" if center_x is None else "--center-y"
        raise WrongCallError(f"{missing} is missing: a beam centre has two coordinates")
    from pydantic import ValidationError

    from dvfb_stream.files import DetectorDescription

    try:
        return DetectorDescription(
            center_x=center_x, center_y=center_y, poni=poni, mask=tuple(masks), detector=detector
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        raise WrongCallError(f"{option}: {first['msg']}, not {first['input']}") from error


def files_read(files: list[str], description: DetectorDescription) -> list[str | Path]:
    """Return all files that a command reads, frames and geometry: none of them may be written to."""
    poni = [] if description.poni is None else [description.poni]
    return [*files, *description.mask, *poni]
