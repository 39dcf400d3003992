"""Work in a process of its own: what it computes, exhausts or breaks is not the RunEngine's affair."""

from __future__ import annotations

from dvfb_stream.failures import Cause
from dvfb_stream.isolation.annotator_process import AnnotatorProcess
from dvfb_stream.isolation.service import Service
from dvfb_stream.isolation.service_process import Ask, Companion

__all__ = ["AnnotatorProcess", "Ask", "Cause", "Companion", "Service"]
