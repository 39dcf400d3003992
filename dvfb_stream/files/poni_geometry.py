"""What pyFAI knows: the gaps of each detector, and from a .poni file where the direct beam hits it."""

from __future__ import annotations

import difflib
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import GeometryError, MissingExtraError

logger = logging.getLogger(__name__)

SMALLEST_COSINE = 1e-3
"""Of the angle between the beam and the detector's normal: beyond 89.9 degrees the direct beam misses the plane."""


@dataclass(frozen=True, slots=True, eq=False)
class PoniGeometry:
    """What a .poni file says that matters here."""

    center_x: float
    """Direct beam in pixels; pixel centres at integers, x to the right, y down; may lie off the image."""
    center_y: float
    shape: tuple[int, int] | None
    """(rows, columns) of the detector; None where the file names none."""
    mask: NDArray[np.bool_] | None
    """Boolean, True = valid, from pyFAI's definition of the detector; None where it has no gaps."""


def detector_mask(name: str) -> NDArray[np.bool_]:
    """Return which pixels of a detector are between its modules' gaps, by pyFAI's definition.

    Parameters
    ----------
    name
        pyFAI's name or alias, upper or lower case, with or without spaces, - and _: ``Pilatus1M``, ``eiger2_4m``.

    Returns
    -------
    Boolean array of the detector's shape, True = valid; all True where the detector has no gaps.

    Raises
    ------
    GeometryError
        When pyFAI knows no such detector (the message has the nearest names) or the name has no shape.
    MissingExtraError
        When pyFAI is not installed.
    """
    detectors = _pyfai_detectors()
    classes = {_plain(known): detector for known, detector in detectors.Detector.registry.items()}
    wanted = _plain(name)
    if wanted not in classes:
        readable = {key: detector.__name__ for key, detector in classes.items()}
        near = difflib.get_close_matches(wanted, readable, n=8, cutoff=0.5)
        names = list(dict.fromkeys(readable[key] for key in near))[:4]
        cure = f"did you mean {', '.join(names)}?" if names else "pyFAI's documentation lists the names"
        raise GeometryError(f"pyFAI knows no detector {name!r}; {cure}")
    detector = classes[wanted]()
    if detector.shape is None:
        raise GeometryError(
            f"the detector {name!r} has no shape of its own; name the model, for example Pilatus1M"
        )
    mask = _validity(detector)
    return np.ones(detector.shape, dtype=bool) if mask is None else mask


def read_poni(path: str | Path) -> PoniGeometry:
    """Return where the direct beam hits the detector of a .poni file, and that detector's shape and gaps.

    The beam along the z axis meets the detector's plane, turned by rot1 and rot2 about the sample, at
    ``poni1 + dist · tan(rot2) / cos(rot1)`` and ``poni2 - dist · tan(rot1)`` metres from the detector's corner,
    as in pyFAI's conversion to Fit2D. pyFAI and Fit2D count pixels from the first pixel's corner; here its centre
    is 0, so half a pixel comes off. The detector's orientation is obeyed.

    Raises
    ------
    GeometryError
        When there is no such file, it is not a .poni file, or the direct beam does not meet a flat detector.
    MissingExtraError
        When pyFAI is not installed.
    """
    path = Path(path)
    poni = _poni(path)
    detector = poni.detector
    numbers = (poni.dist, poni.poni1, poni.poni2, poni.rot1 or 0.0, poni.rot2 or 0.0)
    if detector is None or any(number is None or not math.isfinite(number) for number in numbers):
        raise GeometryError(
            f"{path} is not a complete .poni file; it needs Distance, Poni1, Poni2 and a detector"
        )
    if not detector.pixel1 or not detector.pixel2:
        raise GeometryError(f"{path} does not say how large its pixels are; name the detector in it")
    if not detector.IS_FLAT:
        raise GeometryError(
            f"{path} describes a curved detector ({detector.name}); only flat ones can be annotated"
        )
    distance, poni1, poni2, rot1, rot2 = (float(number) for number in numbers)
    if math.cos(rot1) < SMALLEST_COSINE or math.cos(rot2) < SMALLEST_COSINE:
        raise GeometryError(
            f"the direct beam does not hit the detector of {path} (rot1 = {rot1} rad, rot2 = {rot2} rad); "
            "frames without a direct-beam position cannot be annotated"
        )
    beam1 = poni1 + distance * math.tan(rot2) / math.cos(rot1)
    beam2 = poni2 - distance * math.tan(rot1)
    center_y, center_x = _pixel_at(detector, beam1, beam2, path)
    shape = None if detector.shape is None else (int(detector.shape[0]), int(detector.shape[1]))
    return PoniGeometry(center_x, center_y, shape, None if shape is None else _validity(detector))


def _pyfai_detectors() -> Any:
    try:
        import pyFAI.detectors
    except ImportError:
        raise MissingExtraError("pyFAI", "files") from None
    return pyFAI.detectors


def _poni(path: Path) -> Any:
    _pyfai_detectors()
    from pyFAI.io.ponifile import PoniFile

    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise GeometryError(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        return PoniFile(str(path))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise GeometryError(f"{path} is not a .poni file that pyFAI can read ({reason})") from error


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _validity(detector: Any) -> NDArray[np.bool_] | None:
    masked = detector.mask
    return None if masked is None else np.asarray(masked) == 0


def _pixel_at(detector: Any, position1: float, position2: float, path: Path) -> tuple[float, float]:
    """Return (row, column) of a point of the detector's plane, given in metres from its corner."""
    if detector.shape is None:
        if int(detector.orientation) not in (0, 3):
            raise GeometryError(
                f"{path} turns its detector ({detector.orientation!r}) without saying its shape"
            )
        return position1 / detector.pixel1 - 0.5, position2 / detector.pixel2 - 0.5
    rows, columns = (int(length) for length in detector.shape)
    if detector.uniform_pixel:
        row, column = 0, 0
    else:
        # Modules at odd places: start from the pixel that is nearest.
        positions1, positions2, _ = detector.calc_cartesian_positions()
        distances = (positions1 - position1) ** 2 + (positions2 - position2) ** 2
        row, column = (int(index) for index in np.unravel_index(int(np.argmin(distances)), distances.shape))
    # Positions are linear in the indices, over the whole detector or about the nearest pixel; pyFAI knows which
    # way each axis runs.
    down = 1 if row + 1 < rows else -1
    right = 1 if column + 1 < columns else -1
    rows_at = np.array([row, row + down, row], dtype=float)
    columns_at = np.array([column, column, column + right], dtype=float)
    at1, at2, _ = detector.calc_cartesian_positions(rows_at, columns_at)
    step1 = (float(at1[1]) - float(at1[0])) * down
    step2 = (float(at2[2]) - float(at2[0])) * right
    return row + (position1 - float(at1[0])) / step1, column + (position2 - float(at2[0])) / step2
