"""Work in a process of its own: what it computes, exhausts or breaks is not the RunEngine's affair."""

from __future__ import annotations

from dvfb_stream.isolation.annotator_process import AnnotatorProcess
from dvfb_stream.isolation.messages import Service
from dvfb_stream.isolation.service_process import Ask, ServiceProcess

__all__ = ["AnnotatorProcess", "Ask", "Service", "ServiceProcess"]
