"""Frame, geometry and origin: what the detector gave, where the beam hit it, and where it is stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field
from importlib import import_module
from operator import index
from os import PathLike
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.tilt import Tilt

COUNT_KINDS = "iuf"
"""NumPy's kinds of numbers that can be a frame's pixels: signed, unsigned, floating."""

NUMBER_KINDS = "b" + COUNT_KINDS
"""NumPy's kinds of numbers that are read, copied and shared between processes: boolean, too."""

POLARITY = "in Geometry(mask=) True means valid; in Geometry(masked=) and in mask files 1 means masked"
"""Whoever mixes them up sees the gaps between modules and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a frame is stored: the n-th frame of one data key of one stream of one Bluesky run."""

    run_uid: str
    """uid of the raw run's start document."""
    stream: str
    """Name of the event stream, for example ``primary``."""
    data_key: str
    """Name of the detector's image in the event descriptor."""
    index: int
    """Frame index within that data key, from 0."""
    event_uid: str = ""
    """uid of the raw event; empty where frames come without events, as in a fly scan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidValues:
    """Pixel values that a detector, or who wrote its file, put where there is no count.

    Raises
    ------
    GeometryError
        When a value or the tolerance is not a number, or the tolerance is negative.
    """

    values: tuple[float, ...] = ()
    """Each marks a pixel as invalid: pyFAI's dummy."""
    delta: float = 0.0
    """Values no further than this from one of `values` mark it, too: pyFAI's delta_dummy."""
    above: float | None = None
    """Greater values are no counts: NeXus's saturation_value."""
    below: float | None = None
    """Lesser values are no counts: NeXus's underload_value."""

    def __post_init__(self) -> None:
        try:
            values = tuple(float(value) for value in self.values)
            delta = float(self.delta)
            above, below = (None if limit is None else float(limit) for limit in (self.above, self.below))
        except (TypeError, ValueError, OverflowError) as error:
            raise GeometryError(f"what marks invalid pixels must be numbers, not {self!r}") from error
        if (
            not math.isfinite(delta)
            or delta < 0
            or any(limit is not None and math.isnan(limit) for limit in (above, below))
        ):
            raise GeometryError(
                f"delta must be 0 or more, above and below numbers, not {delta}, {above} and {below}"
            )
        for name, value in (("values", values), ("delta", delta), ("above", above), ("below", below)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Geometry:
    """Shape of a detector, where the direct beam hits it, and which of its pixels can be believed.

    Frozen and hashable by content: frames of equal geometry are batched together.

    Parameters
    ----------
    shape
        (rows, columns) of the frame.
    center_x, center_y
        Direct beam in pixels; pixel centres lie at integers, x to the right, y down. May lie off the image.
    mask
        Boolean array of `shape`, True where a pixel is valid; None: all are. It is copied and made read-only. What a
        masked array masks is not valid.
    masked
        The same the other way round, instead of `mask`: integer or boolean array of `shape`, 0 where a pixel is valid
        and any other number where it is masked, as mask files and NeXus's ``pixel_mask`` have it.
    invalid_values
        Pixel values that mark a pixel as invalid in a single frame; None: what is usual for the pixels' type.
    pixel_aspect
        Height of a pixel divided by its width.
    tilt
        How the detector is tilted against the beam; None: it stands across it.
    counts_per_unit
        Counts that a pixel value of 1 stands for: 1000 where frames were divided by 1000; None: found out from each
        frame, as `dvfb_stream.view.count_scale` says. Integers are counts unless they have a common divisor.
    source
        Where the numbers came from, for people: ``agbh.poni``. It is no part of the content.

    Raises
    ------
    GeometryError
        When the shape is not two positive integers, the centre is not two finite numbers, the mask has another shape
        or type, leaves nothing or is given both ways, or the aspect or the counts per unit is no positive number.
    """

    shape: tuple[int, int]
    center_x: float
    center_y: float
    mask: NDArray[np.bool_] | None = None
    masked: InitVar[NDArray[Any] | None] = None
    invalid_values: InvalidValues | None = None
    pixel_aspect: float = 1.0
    tilt: Tilt | None = None
    counts_per_unit: float | None = None
    source: str = ""
    digest: str = field(init=False)
    """SHA-256 of all but the source, hexadecimal."""

    def __post_init__(self, masked: NDArray[Any] | None) -> None:
        try:
            shape = tuple(index(length) for length in self.shape)
        except TypeError:  # no sequence, or of something other than integers
            shape = ()
        if len(shape) != 2 or min(shape) < 1:
            raise GeometryError(f"shape must be two positive integers (rows, columns), not {self.shape!r}")
        try:
            center_x, center_y = float(self.center_x), float(self.center_y)
        except (TypeError, ValueError, OverflowError) as error:
            raise GeometryError(
                f"the beam centre must be two numbers, not x={self.center_x!r}, y={self.center_y!r}"
            ) from error
        if not (math.isfinite(center_x) and math.isfinite(center_y)):
            raise GeometryError(f"the beam centre must be finite, not x={center_x}, y={center_y}")
        if self.mask is not None and masked is not None:
            raise GeometryError("give the mask once: as mask (True = valid), or as masked (1 = masked)")
        valid = self.mask if masked is None else _valid(masked)
        mask = None if valid is None else _frozen_mask(valid, shape)
        if not isinstance(self.invalid_values, InvalidValues | None):
            raise GeometryError(f"invalid_values must be InvalidValues(...), not {self.invalid_values!r}")
        aspect = _positive("pixel_aspect", self.pixel_aspect)
        per_unit = self.counts_per_unit
        if per_unit is not None:
            per_unit = _positive("counts_per_unit", per_unit)
        if not isinstance(self.tilt, Tilt | None):
            raise GeometryError(f"tilt must be Tilt(...), not {self.tilt!r}")
        identity = hashlib.sha256(f"{shape}|{center_x!r}|{center_y!r}|".encode())
        if aspect != 1 or self.invalid_values is not None:
            identity.update(f"{aspect!r}|{self.invalid_values!r}|".encode())
        if self.tilt is not None:
            identity.update(f"{self.tilt!r}|".encode())
        if per_unit is not None:
            identity.update(f"counts {per_unit!r}|".encode())
        identity.update(b"all valid" if mask is None else np.packbits(mask).tobytes())
        for name, value in (
            ("shape", shape),
            ("center_x", center_x),
            ("center_y", center_y),
            ("mask", mask),
            ("pixel_aspect", aspect),
            ("counts_per_unit", per_unit),
            ("digest", identity.hexdigest()),
        ):
            object.__setattr__(self, name, value)

    @staticmethod
    def from_poni(path: str | PathLike[str], shape: tuple[int, int] | None = None) -> Geometry:
        """Return the geometry of a .poni file, with the gaps of the detector that it names.

        Parameters
        ----------
        path
            pyFAI's file, of any version.
        shape
            (rows, columns) of the frames: needed where the file does not say it, and where frames are binned.

        Raises
        ------
        GeometryError
            When it is no such file, its detector is curved or has no frames of that shape, or no shape is known.
        MissingExtraError
            When pyFAI is not installed, which comes with the extra ``files``.
        """
        return _from_files("geometry_of_poni", path, shape)

    @staticmethod
    def from_pyfai(integrator: Any, shape: tuple[int, int] | None = None) -> Geometry:
        """Return the geometry of pyFAI's ``AzimuthalIntegrator``, or of another of its geometries.

        The mask is its detector's. Parameters and errors as for `from_poni`.
        """
        return _from_files("geometry_of_pyfai", integrator, shape)

    @staticmethod
    def from_nexus(file: str | PathLike[str]) -> Geometry:
        """Return the geometry that a NeXus file or a DECTRIS master file declares of its frames.

        Beam centre, size and mask of the pixels are those of the NXdetector group of the frames.

        Parameters
        ----------
        file
            ``file.h5`` or ``file.h5::/path/of/dataset``.

        Raises
        ------
        FrameError
            When no frames can be read from it.
        GeometryError
            When it declares no beam centre, or one that cannot be meant: (0, 0), for example.
        MissingExtraError
            When h5py is not installed, which comes with the extra ``files``.
        """
        return _from_files("geometry_of_file", file)

    @staticmethod
    def from_cbf(file: str | PathLike[str], shape: tuple[int, int] | None = None) -> Geometry:
        """Return the geometry that the header of a CBF, or of another file of one detector image, declares.

        Parameters
        ----------
        file
            The file; or, with `shape`, the text of a Pilatus header, which has ``# Beam_xy (245.5, 310.2) pixels``.
        shape
            (rows, columns) of the frames of that header.

        Raises
        ------
        FrameError, GeometryError, MissingExtraError
            As for `from_nexus`.
        """
        if shape is None:
            return _from_files("geometry_of_file", file)
        return _from_files("geometry_of_pilatus_header", file, shape)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, Geometry) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        valid = "" if self.mask is None else f", mask=<{self.mask.sum()} of {self.mask.size} pixels valid>"
        invalid = "" if self.invalid_values is None else f", invalid_values={self.invalid_values}"
        aspect = "" if self.pixel_aspect == 1 else f", pixel_aspect={self.pixel_aspect:g}"
        tilt = "" if self.tilt is None else f", tilt=<{math.degrees(self.tilt.angle):.2f} degrees>"
        counts = "" if self.counts_per_unit is None else f", counts_per_unit={self.counts_per_unit:g}"
        source = f", source={self.source!r}" if self.source else ""
        return (
            f"Geometry(shape={self.shape}, center_x={self.center_x:g}, center_y={self.center_y:g}"
            f"{valid}{invalid}{aspect}{tilt}{counts}{source})"
        )


