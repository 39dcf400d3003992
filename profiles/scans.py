"""Scans of a simulated beamline: a RunEngine, a detector and a stage, annotated live into a catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bluesky import RunEngine
from bluesky import plans as bp
from bluesky.utils import FailedStatus, RunEngineInterrupted
from bluesky_tiled_plugins import TiledWriter
from ophyd.sim import SynAxis

from dvfb_stream.callbacks import LiveAnnotator, Sink
from dvfb_stream.catalog import TiledSink
from dvfb_stream.errors import DvfbError
from dvfb_stream.frame_annotator import SupportsAnnotate
from dvfb_stream.profiles.catalogs import last_scan_id
from dvfb_stream.profiles.exposures import SAMPLES, Exposures, SimulatedExposures
from dvfb_stream.profiles.simulated_detector import SimulatedDetector

IMAGE_KEY = "det_image"
"""Data key of the frames of `run_scans`."""
TRUTH_KEY = "det_truth"
"""Data key of the labels that are really visible, separated by commas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One scan of the sample stage, one exposure a position."""

    sample: str
    """Name of the sample, for the run's start document."""
    exposures: Exposures
    frames: int


def scans_of_samples(frames: int, seed: int) -> list[Scan]:
    """Return a scan for each of the simulated samples, `frames` (1 or more) in all; fewer samples than scans need."""
    samples = SAMPLES[: min(len(SAMPLES), frames)]
    each, rest = divmod(frames, len(samples))
    return [
        Scan(
            sample=sample.name,
            exposures=SimulatedExposures(seed, sample=sample),
            frames=each + (number < rest),
        )
        for number, sample in enumerate(samples)
    ]


def run_scans(
    scans: Sequence[Scan],
    annotator: SupportsAnnotate,
    catalog: Any,
    *,
    sinks: Sequence[Sink] = (),
    arrays: Sequence[str] = (),
    timeout: float | None = None,
) -> list[str]:
    """Run scans of one geometry; raw runs and annotations are stored when this returns.

    Parameters
    ----------
    scans
        At least one.
    annotator
        What annotates.
    catalog
        Tiled client of the container for both kinds of runs.
    sinks
        Called with the analysis documents before the catalog is.
    arrays
        Stored of each frame beside its row, as `LiveAnnotator` takes them.
    timeout
        Seconds to wait for the last rows after the last scan.

    Returns
    -------
    list of str
        uids of the raw runs.

    Raises
    ------
    DvfbError
        When an exposure fails, or rows are not stored in time.
    KeyboardInterrupt
        On Ctrl-C; the run is ended before.
    """
    detector = SimulatedDetector(scans[0].exposures, name="det")
    stage = SynAxis(name="sample_x")
    RE: Any = RunEngine({"scan_id": last_scan_id(catalog)}, call_returns_result=False)
    RE.subscribe(TiledWriter(catalog))
    uids: list[str] = []
    with (
        # All rows are stored before this returns, or it fails.
        TiledSink(catalog, spool=False) as sink,
        LiveAnnotator(
            annotator,
            sinks=[*sinks, sink],
            detectors={IMAGE_KEY: detector.geometry},
            arrays=arrays,
            policy="block",  # nobody's beam time is lost here, and every frame is to be seen
        ) as live,
    ):
        RE.subscribe(live)
        for scan in scans:
            detector.mount(scan.exposures)
            plan = bp.scan([detector], stage, 0, scan.frames - 1, scan.frames)
            try:
                uids += RE(plan, sample_name=scan.sample)
            except RunEngineInterrupted:  # Ctrl-C pauses a plan at its next checkpoint
                RE.abort("interrupted")
                raise KeyboardInterrupt from None
            except FailedStatus as error:
                raise DvfbError(f"the scan of {scan.sample!r} failed: {error.__cause__ or error}") from error
        if not live.wait(timeout):
            raise DvfbError(f"the annotations are not complete after {timeout:g} s")
        failures = live.stats().writer.sink_failures
    if failures:
        raise DvfbError("the annotations could not be stored; the log says why")
    return uids
