"""Analysis runs in Tiled: storing them, finding raw runs by what they show, and a server for one folder."""

from __future__ import annotations

from dvfb_stream.errors import MissingExtraError

try:
    import bluesky_tiled_plugins  # noqa: F401
    import tiled.client  # noqa: F401
except ImportError as error:
    raise MissingExtraError(error.name or "tiled", "tiled") from error

from dvfb_stream.catalog.connection import connect
from dvfb_stream.catalog.search import find_runs, read_annotations
from dvfb_stream.catalog.server import embedded_server
from dvfb_stream.catalog.sink import TiledSink

__all__ = ["TiledSink", "connect", "embedded_server", "find_runs", "read_annotations"]
