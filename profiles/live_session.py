"""The two lines by which a beamline's own start-up gets live annotation."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dvfb_stream.callbacks import LiveAnnotator, Sink
from dvfb_stream.catalog import TiledSink
from dvfb_stream.catalog.connection import CatalogAwayError
from dvfb_stream.catalog.later import LaterCatalog
from dvfb_stream.frames import Geometry
from dvfb_stream.metrics import serve
from dvfb_stream.profiles.beamline_description import Beamline, read_beamline
from dvfb_stream.profiles.catalogs import catalog_address, close_before_exit, open_catalog, spool_folder
from dvfb_stream.worker.shutdown import seconds_for_rows

logger = logging.getLogger(__name__)


def annotate_live(
    RE: Any,
    beamline: Beamline | str | Path | None = None,
    *,
    catalog: Any = None,
    detectors: Mapping[str, Geometry] | None = None,
    sinks: Sequence[Sink] = (),
    arrays: Sequence[str] | None = None,
) -> LiveAnnotator:
    """Annotate every run of a RunEngine from now on, as a beamline's description says, and return the callback.

    Parameters
    ----------
    RE
        The RunEngine; the callback is subscribed to it.
    beamline
        A description or the path of its TOML file; None: see `read_beamline`.
    catalog
        Tiled client of the container for the analysis runs; None: opened as the description says, and closed
        when the process ends, after the callback.
    detectors
        Geometries besides the described ones, by data key.
    sinks
        Called with the analysis documents before the catalog is: an `AnnotationTable` for example.
    arrays
        What is kept of each frame besides its row: ``"coefficients"``, ``"features"``; None: as the description says.

    Raises
    ------
    SettingsError
        When the description is refused, the catalog cannot be opened, the metrics' port is in use, or there is no
        such array.
    BundleError
        When the model cannot be loaded.
    """
    if not isinstance(beamline, Beamline):
        beamline = read_beamline(beamline)
    description = beamline.description
    with ExitStack() as opened:
        client = _opened_now_or_later(beamline, opened) if catalog is None else catalog
        sink = TiledSink(
            client,
            batch_size=description.catalog.batch_size,
            spool=spool_folder(beamline) if catalog is None else description.catalog.spool,
            max_spool_bytes=description.catalog.max_spool_bytes,
        )
        # After the callback, which leaves it time, and before its client: what is left is on the disk.
        opened.callback(sink.close, 0.0)
        live = LiveAnnotator(
            beamline.model,
            sinks=[*sinks, sink],
            # None rather than nothing: then rows say which data keys look like images and want a geometry.
            detectors={**beamline.geometries, **(detectors or {})} or None,
            policy=description.policy,
            device=description.device,
            annotate_in=description.annotate_in,
            max_frames=description.max_frames,
            max_bytes=description.max_bytes,
            patience=description.patience,
            root_map=description.root_map,
            handlers=description.handlers,
            arrays=description.arrays if arrays is None else arrays,
        )
        # Where what follows fails: there is nothing yet to wait for. At exit, it is closed already.
        opened.callback(live.close, 0.0)
        if description.metrics_port is not None:
            opened.enter_context(serve(live.metrics, description.metrics_port))
        if catalog is None:
            close_with(live, opened)
            close_before_exit(opened.pop_all())
        else:
            # The callback closes itself at exit; nobody waits for the metrics' thread.
            opened.pop_all()
    RE.subscribe(live)
    return live


def _opened_now_or_later(beamline: Beamline, opened: ExitStack) -> Any:
    """Return a client of the beamline's catalog; where its server is away, what opens it later."""
    try:
        return opened.enter_context(open_catalog(beamline))
    except CatalogAwayError as error:
        logger.warning("%s Rows wait on this machine's disk meanwhile", error)
        return LaterCatalog(catalog_address(beamline) or "")


def close_with(live: LiveAnnotator, opened: ExitStack) -> None:
    """Close a callback, with the time that the end of a process leaves to the last rows, when `opened` is closed."""
    opened.callback(lambda: live.close(seconds_for_rows()))
