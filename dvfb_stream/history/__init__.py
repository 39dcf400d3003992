"""Annotates raw runs that a Tiled catalog keeps: their documents made again, their rows made better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.history.report import HistoryReport
    from dvfb_stream.history.single_run import annotate_run

__all__ = ["HistoryReport", "annotate_run"]

__getattr__ = lazy_names(__name__, __file__)
