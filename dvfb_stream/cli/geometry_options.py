"""The geometry options that several commands share: beam centre or .poni, masks, detector."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dvfb_stream.cli.terminal import WrongCallError

if TYPE_CHECKING:
    from dvfb_stream.files import DetectorDescription


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
