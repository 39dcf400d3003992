"""What an annotator's process does: makes the annotator, and annotates the batches that lie in shared memory."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from typing import Any

from dvfb_stream.frame_annotator import as_frame_annotator
from dvfb_stream.isolation.shared_batches import BatchReader, as_json
from dvfb_stream.metrics import Stage

_PREPARING_THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
"""A view takes a millisecond of a processor; a GPU annotates several batches in the time of sixteen."""


class AnnotatorService:
    """See `Service`.

    Parameters
    ----------
    memory
        Descriptor of the shared memory.
    factory
        What makes the annotator, as ``module:name``.
    settings
        What it is called with.
    """

    def __init__(self, memory: int, factory: str, settings: Mapping[str, Any]) -> None:
        module, _, name = factory.partition(":")
        made = attrgetter(name)(importlib.import_module(module))(**settings)
        self._annotator = as_frame_annotator(made)
        self._device = str(getattr(made, "device", "cpu"))
        self._batches = BatchReader(memory)
        self._stages: list[tuple[str, float]] = []
        self._annotator.report_stages(self._took)
        self._annotator.copy_ahead()
        self._preparing = ThreadPoolExecutor(_PREPARING_THREADS, "dvfb-prepare")
        self._prepared: dict[int, Future[Any]] = {}  # by the number of the frame

    def _took(self, stage: Stage, seconds: float) -> None:
        self._stages.append((stage.value, seconds))

    def describe(self) -> dict[str, Any]:
        """Return the annotator's identity, provenance, device and arrays, and whether it prepares frames ahead."""
        identity = self._annotator.identity
        return {
            "identity": {"name": identity.name, "version": identity.version, "sha256": identity.sha256},
            "provenance": self._annotator.provenance(),
            "device": self._device,
            "prepares_ahead": self._annotator.prepares_ahead,
            "arrays": dict(self._annotator.arrays),
        }

    def notify(self, note: Mapping[str, Any]) -> None:
        """Begin to prepare a frame."""
        (frame,) = self._batches.read(note["batch"])
        self._prepared[note["number"]] = self._preparing.submit(self._annotator.prepare, frame)

    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the annotations of a batch, and how long its stages took."""
        frames = self._batches.read(request["batch"])
        self._annotator.keep_arrays(request["arrays"])
        if request["numbers"]:
            ready = [self._prepared.pop(number, None) for number in request["numbers"]]
            prepared = [
                self._annotator.prepare(frame) if one is None else one.result()
                for one, frame in zip(ready, frames, strict=True)
            ]
            annotations = self._annotator.annotate_prepared(prepared)
        else:
            annotations = self._annotator.annotate(frames)
        for number in [number for number in list(self._prepared) if number < request["oldest"]]:
            self._prepared.pop(number).cancel()  # dropped, and not asked for any more
        stages, self._stages = self._stages, []
        return {"annotations": [as_json(annotation) for annotation in annotations], "stages": stages}