def _from_files(name: str, *arguments: Any) -> Geometry:
    """Call what reads files, which is imported at its first use: nouns know nothing of it, nor of its packages."""
    geometry: Geometry = getattr(import_module("dvfb_stream.files.geometry_sources"), name)(*arguments)
    return geometry


def _positive(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise GeometryError(f"{name} must be a positive number, not {value!r}")
    return number


def _valid(masked: NDArray[Any]) -> NDArray[np.bool_]:
    masked = masked.filled(1) if isinstance(masked, np.ma.MaskedArray) else np.asarray(masked)
    if masked.dtype.kind not in "biu":
        raise GeometryError(
            f"masked must be an array of integers or booleans, 0 = valid and 1 = masked, not of {masked.dtype}"
        )
    valid: NDArray[np.bool_] = masked == 0
    return valid


def _frozen_mask(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = mask.filled(0) if isinstance(mask, np.ma.MaskedArray) else np.asarray(mask)
    if mask.dtype != np.bool_:
        raise GeometryError(
            f"mask must be boolean with True = valid, not {mask.dtype}; give an array of 0 and 1 in which 1 means "
            "masked, as mask files have it, as masked"
        )
    if mask.shape != shape:
        raise GeometryError(f"the mask has shape {mask.shape}, but frames have shape {shape}")
    if not mask.any():
        raise GeometryError(f"the mask leaves no valid pixel; {POLARITY}")
    mask = mask.copy()
    mask.flags.writeable = False
    return mask


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame:
    """One detector exposure.

    Parameters
    ----------
    pixels
        (rows, columns) counts, any integer or floating type; a masked array's mask counts. Not copied: who hands a
        frame over must not write to its pixels afterwards.
    geometry
        Its geometry. Whether the shapes agree is checked where the frame is annotated, so that a frame of a
        wrong shape costs its own row and nothing else.
    origin
        Where it is stored; None for a frame that came from nowhere in particular.
    """

    pixels: NDArray[Any]
    geometry: Geometry
    origin: Origin | None = None

    def __repr__(self) -> str:
        shape, kind = (
            getattr(self.pixels, "shape", "?"),
            getattr(self.pixels, "dtype", type(self.pixels).__name__),
        )
        where = "" if self.origin is None else f", {self.origin!r}"
        return f"Frame(<{kind} {tuple(shape)}>, {self.geometry!r}{where})"


def listed(frames: Iterable[Frame]) -> list[Frame]:
    """Return the frames as a list; what in it is no frame is for `pixels_of` to refuse, at its own cost.

    Raises
    ------
    FrameError
        When it is no list, but one frame or one array for example.
    """
    if isinstance(frames, Frame | np.ndarray | str | bytes) or not isinstance(frames, Iterable):
        raise FrameError(
            f"give a list of frames, as in annotate([Frame(pixels, geometry)]), not {_shown(frames)}"
        )
    return list(frames)


def marker(dtype: np.dtype[Any]) -> Any:
    """Return a value that always marks a pixel of an integer or floating type as invalid."""
    return dtype.type(np.nan) if dtype.kind == "f" else dtype.type(np.iinfo(dtype).max)


def plain_array(pixels: Any) -> NDArray[Any]:
    """Return pixels as NumPy's array; those that a masked array masks hold the `marker` of their type."""
    if not isinstance(pixels, np.ma.MaskedArray):
        return np.asarray(pixels)
    kind = pixels.dtype.kind
    return pixels.filled(marker(pixels.dtype)) if kind in COUNT_KINDS else np.asarray(pixels)


def pixels_of(frame: Frame) -> NDArray[Any]:
    """Return the pixels of a frame as NumPy's array, of whatever type and shape.

    Raises
    ------
    FrameError
        When it is no frame, its geometry is no `Geometry`, or its pixels cannot be had as an array.
    """
    if not isinstance(frame, Frame):
        raise FrameError(f"a frame must be a Frame(pixels, geometry), not {_shown(frame)}")
    if not isinstance(frame.geometry, Geometry):
        raise FrameError(
            f"the frame's geometry must be a Geometry(shape=..., center_x=..., center_y=...), not "
            f"{_shown(frame.geometry)}"
        )
    try:
        return plain_array(frame.pixels)
    except Exception as error:  # each library has its own: torch raises TypeError and RuntimeError
        raise FrameError(
            f"pixels must be an array of numbers, not {_shown(frame.pixels)} ({error}); of a torch tensor, "
            "tensor.detach().float().numpy() is one"
        ) from error


def _shown(value: object) -> str:
    """Return what a value is, in few words: an array by its type and shape, another by its beginning."""
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    if isinstance(value, Frame):
        return "one Frame"
    return (
        f"{kind} of shape {tuple(shape)}"
        if isinstance(shape, tuple)
        else f"{kind} {shorten(repr(value), 60)}"
    )
