"""Follows one raw run and finds the detector exposures in its documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.callbacks.assets import PixelReference, RunAssets
from dvfb_stream.callbacks.documents import Document, DocumentError, mapping, moment, text
from dvfb_stream.callbacks.pixels import images_in
from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.frames import Geometry, Origin


class FindsGeometry(Protocol):
    """Finds the geometry of a detector in a run's documents; `dvfb_stream.files.run_detector.RunDetector` is one."""

    def geometry_in(self, start: Document, descriptor: Document, data_key: str) -> Geometry:
        """Return the geometry of the frames of a data key under one descriptor.

        Called once a descriptor and data key, from the thread that documents come in on.

        Raises
        ------
        GeometryError
            When there is none; the message is the reason in the rows of the frames.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exposure:
    """One frame that a document speaks of: its pixels, or where they lie, or the reason why they cannot be had."""

    origin: Origin
    time: float
    """When the raw document says that it was taken, seconds since 1970."""
    geometry: Geometry | None = None
    pixels: NDArray[Any] | None = None
    """Perhaps the detector's own buffer: to be copied by whoever keeps them."""
    reference: PixelReference | None = None
    """Where the pixels lie in a file."""
    reason: str = ""
    """Why there are neither, or no geometry; the frame is not to be annotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Descriptor:
    stream: str
    time: float
    data_keys: Document
    doc: Document
    geometries: dict[str, Geometry | str] = field(default_factory=dict)
    """By data key, of those asked for so far; or the reason why there is none."""


class RawRun:
    """What is known of one raw run while its documents come in.

    Frames are numbered per stream and data key in the order of the documents, from 0: a run that is replayed
    from its start gives every frame its old number.

    Parameters
    ----------
    start
        Its start document.
    detectors
        Geometry by data key, or what finds it in the run's documents; these data keys and no others are images.
        None: every data key that looks like an image is one, without a geometry.

    root_map
        Other places for the folders that documents name.

    Raises
    ------
    DocumentError
        When the start document has no uid.
    """

    def __init__(
        self,
        start: Document,
        detectors: Mapping[str, Geometry | FindsGeometry] | None,
        *,
        root_map: Mapping[str, str] | None = None,
    ) -> None:
        self.start = start
        self.uid = text(start, "uid")
        self.counts: dict[tuple[str, str], int] = {}
        """Frames seen so far, by stream and data key."""
        self.stopped = False
        self._detectors = detectors
        self._descriptors: dict[str, _Descriptor] = {}
        self.assets = RunAssets(root_map)
        """Files that the run's documents speak of."""

    @property
    def time(self) -> float:
        """Time of the start document."""
        return moment(self.start, default=0.0)

    def descriptor_time(self, stream: str) -> float:
        """Time of the first descriptor of `stream`."""
        return next((d.time for d in self._descriptors.values() if d.stream == stream), self.time)

    def add_descriptor(self, doc: Document) -> None:
        """Learn which data keys a stream has."""
        data_keys = mapping(doc, "data_keys")
        stream = doc.get("name", "primary")
        if not isinstance(stream, str):
            raise DocumentError(f"a descriptor's name must be text, not {stream!r}")
        self._descriptors[text(doc, "uid")] = _Descriptor(
            stream=stream, time=moment(doc, default=self.time), data_keys=data_keys, doc=doc
        )

    def overlooked_images(self, descriptor: Document) -> list[str]:
        """Return the data keys that look like images in a descriptor of which no data key has a geometry.

        A beamline may leave some of its cameras alone; a stream in which it leaves all of them alone is more
        likely a name that was mistyped.
        """
        data_keys = mapping(descriptor, "data_keys")
        if self._detectors is None or not self._detectors.keys().isdisjoint(data_keys):
            return []
        return [
            str(key)
            for key, spec in data_keys.items()
            if isinstance(spec, Mapping) and _is_described_image(spec)
        ]

    def exposures_in_event(self, doc: Document) -> Iterator[Exposure]:
        """Yield the exposures of an Event, numbered; pixels may be the detector's own buffer."""
        descriptor = self._descriptor(doc)
        time = moment(doc, default=descriptor.time)
        uid = doc.get("uid")
        uid = uid if isinstance(uid, str) else ""
        filled = doc.get("filled")
        for key, value in mapping(doc, "data").items():
            spec = descriptor.data_keys.get(key)
            spec = spec if isinstance(spec, Mapping) else {}
            if self._is_image(key, spec, value):
                is_filled = filled.get(key) if isinstance(filled, Mapping) else None
                yield from self._exposures(
                    descriptor, key, spec, value, is_filled=is_filled, time=time, event=uid
                )

    def exposures_in_event_page(self, doc: Document) -> Iterator[Exposure]:
        """Yield the exposures of an EventPage, event by event."""
        columns = mapping(doc, "data")
        times = doc.get("time")
        if not isinstance(times, list | tuple | np.ndarray):
            raise DocumentError(f"an event page's time must be a list, not {type(times).__name__}")
        filled = doc.get("filled")
        filled = filled if isinstance(filled, Mapping) else {}
        lengths = {len(times), *(len(column) for column in columns.values())}
        if len(lengths) != 1:
            raise DocumentError(f"the columns of an event page must be of one length, not {sorted(lengths)}")
        uids = doc.get("uid")
        uids = uids if isinstance(uids, list | tuple) and len(uids) == len(times) else [""] * len(times)
        for row, (time, uid) in enumerate(zip(times, uids, strict=True)):
            yield from self.exposures_in_event(
                {
                    "uid": uid,
                    "descriptor": doc.get("descriptor"),
                    "time": time,
                    "data": {key: column[row] for key, column in columns.items()},
                    "filled": {key: column[row] for key, column in filled.items() if len(column) > row},
                }
            )

    def exposures_in_stream_datum(self, doc: Document) -> Iterator[Exposure]:
        """Yield the exposures that a StreamDatum announces; their pixels lie in files."""
        descriptor = self._descriptor(doc)
        key = self.assets.data_key_of(doc)
        spec = descriptor.data_keys.get(key)
        spec = spec if isinstance(spec, Mapping) else {}
        if self._is_image(key, spec, None):
            for reference in self.assets.of_stream_datum(doc, spec):
                yield self._numbered(descriptor, key, descriptor.time, reference=reference)

    def _exposures(
        self,
        descriptor: _Descriptor,
        key: str,
        spec: Document,
        value: object,
        *,
        is_filled: object,
        time: float,
        event: str,
    ) -> Iterator[Exposure]:
        # Before it is filled, the value of external data is the id of its datum; `filled` may be absent.
        if isinstance(value, str) and (is_filled is False or "external" in spec):
            for reference in self.assets.of_datum(value, spec):
                yield self._numbered(descriptor, key, time, reference=reference, event=event)
            return
        try:
            images: Iterable[NDArray[Any]] = images_in(value)
        except FrameError as error:
            yield self._numbered(descriptor, key, time, reason=str(error), event=event)
            return
        for image in images:
            yield self._numbered(descriptor, key, time, pixels=image, event=event)

    def _numbered(
        self,
        descriptor: _Descriptor,
        key: str,
        time: float,
        *,
        pixels: NDArray[Any] | None = None,
        reference: PixelReference | None = None,
        reason: str = "",
        event: str = "",
    ) -> Exposure:
        stream = descriptor.stream
        index = self.counts.get((stream, key), 0)
        self.counts[stream, key] = index + 1
        geometry = self._geometry(descriptor, key, pixels)
        return Exposure(
            origin=Origin(run_uid=self.uid, stream=stream, data_key=key, index=index, event_uid=event),
            time=time,
            geometry=geometry if isinstance(geometry, Geometry) else None,
            pixels=pixels,
            reference=reference,
            reason=reason or (geometry if isinstance(geometry, str) else ""),
        )

    def _geometry(self, descriptor: _Descriptor, key: str, pixels: NDArray[Any] | None) -> Geometry | str:
        """Return the geometry of a data key under a descriptor, or the reason why there is none."""
        known = (self._detectors or {}).get(key)
        if isinstance(known, Geometry):
            return known
        if known is None:
            return _no_geometry(key, descriptor.data_keys.get(key), pixels)
        if key not in descriptor.geometries:
            try:
                descriptor.geometries[key] = known.geometry_in(self.start, descriptor.doc, key)
            except GeometryError as error:
                descriptor.geometries[key] = str(error)
        return descriptor.geometries[key]

    def _is_image(self, key: str, spec: Document, value: object) -> bool:
        if self._detectors is not None:
            return key in self._detectors
        if isinstance(value, np.ndarray):
            return value.ndim in (2, 3)
        return _is_described_image(spec)

    def _descriptor(self, doc: Document) -> _Descriptor:
        uid = text(doc, "descriptor")
        if uid not in self._descriptors:
            raise DocumentError(f"the descriptor {uid!r} is not known in run {self.uid}")
        return self._descriptors[uid]


def _is_described_image(spec: Document) -> bool:
    shape = spec.get("shape")
    return spec.get("dtype") == "array" and isinstance(shape, list | tuple) and len(shape) in (2, 3)


def _no_geometry(key: str, spec: object, pixels: NDArray[Any] | None) -> str:
    described = spec.get("shape") if isinstance(spec, Mapping) else None
    shape = tuple(described)[-2:] if isinstance(described, list | tuple) else (0, 0)
    shape = shape if pixels is None else pixels.shape
    return (
        f"no geometry is known for {key!r}; give it where the detectors are configured, as in "
        f"detectors={{{key!r}: Geometry(shape={shape}, center_x=..., center_y=...)}}"
    )
