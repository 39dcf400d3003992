"""What pyFAI knows: the gaps of each detector, and from a .poni file where the direct beam hits it."""

from __future__ import annotations

import copy
import difflib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, GeometryError, MissingExtraError
from dvfb_stream.files.beam_centre import PixelSize
from dvfb_stream.files.checks import refuse_pipes_and_devices
from dvfb_stream.files.pixel_positions import PixelPlace, displacement, pixel_at
from dvfb_stream.tilt import Tilt

SMALLEST_COSINE = 1e-3
"""Of the angle between the beam and the detector's normal: beyond 89.9 degrees the direct beam misses the plane."""

M_TO_MM = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoniGeometry:
    """What pyFAI's geometry says of frames of one shape."""

    center_x: float
    """Direct beam in pixels; pixel centres at integers, x to the right, y down; may lie off the image."""
    center_y: float
    shape: tuple[int, int] | None
    """(rows, columns) of the frames; None where neither the geometry nor who asked says it."""
    mask: NDArray[np.bool_] | None
    """Boolean, True = valid, from pyFAI's definition of the detector; None where it has no gaps."""
    pixel_size: PixelSize
    """Of the frames: that of the detector times the binning."""
    tilt: Tilt | None
    """None where the detector stands across the beam."""
    displacement: float
    """Pixels that a pixel lies at most from where equal steps would put it; views take the steps to be equal."""


class DetectorModel:
    """A detector that pyFAI defines, for frames of any shape that it can have.

    Parameters
    ----------
    detector
        pyFAI's detector. It is copied before a shape is set, which changes it.
    name
        What messages call it.
    """

    def __init__(self, detector: Any, name: str) -> None:
        self._detector = detector
        self.name = name

    @property
    def shape(self) -> tuple[int, int] | None:
        """(rows, columns) as it stands; None where pyFAI has none."""
        return _shape(self._detector)

    def fits(self, shape: tuple[int, int]) -> bool:
        """Whether frames can have that shape: unbinned, or binned as pyFAI guesses it from the shape."""
        return self._of(shape) is not None

    def of_shape(self, shape: tuple[int, int]) -> Any:
        """Return pyFAI's detector, binned so that its frames have `shape`, as pyFAI guesses it.

        Raises
        ------
        GeometryError
            When it has no such frames.
        """
        detector = self._of(shape)
        if detector is None:
            raise GeometryError(
                f"{self.name} has shape {self.shape}, and no binning gives {shape} (rows, columns)"
            )
        return detector

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return which pixels are valid, True, by pyFAI's definition; None where there are no gaps."""
        return _validity(self.of_shape(shape))

    def pixel_size(self, shape: tuple[int, int] | None) -> PixelSize | None:
        """Return the size of a pixel of frames of `shape`; None where pyFAI has none."""
        return _pixel_size(self._detector if shape is None else self.of_shape(shape))

    def _of(self, shape: tuple[int, int]) -> Any | None:
        if self.shape == shape:
            return self._detector
        detector = copy.deepcopy(self._detector)
        if detector.shape is None:
            detector.max_shape = detector.shape = shape
            return detector
        # pyFAI logs a warning where it finds none; the caller has an error of its own.
        return detector if detector.guess_binning(shape) and _shape(detector) == shape else None


class PyFaiGeometry:
    """Where a detector stands, as pyFAI has it in a .poni file or an integrator.

    Parameters
    ----------
    poni
        pyFAI's PoniFile, or what has its attributes.
    name
        What messages call it: the file's name.

    Raises
    ------
    GeometryError
        When something is missing, the detector is not flat, or the direct beam does not meet it.
    """

    def __init__(self, poni: Any, name: str) -> None:
        self.name = name
        detector = poni.detector
        numbers = (poni.dist, poni.poni1, poni.poni2, poni.rot1 or 0.0, poni.rot2 or 0.0)
        if detector is None or any(number is None or not math.isfinite(number) for number in numbers):
            raise GeometryError(
                f"{name} is not a complete .poni file; it needs Distance, Poni1, Poni2 and a detector"
            )
        if not detector.pixel1 or not detector.pixel2:
            raise GeometryError(f"{name} does not say how large its pixels are; name the detector in it")
        if not detector.IS_FLAT:
            raise GeometryError(
                f"{name} describes a curved detector ({detector.name}); only flat ones can be annotated"
            )
        distance, poni1, poni2, rot1, rot2 = (float(number) for number in numbers)
        if math.cos(rot1) < SMALLEST_COSINE or math.cos(rot2) < SMALLEST_COSINE:
            raise GeometryError(
                f"the direct beam does not hit the detector of {name} (rot1 = {rot1} rad, rot2 = {rot2} rad); "
                "frames without a direct-beam position cannot be annotated"
            )
        self.detector = DetectorModel(detector, f"the detector of {name}")
        # Metres from the detector's corner.
        self._beam1 = poni1 + distance * math.tan(rot2) / math.cos(rot1)
        self._beam2 = poni2 - distance * math.tan(rot1)
        self._distance = distance / (math.cos(rot1) * math.cos(rot2))
        # Along the beam, of a step along pyFAI's first and second coordinate: the last row of its rotation.
        self._farther1, self._farther2 = math.sin(rot2), -math.cos(rot2) * math.sin(rot1)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(rows, columns) of the detector; None where the geometry does not say it."""
        return self.detector.shape

    def resolved(self, shape: tuple[int, int] | None = None) -> PoniGeometry:
        """Return the geometry of frames of `shape` (rows, columns); None: of the detector's own shape.

        Raises
        ------
        GeometryError
            When the detector has no frames of that shape, or it is turned and no shape is known.
        """
        shape = self.shape if shape is None else shape
        detector = self.detector._detector if shape is None else self.detector.of_shape(shape)
        if shape is None and int(detector.orientation) not in (0, 3):
            raise GeometryError(
                f"{self.name} turns its detector ({detector.orientation!r}) without saying its shape; give "
                "the shape of the frames"
            )
        place = pixel_at(detector, self._beam1, self._beam2)
        size = _pixel_size(detector)
        assert size is not None
        mask = None if shape is None else _validity(detector)
        return PoniGeometry(
            center_x=place.column,
            center_y=place.row,
            shape=shape,
            mask=mask,
            pixel_size=size,
            tilt=self._tilt(place, size),
            displacement=displacement(detector, place),
        )

    def _tilt(self, place: PixelPlace, size: PixelSize) -> Tilt | None:
        if not (self._farther1 or self._farther2):
            return None
        return Tilt(
            distance=self._distance * M_TO_MM / size.width,
            right=self._farther2 * place.rightward,
            down=self._farther1 * place.downward,
        )


def detector_model(name: str) -> DetectorModel:
    """Return a detector that pyFAI defines.

    Parameters
    ----------
    name
        pyFAI's name or alias, upper or lower case, with or without spaces, - and _: ``Pilatus1M``, ``eiger2_4m``.

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
    return DetectorModel(detector, f"detector {name}")


