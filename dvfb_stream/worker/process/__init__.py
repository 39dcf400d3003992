"""An annotator in a process of its own: what it computes, exhausts or breaks is not the RunEngine's affair."""

from __future__ import annotations

from dvfb_stream.worker.process.annotator_process import AnnotatorProcess

__all__ = ["AnnotatorProcess"]
