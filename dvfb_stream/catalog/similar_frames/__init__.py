"""Frames that look like one: found by the features that a model made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.catalog.similar_frames.finding import SimilarFrame, similar

__all__ = ["SimilarFrame", "similar"]

__getattr__ = lazy_names(__name__, __file__, extra="tiled")
