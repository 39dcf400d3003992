"""The RunEngine, and the catalog that keeps its runs."""
# These files run one after another in one namespace, so names come from those before.
# ruff: noqa: F821
# mypy: ignore-errors

from contextlib import ExitStack

from bluesky import RunEngine
from bluesky_tiled_plugins import TiledWriter

from dvfb_stream.profiles.catalogs import close_before_exit, last_scan_id, open_catalog

opened = ExitStack()
close_before_exit(opened)
catalog = opened.enter_context(open_catalog(beamline))
RE = RunEngine({"beamline_id": beamline.description.name, "scan_id": last_scan_id(catalog)})
RE.subscribe(TiledWriter(catalog))
