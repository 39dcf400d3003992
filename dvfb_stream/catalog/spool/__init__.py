"""Analysis documents on the disk until a store has them."""

from __future__ import annotations

from dvfb_stream.catalog.spool.delivery import Store
from dvfb_stream.catalog.spool.folder import FOLDER_VARIABLE, folder_for, spools_folder
from dvfb_stream.catalog.spool.intake import WhenFull
from dvfb_stream.catalog.spool.pace import Pace
from dvfb_stream.catalog.spool.spool import MAX_BYTES, MAX_OPEN_RUNS, Spool
from dvfb_stream.catalog.spool.tally import SpoolStats

__all__ = [
    "FOLDER_VARIABLE",
    "MAX_BYTES",
    "MAX_OPEN_RUNS",
    "Pace",
    "Spool",
    "SpoolStats",
    "Store",
    "WhenFull",
    "folder_for",
    "spools_folder",
]
