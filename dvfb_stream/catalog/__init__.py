"""Analysis runs in Tiled: storing them, finding raw runs by what they show, and a server for one folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvfb_stream.lazy_imports import lazy_names

if TYPE_CHECKING:
    from dvfb_stream.catalog.connection import connect
    from dvfb_stream.catalog.corrections.correcting import correct, undo
    from dvfb_stream.catalog.corrections.correction import corrected_labels
    from dvfb_stream.catalog.corrections.export import export_labels
    from dvfb_stream.catalog.corrections.reading import corrections_of
    from dvfb_stream.catalog.search import (
        annotations_table,
        find_doubtful_runs,
        find_frames,
        find_runs,
        read_annotations,
    )
    from dvfb_stream.catalog.server import embedded_server
    from dvfb_stream.catalog.similar_frames.finding import similar
    from dvfb_stream.catalog.sink import TiledSink

__all__ = [
    "TiledSink",
    "annotations_table",
    "connect",
    "correct",
    "corrected_labels",
    "corrections_of",
    "embedded_server",
    "export_labels",
    "find_doubtful_runs",
    "find_frames",
    "find_runs",
    "read_annotations",
    "similar",
    "undo",
]

__getattr__ = lazy_names(__name__, __file__, extra="tiled")