def detector_mask(name: str) -> NDArray[np.bool_]:
    """Return which pixels of a detector are between its modules' gaps, by pyFAI's definition.

    Parameters
    ----------
    name
        As for `detector_model`, which says what is raised.

    Returns
    -------
    Boolean array of the detector's shape, True = valid; all True where the detector has no gaps.
    """
    model = detector_model(name)
    assert model.shape is not None
    mask = model.mask(model.shape)
    return np.ones(model.shape, dtype=bool) if mask is None else mask


def open_poni(path: str | Path) -> PyFaiGeometry:
    """Return the geometry of a .poni file of any version that pyFAI reads.

    The beam along the z axis meets the detector's plane, turned by rot1 and rot2 about the sample, at
    ``poni1 + dist · tan(rot2) / cos(rot1)`` and ``poni2 - dist · tan(rot1)`` metres from the detector's corner,
    as in pyFAI's conversion to Fit2D. pyFAI and Fit2D count pixels from the first pixel's corner; here its centre
    is 0, so half a pixel comes off. The detector's orientation and its pixels' own positions are obeyed.

    Raises
    ------
    GeometryError
        When there is no such file, it is not a .poni file, or the direct beam does not meet a flat detector.
    MissingExtraError
        When pyFAI is not installed.
    """
    path = Path(path)
    return PyFaiGeometry(_poni(path), str(path))


def read_poni(path: str | Path, shape: tuple[int, int] | None = None) -> PoniGeometry:
    """Return where the direct beam hits the detector of a .poni file, and that detector's shape, gaps and pixels.

    Parameters
    ----------
    path
        See `open_poni`.
    shape
        (rows, columns) of the frames; None: as the file has it.

    Raises
    ------
    GeometryError
        As `open_poni`, and when the detector has no frames of that shape.
    MissingExtraError
        When pyFAI is not installed.
    """
    return open_poni(path).resolved(shape)


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
        refuse_pipes_and_devices(str(path))
        with path.open("rb") as file:
            file.read(1)
    except FrameError as error:
        raise GeometryError(f"{error}: not a .poni file") from error
    except OSError as error:
        raise GeometryError(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        return PoniFile(_with_detector_file_beside(path) or str(path))
    except GeometryError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise GeometryError(f"{path} is not a .poni file that pyFAI can read ({reason})") from error


def _with_detector_file_beside(path: Path) -> dict[str, Any] | None:
    """Return the content, where the detector is in a file of its own; None: it is not.

    pyFAI looks for that file in the working directory alone.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line and not line.startswith("#"))
    content: dict[str, Any] = {key.strip().lower(): value.strip() for key, _, value in pairs}
    if content.get("detector") != "NexusDetector":
        return None
    config = json.loads(content["detector_config"])
    named = Path(config["filename"])
    found = next((file for file in (named, path.parent / named) if file.is_file()), None)
    if found is None:
        raise GeometryError(
            f"{path} has its detector in {named}, which is neither in the working directory nor beside it"
        )
    return content | {"detector_config": config | {"filename": str(found)}}


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _shape(detector: Any) -> tuple[int, int] | None:
    return None if detector.shape is None else (int(detector.shape[0]), int(detector.shape[1]))


def _validity(detector: Any) -> NDArray[np.bool_] | None:
    masked = detector.mask
    return None if masked is None else np.asarray(masked) == 0


def _pixel_size(detector: Any) -> PixelSize | None:
    if not detector.pixel1 or not detector.pixel2:
        return None
    return PixelSize(height=float(detector.pixel1) * M_TO_MM, width=float(detector.pixel2) * M_TO_MM)
