"""Brings an index of features up to date with the analysis runs of a catalog: only what is new is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.similar_frames.feature_index import FeatureIndex, RunFeatures
from dvfb_stream.catalog.similar_frames.index_files import Part
from dvfb_stream.catalog.similar_frames.stored_features import AnalysisWithFeatures
from dvfb_stream.catalog.store_errors import StoreFaultError

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], object]
"""Is told what is read, how much of it is done, and of how much."""

_RUNS_A_STEP = 32
_FRAMES_A_STEP = 32_768
"""Whose features are read before they are kept: what a killed process has to read again; 32 MB of 256 features."""


@dataclass(frozen=True, slots=True)
class _Missing:
    """What the index does not have of an analysis run."""

    analysis: AnalysisWithFeatures
    known: NDArray[np.int64] | None
    """Frames that it has of a run that goes on; None: all are read, and take the place of what it has."""


def bring_up_to_date(
    index: FeatureIndex, listing: Callable[[], Iterable[AnalysisWithFeatures]], progress: Progress
) -> dict[str, AnalysisWithFeatures]:
    """Give an index the features of all analysis runs that there are, and return these by uid.

    Those that it has and that are what they were are not read. Several processes that do so at a time take turns, and
    none reads what another has read. Killed at any moment, it goes on where it was when it is called again.

    Parameters
    ----------
    index
        Of the model of these runs.
    listing
        Lists all that keep features of that model.
    progress
        Is told of what takes time.

    Raises
    ------
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer. One run of which alone it cannot read the features is left out, and told.
    OSError
        When the index cannot be written.
    """
    # Before the listing: what another process adds that has a later one is not gone.
    known = {part.analysis_uid for part in index.parts()}
    analyses = {analysis.uid: analysis for analysis in listing()}
    gone = known - set(analyses)
    tried: set[str] = set()
    while True:
        # Not locked yet: who has nothing to add does not wait for one who has.
        if not gone and not _missing(index, analyses.values(), tried):
            return analyses
        with index.writing():
            # Another process may have added some meanwhile.
            missing = _missing(index, analyses.values(), tried)
            total = len(tried) + len(missing)
            progress("features of runs", len(tried), total)
            read: list[RunFeatures] = []
            replaced, gone = gone, set()
            for one in missing[:_RUNS_A_STEP]:
                tried.add(one.analysis.uid)
                features = _read(one)
                if features is not None:
                    read.append(features)
                    if one.known is None:
                        replaced.add(one.analysis.uid)
                if sum(len(run.frames) for run in read) >= _FRAMES_A_STEP:
                    break
            index.put(read, in_place_of=replaced)
        progress("features of runs", len(tried), total)


def _missing(
    index: FeatureIndex, analyses: Iterable[AnalysisWithFeatures], tried: Collection[str]
) -> list[_Missing]:
    known: dict[str, list[Part]] = {}
    for part in index.parts():
        known.setdefault(part.analysis_uid, []).append(part)
    missing = []
    for analysis in analyses:
        parts = known.get(analysis.uid, [])
        states = {part.state for part in parts}
        if analysis.uid in tried or (analysis.state is not None and states == {analysis.state}):
            continue
        goes_on = analysis.state is None and states == {None}
        missing.append(
            _Missing(analysis, np.concatenate([index.frames(part) for part in parts]) if goes_on else None)
        )
    return missing


def _read(missing: _Missing) -> RunFeatures | None:
    """Return what is missing; None of a run that cannot be read, or has nothing new."""
    analysis = missing.analysis
    wanted = None
    try:
        if missing.known is not None:
            wanted = np.setdiff1d(analysis.frames(), missing.known)
            if not len(wanted):
                return None
        frames, features = analysis.features(wanted)
    except StoreFaultError as error:
        logger.warning("the features of run %s are left out: %s", analysis.uid, error)
        return None
    if missing.known is not None and not len(frames):
        return None
    part = Part(analysis.uid, analysis.raw_uid, analysis.stream, analysis.data_key, 0, 0, analysis.state)
    return RunFeatures(part, frames, features)
