"""Frames and annotations of a batch as two processes exchange them: pixels in shared memory, the rest as JSON."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.bounded_cache import BoundedCache
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Frame, Geometry, InvalidValues, Origin, pixels_of
from dvfb_stream.isolation.frame_memory import FrameMemory, MappedFrames
from dvfb_stream.tilt import Tilt

_GEOMETRIES_KEPT = 64
"""A geometry takes a millisecond to make and check; a beamline has one or two at a time."""

_MASKS_KEPT = 16
"""A byte for each pixel of the detector."""


class BatchWriter:
    """Says where the frames of a batch lie, and copies those that do not lie in the memory yet; for any thread.

    Parameters
    ----------
    memory
        That both processes see.
    """

    def __init__(self, memory: FrameMemory) -> None:
        self._memory = memory
        self._masks = BoundedCache[str, NDArray[Any]](_MASKS_KEPT)  # by the geometry's digest

    def placed(self, frame: Frame) -> Frame:
        """Return a frame whose pixels lie in the memory: itself, if they do.

        Raises
        ------
        FrameError
            When it is no frame, or its pixels are no numbers.
        """
        try:
            pixels = self._memory.with_place(pixels_of(frame))
        except TypeError as error:
            raise FrameError(f"pixels must be integer or floating: {error}") from error
        return frame if pixels is frame.pixels else Frame(pixels, frame.geometry, frame.origin)

    def as_json(self, frames: Sequence[Frame]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
        """Return what `BatchReader.read` needs to know of placed frames, and their masks as they lie in the memory.

        It is true as long as frames and masks are held.
        """
        geometries = {frame.geometry.digest: frame.geometry for frame in frames}
        masks = {
            digest: self._mask(digest, geometry.mask)
            for digest, geometry in geometries.items()
            if geometry.mask is not None
        }
        told = {
            "geometries": {
                digest: {
                    "shape": geometry.shape,
                    "center_x": geometry.center_x,
                    "center_y": geometry.center_y,
                    "mask": self._memory.place_of(masks[digest]) if digest in masks else None,
                    "invalid_values": geometry.invalid_values and asdict(geometry.invalid_values),
                    "pixel_aspect": geometry.pixel_aspect,
                    "tilt": geometry.tilt and asdict(geometry.tilt),
                    "counts_per_unit": geometry.counts_per_unit,
                    "source": geometry.source,
                }
                for digest, geometry in geometries.items()
            },
            "frames": [
                {"geometry": frame.geometry.digest, "pixels": self._memory.place_of(frame.pixels)}
                for frame in frames
            ],
        }
        return told, list(masks.values())

    def _mask(self, digest: str, mask: NDArray[Any]) -> NDArray[Any]:
        return self._masks.get_or_make(digest, lambda: self._memory.with_place(mask))


class BatchReader:
    """Finds the frames of a batch in the memory of the process that has written it; for any thread.

    Parameters
    ----------
    memory
        Descriptor of its file.
    """

    def __init__(self, memory: int) -> None:
        self._arrays = MappedFrames(memory)
        self._geometries = BoundedCache[str, Geometry](_GEOMETRIES_KEPT)  # by digest

    def read(self, batch: Mapping[str, Any]) -> list[Frame]:
        """Return the frames, without origin, their pixels where they lie; they are the writer's after the batch."""
        geometries = {
            digest: self._geometries.get_or_make(digest, partial(self._geometry, told))
            for digest, told in batch["geometries"].items()
        }
        return [
            Frame(self._arrays.array(told["pixels"]), geometries[told["geometry"]])
            for told in batch["frames"]
        ]

    def _geometry(self, told: Mapping[str, Any]) -> Geometry:
        return Geometry(
            shape=tuple(told["shape"]),
            center_x=told["center_x"],
            center_y=told["center_y"],
            mask=None if told["mask"] is None else self._arrays.array(told["mask"]),
            invalid_values=told["invalid_values"] and InvalidValues(**told["invalid_values"]),
            pixel_aspect=told["pixel_aspect"],
            tilt=told["tilt"] and Tilt(**told["tilt"]),
            counts_per_unit=told["counts_per_unit"],
            source=told["source"],
        )


def as_json(annotation: Annotation) -> dict[str, Any]:
    """Return an annotation as JSON, without what is known where it was asked for: model and origin."""
    return {
        "status": annotation.status.value,
        "reason": annotation.reason,
        "remark": annotation.remark,
        "masked_pixels": annotation.masked_pixels,
        "scores": {label: float(score) for label, score in annotation.scores.items()},
        "labels": list(annotation.labels),
        "doubtful": list(annotation.doubtful),
        "measured_order": int(annotation.measured_order),
        "measured_contrast": float(annotation.measured_contrast),
        "fit_residual": float(annotation.fit_residual),
        "novelty": float(annotation.novelty),
        **{
            name: _array_as_json(array)
            for name in _ARRAYS
            if (array := getattr(annotation, name)) is not None
        },
    }


def annotation_from_json(
    told: Mapping[str, Any], *, model: ModelIdentity, origin: Origin | None
) -> Annotation:
    """Return the annotation that `as_json` has described."""
    tuples = {name: tuple(told[name]) for name in ("labels", "doubtful")}
    arrays = {name: _array_from_json(told[name]) for name in _ARRAYS if name in told}
    return Annotation(**{**told, **tuples, **arrays}, model=model, origin=origin)


_ARRAYS = ("coefficients", "features")


def _array_as_json(array: NDArray[Any]) -> dict[str, Any]:
    # As text, coefficients and features of a frame take 0.6 ms to write and 0.4 ms to read; so 20 and 40 us.
    return {"dtype": array.dtype.str, "shape": array.shape, "bytes": b64encode(array.tobytes()).decode()}


def _array_from_json(told: Mapping[str, Any]) -> NDArray[Any]:
    return np.frombuffer(b64decode(told["bytes"]), np.dtype(told["dtype"])).reshape(told["shape"])
