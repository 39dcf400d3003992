"""Work in a process of its own: what it computes, exhausts or breaks is not the RunEngine's affair."""

from __future__ import annotations

from dvfb_stream.worker.device_failures import Cause
from dvfb_stream.worker.process.annotator_process import AnnotatorProcess
from dvfb_stream.worker.process.companion import Ask, Companion
from dvfb_stream.worker.process.service import Service

__all__ = ["AnnotatorProcess", "Ask", "Cause", "Companion", "Service"]
