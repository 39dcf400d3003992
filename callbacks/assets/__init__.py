"""Pixels that Bluesky's documents only speak of: which file they lie in, and reading them off the scan's thread."""

from __future__ import annotations

from dvfb_stream.callbacks.assets.old_resources import OldResources
from dvfb_stream.callbacks.assets.reader import PixelReader, ReaderStats
from dvfb_stream.callbacks.assets.references import PixelReference
from dvfb_stream.callbacks.assets.run_assets import RunAssets
from dvfb_stream.callbacks.assets.sequences import NoFrames, PixelReferences

__all__ = [
    "NoFrames",
    "OldResources",
    "PixelReader",
    "PixelReference",
    "PixelReferences",
    "ReaderStats",
    "RunAssets",
]
