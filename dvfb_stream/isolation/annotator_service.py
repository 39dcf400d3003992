"""What an annotator's process does: makes the annotator, and annotates the batches that lie in shared memory."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from operator import attrgetter
from typing import Any

from dvfb_stream.isolation.shared_batches import BatchReader, described
from dvfb_stream.metrics import Stage
from dvfb_stream.worker.interface import CopiesAhead, ReportsStages, SupportsAnnotate, SupportsPrepare

_PREPARING_THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
"""A view takes two milliseconds of a processor; a GPU annotates several batches in the time of sixteen."""


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
        self._annotator: SupportsAnnotate = attrgetter(name)(importlib.import_module(module))(**settings)
        self._batches = BatchReader(memory)
        self._stages: list[tuple[str, float]] = []
        if isinstance(self._annotator, ReportsStages):
            self._annotator.report_stages(self._took)
        if isinstance(self._annotator, CopiesAhead):
            self._annotator.copy_ahead()
        self._preparing = ThreadPoolExecutor(_PREPARING_THREADS, "dvfb-prepare")
        self._prepared: dict[int, Future[Any]] = {}  # by the number of the frame

    def _took(self, stage: Stage, seconds: float) -> None:
        self._stages.append((stage.value, seconds))

    def introduction(self) -> dict[str, Any]:
        """Return the annotator's identity, provenance and device, and whether frames should be prepared ahead."""
        identity = self._annotator.identity
        describe = getattr(self._annotator, "provenance", None)
        return {
            "identity": {"name": identity.name, "version": identity.version, "sha256": identity.sha256},
            "provenance": describe() if callable(describe) else {},
            "device": str(getattr(self._annotator, "device", "cpu")),
            "prepares_ahead": isinstance(self._annotator, SupportsPrepare) and self._annotator.prepares_ahead,
        }

    def hear(self, note: Mapping[str, Any]) -> None:
        """Begin to prepare a frame."""
        annotator = self._annotator
        if isinstance(annotator, SupportsPrepare):
            (frame,) = self._batches.read(note["batch"])
            self._prepared[note["number"]] = self._preparing.submit(annotator.prepare, frame)

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the annotations of a batch, and how long its stages took."""
        frames = self._batches.read(request["batch"])
        annotator = self._annotator
        if isinstance(annotator, SupportsPrepare) and request["numbers"]:
            ready = [self._prepared.pop(number, None) for number in request["numbers"]]
            prepared = [
                annotator.prepare(frame) if one is None else one.result()
                for one, frame in zip(ready, frames, strict=True)
            ]
            annotations = annotator.annotate_prepared(prepared)
        else:
            annotations = annotator.annotate(frames)
        self._forget(request["oldest"])
        stages, self._stages = self._stages, []
        return {"annotations": [described(annotation) for annotation in annotations], "stages": stages}

    def _forget(self, oldest: int) -> None:
        """Let go of frames older than that: they were dropped, and do not come any more."""
        for number in list(self._prepared):
            if number < oldest:
                self._prepared.pop(number).cancel()
