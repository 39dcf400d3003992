"""Frames and annotations of a batch as two processes exchange them: pixels in shared memory, the rest as JSON."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import FrameError
from dvfb_stream.frames import Frame, Geometry, Origin
from dvfb_stream.worker.process.shared_arrays import ArrayReader, ArrayWriter, can_be_shared

_GEOMETRIES_KEPT = 64
"""A geometry takes a millisecond to make and check; a beamline has one or two at a time."""


class BatchWriter:
    """Lays batches of frames into shared memory, each over the one before it."""

    def __init__(self, memory: int) -> None:
        self._arrays = ArrayWriter(memory)

    def write(self, frames: Sequence[Frame]) -> dict[str, Any]:
        """Copy pixels and masks, and return what `BatchReader.read` needs to know.

        Raises
        ------
        FrameError
            When pixels are no numbers.
        """
        for frame in frames:
            if not can_be_shared(frame.pixels):
                raise FrameError(f"pixels must be integer or floating, not {frame.pixels.dtype}")
        geometries = {frame.geometry.digest: frame.geometry for frame in frames}
        masks = {digest: one.mask for digest, one in geometries.items() if one.mask is not None}
        places = self._arrays.write([*masks.values(), *(frame.pixels for frame in frames)])
        place_of_mask = dict(zip(masks, places, strict=False))
        return {
            "geometries": {
                digest: {
                    "shape": one.shape,
                    "center_x": one.center_x,
                    "center_y": one.center_y,
                    "mask": place_of_mask.get(digest),
                }
                for digest, one in geometries.items()
            },
            "frames": [
                {"geometry": frame.geometry.digest, "pixels": place}
                for frame, place in zip(frames, places[len(masks) :], strict=True)
            ],
        }


class BatchReader:
    """Finds the frames of a batch in shared memory."""

    def __init__(self, memory: int) -> None:
        self._arrays = ArrayReader(memory)
        self._geometries: OrderedDict[str, Geometry] = OrderedDict()

    def read(self, batch: Mapping[str, Any]) -> list[Frame]:
        """Return the frames that were written, without origin, their pixels where they lie.

        They are what they are until the next batch is written.
        """
        for digest, told in batch["geometries"].items():
            self._learn(digest, told)
        return [
            Frame(self._arrays.read(told["pixels"]), self._geometries[told["geometry"]])
            for told in batch["frames"]
        ]

    def _learn(self, digest: str, told: Mapping[str, Any]) -> None:
        if digest not in self._geometries:
            mask = (
                None if told["mask"] is None else np.asarray(self._arrays.read(told["mask"]), dtype=np.bool_)
            )
            self._geometries[digest] = Geometry(
                shape=tuple(told["shape"]), center_x=told["center_x"], center_y=told["center_y"], mask=mask
            )
            if len(self._geometries) > _GEOMETRIES_KEPT:
                self._geometries.popitem(last=False)
        self._geometries.move_to_end(digest)


def described(annotation: Annotation) -> dict[str, Any]:
    """Return an annotation as JSON, without what is known where it was asked for: model and origin."""
    return {
        "status": annotation.status,
        "reason": annotation.reason,
        "scores": {label: float(score) for label, score in annotation.scores.items()},
        "labels": list(annotation.labels),
        "fit_residual": float(annotation.fit_residual),
        "novelty": float(annotation.novelty),
    }


def annotation_from(told: Mapping[str, Any], *, model: ModelIdentity, origin: Origin | None) -> Annotation:
    """Return the annotation that `described` has described."""
    return Annotation(**{**told, "labels": tuple(told["labels"])}, model=model, origin=origin)
