"""What an annotator's process does: makes the annotator, and annotates the batches that lie in shared memory."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from dvfb_stream.metrics import Stage
from dvfb_stream.worker.interface import ReportsStages, SupportsAnnotate
from dvfb_stream.worker.process.batches import BatchReader, described


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

    def _took(self, stage: Stage, seconds: float) -> None:
        self._stages.append((stage.value, seconds))

    def introduction(self) -> dict[str, Any]:
        """Return the annotator's identity and provenance."""
        identity = self._annotator.identity
        describe = getattr(self._annotator, "provenance", None)
        return {
            "identity": {"name": identity.name, "version": identity.version, "sha256": identity.sha256},
            "provenance": describe() if callable(describe) else {},
        }

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the annotations of a batch, and how long its stages took."""
        self._stages.clear()
        annotations = self._annotator.annotate(self._batches.read(request))
        return {"annotations": [described(annotation) for annotation in annotations], "stages": self._stages}
