"""A descriptor as far as frames are concerned: which of its data keys are images, and the geometry of each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.callbacks.document_fields import (
    Document,
    DocumentError,
    mapping,
    moment,
    size_of,
    text,
)
from dvfb_stream.errors import GeometryError
from dvfb_stream.files.described_shape import DescribedShape, described_shape
from dvfb_stream.files.moving_centre import Centre, MovingGeometry
from dvfb_stream.files.references import Expected
from dvfb_stream.frames import Geometry

logger = logging.getLogger(__name__)


class GeometryProvider(Protocol):
    """Finds the geometry of a detector in a run's documents.

    `dvfb_stream.files.run_detector.RunDetector` is one.
    """

    def geometry_in(self, start: Document, descriptor: Document, data_key: str) -> Geometry | MovingGeometry:
        """Return the geometry of the frames of a data key under one descriptor, or what finds that of each event.

        Called once a descriptor and data key, from the thread that documents come in on.

        Raises
        ------
        GeometryError
            When there is none; the message is the reason in the rows of the frames.
        """
        ...


_NEEDED = ("shape", "dtype", "dtype_numpy", "external")
"""Of what a descriptor says of a data key."""

Detectors = Mapping[str, Geometry | GeometryProvider]
"""Geometry by data key, or what finds it in a run's documents."""


class Descriptor:
    """What frames need of a descriptor; the whole of it only where a geometry may be looked for there.

    Parameters
    ----------
    doc
        The document.
    detectors
        These data keys and no others are images. None: every data key that looks like an image is one, without a
        geometry.
    start
        The run's start document, where a geometry may be looked for there.
    time
        That of the start document.

    Raises
    ------
    DocumentError
        When the document is malformed.
    """

    def __init__(self, doc: Document, detectors: Detectors | None, *, start: Document, time: float) -> None:
        stream = doc.get("name", "primary")
        if not isinstance(stream, str):
            raise DocumentError(f"a descriptor's name must be text, not {stream!r}")
        self.uid = text(doc, "uid")
        self.stream = stream
        self.time = moment(doc, default=time)
        self._detectors = detectors
        self._start = start
        self._finds = finds_geometry(detectors)
        self._doc = doc if self._finds else {}
        self._images = {
            key: {field: spec[field] for field in _NEEDED if field in spec}
            for key, spec in mapping(doc, "data_keys").items()
            if isinstance(spec, Mapping)
            and (looks_like_image(spec) if detectors is None else key in detectors)
        }
        self.has_streams = any(
            str(spec.get("external", "")).startswith("STREAM") for spec in self._images.values()
        )
        """Whether stream datums announce frames of it, and not its events."""
        self.has_values = any(
            isinstance(spec, Mapping) and not str(spec.get("external", "")).startswith("STREAM")
            for spec in mapping(doc, "data_keys").values()
        )
        """Whether its events have data: they come, whatever stream datums announce."""
        self.n_bytes = size_of(self._doc or self._images)
        """About what is kept takes."""
        self._geometries: dict[str, Geometry | MovingGeometry | str] = {}
        self._shapes = {key: described_shape(spec.get("shape")) for key, spec in self._images.items()}
        self._expected = {key: _expected(spec, self._shapes[key]) for key, spec in self._images.items()}

    @property
    def images_in_events(self) -> list[str]:
        """Data keys with images that events have, or whose datums they name."""
        return [
            key
            for key, spec in self._images.items()
            if not str(spec.get("external", "")).startswith("STREAM")
        ]

    def spec(self, key: str) -> Document:
        """Return what the descriptor says of a data key with images; nothing where it says nothing."""
        return self._images.get(key, {})

    def shape(self, key: str) -> DescribedShape:
        """Return what the descriptor's shape says of the images of a data key."""
        return self._shapes.get(key, DescribedShape())

    def expected(self, key: str) -> Expected:
        """Return what the descriptor says of each frame of a data key: one object for all, of which many wait."""
        return self._expected.get(key, Expected())

    def is_image(self, key: str, value: object) -> bool:
        """Return whether the value of a data key, if there is one, is to be an image."""
        if self._detectors is not None:
            return key in self._detectors
        if isinstance(value, np.ndarray):
            return value.ndim in (2, 3)
        return key in self._images

    def centres_in(self, data: Document) -> dict[str, Centre | str]:
        """Return the beam centres that the data of an event say, or why they say none; by data key of the images."""
        found = ((key, self.geometry(key, None)) for key in self._images if self._finds)
        return {key: moving.centre_in(data) for key, moving in found if isinstance(moving, MovingGeometry)}

    def geometry(self, key: str, pixels: NDArray[Any] | None) -> Geometry | MovingGeometry | str:
        """Return the geometry of a data key, what finds it in events, or the reason why there is none."""
        known = (self._detectors or {}).get(key)
        if isinstance(known, Geometry):
            return known
        if known is None:
            return _no_geometry(key, self.spec(key).get("shape"), pixels)
        if key not in self._geometries:
            self._geometries[key] = self._found(known, key)
        return self._geometries[key]

    def _found(self, provider: GeometryProvider, key: str) -> Geometry | MovingGeometry | str:
        try:
            found: object = provider.geometry_in(self._start, self._doc, key)
        except GeometryError as error:
            return str(error)
        # A beamline's own: its fault costs the frames of this data key and no others.
        except Exception as error:
            logger.exception("the geometry of %r could not be found", key)
            return f"looking for the geometry of {key!r} raised {type(error).__name__}: {error}"
        if isinstance(found, Geometry | MovingGeometry):
            return found
        return f"what was found as the geometry of {key!r} is no Geometry, but {type(found).__name__}"


def finds_geometry(detectors: Detectors | None) -> bool:
    """Return whether the geometry of any detector is looked for in the documents."""
    return any(not isinstance(known, Geometry) for known in (detectors or {}).values())


def looks_like_image(spec: Document) -> bool:
    """Return whether a descriptor describes a data key as an image."""
    shape = spec.get("shape")
    return spec.get("dtype") == "array" and isinstance(shape, list | tuple) and len(shape) in (2, 3)


def _expected(spec: Document, shape: DescribedShape) -> Expected:
    dtype = spec.get("dtype_numpy")
    try:
        known = np.dtype(dtype) if isinstance(dtype, str) and dtype else None
    except (TypeError, ValueError, SyntaxError):
        known = None
    return Expected(shape.rows_columns, known)


def _no_geometry(key: str, described: object, pixels: NDArray[Any] | None) -> str:
    shape = tuple(described)[-2:] if isinstance(described, list | tuple) else (0, 0)
    shape = shape if pixels is None else pixels.shape
    return (
        f"no geometry is known for {key!r}; give it where the detectors are configured, as in "
        f"detectors={{{key!r}: Geometry(shape={shape}, center_x=..., center_y=...)}}"
    )
