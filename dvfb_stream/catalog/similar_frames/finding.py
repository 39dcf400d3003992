"""Finds the frames that look most like one, in all that was annotated by the same model."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.cache_folder import FOLDER_VARIABLE, cache_folder
from dvfb_stream.catalog.place import STREAM, TABLE, plain
from dvfb_stream.catalog.raw_runs import raw_uid_of
from dvfb_stream.catalog.run_table import rows_of
from dvfb_stream.catalog.similar_frames.feature_index import FeatureIndex, Neighbour
from dvfb_stream.catalog.similar_frames.index_files import Part
from dvfb_stream.catalog.similar_frames.stored_features import (
    AnalysisWithFeatures,
    all_with_features,
    analyses_of,
    keeps_features,
    newest_of,
    places_of,
)
from dvfb_stream.catalog.similar_frames.updating import Progress, bring_up_to_date
from dvfb_stream.errors import SettingsError

MOST = 10_000
"""Frames that can be asked for at once."""


@dataclass(frozen=True, slots=True)
class SimilarFrame:
    """A frame that looks like the one that was asked for."""

    raw_uid: str
    """Of its run."""
    stream: str
    data_key: str
    frame: int
    """Index in the data key."""
    cosine: float
    """Of the angle between the features of both, 1 for the same; of one model, greater is more similar."""
    analysis_uid: str
    """Analysis run that has its row."""
    scan_id: int | None
    """Of the raw run, where it was copied."""
    sample_name: str | None


def similar(
    client: Any,
    raw_uid: str | int,
    frame: SupportsIndex,
    n: SupportsIndex = 10,
    *,
    stream: str | None = None,
    data_key: str | None = None,
    model: str | None = None,
    other_runs_only: bool = False,
    progress: Progress | None = None,
) -> list[SimilarFrame]:
    """Return the frames that look most like one, the most similar first.

    Compared are the features that the model made of each frame, where they were stored on request. An index of them
    is kept in this user's cache folder; what came into the catalog since the last call is added to it first. The
    search is exact: no frame of the index is more similar than those returned.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, of that of the analysis runs, or of what both lie in: then frames
        of all places in it are found.
    raw_uid
        uid of the raw run, or what else `dvfb_stream.catalog.raw_runs.raw_uid_of` takes: its beginning, a scan
        number, -1 for the last run.
    frame
        Index of the frame in its data key.
    n
        How many frames; fewer where there are fewer. The frame itself is none of them.
    stream, data_key
        Which frames are counted, where a run has several detectors.
    model
        Name of the model, or the beginning of its hash, where several have annotated the run; None: the newest.
    other_runs_only
        Leave out frames of the same run, of which the next ones are often the most similar.
    progress
        Is told what is read, how much of it is done, and of how much.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, there is no such run or frame, the frame has no features, or it is not
        clear of which detector it is.
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer, or does not let us read.
    """
    frame, n = _checked(frame, n)
    tell: Progress = progress or (lambda what, done, total: None)
    with told_apart("looking for annotations"):
        places = places_of(client)
    asked = _chosen(_analyses(client, places, raw_uid), stream=stream, data_key=data_key, model=model)
    features = _features(asked, frame)
    found: list[tuple[Neighbour, AnalysisWithFeatures]] = []
    for place in places:
        with _kept_in(place, asked) as index:
            analyses = bring_up_to_date(index, partial(all_with_features, place, asked.model), tell)

            def is_left_out(part: Part, analyses: Mapping[str, AnalysisWithFeatures] = analyses) -> bool:
                # Another process may have added what is not known here.
                return part.analysis_uid not in analyses or (
                    other_runs_only and part.raw_uid == asked.raw_uid
                )

            nearest = index.nearest(features, n, without=is_left_out, without_frame=(asked.uid, frame))
            found += [(neighbour, analyses[neighbour.part.analysis_uid]) for neighbour in nearest]
    found.sort(key=lambda pair: -pair[0].cosine)
    return [_described(neighbour, analysis) for neighbour, analysis in found[:n]]


def _checked(frame: SupportsIndex, n: SupportsIndex) -> tuple[int, int]:
    try:
        index, number = operator.index(frame), operator.index(n)
    except TypeError:
        raise SettingsError(f"frame and n are integers, not {frame!r} and {n!r}") from None
    if index < 0:
        raise SettingsError(f"frames count from 0; there is no frame {index}")
    if not 1 <= number <= MOST:
        raise SettingsError(f"n must be from 1 to {MOST}, not {number}")
    return index, number


def _analyses(client: Any, places: Sequence[Any], raw_uid: str | int) -> list[AnalysisWithFeatures]:
    """Return the analyses of a raw run that keep features."""
    runs = _runs(places, raw_uid)
    if not runs:
        # As people call it; what is meant may not be annotated.
        uid = raw_uid_of(client, raw_uid)
        runs = _runs(places, uid) if uid != raw_uid else []
        if not runs:
            raise SettingsError(
                f"run {uid} is not annotated, as far as {client.uri.partition('?')[0]} knows; annotate it with "
                "features: dvfb annotate --tiled URI --uid "
                f"{uid} --arrays features"
            )
    with_features = [
        AnalysisWithFeatures.of(run.item["id"], run, place) for place, run in runs if keeps_features(run)
    ]
    if not with_features:
        raise SettingsError(
            f"of run {raw_uid} no features are stored, only annotations; store them from now on with "
            'arrays=("features",) of LiveAnnotator, and of runs that are there with: dvfb annotate --tiled URI '
            "--again --arrays features"
        )
    return with_features


def _runs(places: Sequence[Any], raw_uid: str | int) -> list[tuple[Any, Any]]:
    if not isinstance(raw_uid, str):
        return []
    return [(place, run) for place in places for run in analyses_of(place, raw_uid)]


def _chosen(
    analyses: list[AnalysisWithFeatures], *, stream: str | None, data_key: str | None, model: str | None
) -> AnalysisWithFeatures:
    raw_uid = analyses[0].raw_uid
    of_detector = [
        analysis
        for analysis in analyses
        if stream in (None, analysis.stream) and data_key in (None, analysis.data_key)
    ]
    detectors = sorted({(analysis.stream, analysis.data_key) for analysis in of_detector or analyses})
    if len(detectors) != 1 or not of_detector:
        known = ", ".join(f"{data_key!r} of stream {stream!r}" for stream, data_key in detectors)
        raise SettingsError(
            f"run {raw_uid} has features of {known}; say which with data_key, and stream where need be"
        )
    of_model = [
        analysis
        for analysis in of_detector
        if model is None or model == analysis.model.name or analysis.model.sha256.startswith(model)
    ]
    if not of_model:
        known = ", ".join(dict.fromkeys(analysis.model.described for analysis in of_detector))
        raise SettingsError(
            f"model {model!r} has no features of run {raw_uid}, but {known}; annotate it with that model and "
            "--arrays features"
        )
    return newest_of(of_model)


def _features(analysis: AnalysisWithFeatures, frame: int) -> NDArray[np.floating]:
    frames, features = analysis.features(np.array([frame]))
    if len(frames):
        found: NDArray[np.floating] = features[0]
        return found
    with told_apart(f"reading the rows of run {analysis.uid}"):
        stream = plain(analysis.place[analysis.uid]).get(STREAM)
        table = None if stream is None else plain(stream).get(TABLE)
        rows = [] if table is None else rows_of(table, ["frame", "status", "reason"]).to_pylist()
    row = next((row for row in rows if row["frame"] == frame), None)
    which = f"{analysis.data_key!r} of run {analysis.raw_uid}"
    if row is None:
        last = max((row["frame"] for row in rows), default=None)
        raise SettingsError(
            f"{which} has no annotated frame yet"
            if last is None
            else f"{which} has no annotated frame {frame}; the last one is {last}"
        )
    if row["status"] != "ok":
        raise SettingsError(
            f"frame {frame} of {which} has no features, since it was not annotated: {row['reason']}"
        )
    raise SettingsError(
        f"frame {frame} of {which} was annotated when nobody asked for features; have its rows written anew: dvfb "
        f"annotate --tiled URI --uid {analysis.raw_uid} --again --arrays features"
    )


@contextmanager
def _kept_in(place: Any, asked: AnalysisWithFeatures) -> Iterator[FeatureIndex]:
    """Give the index of a place's frames, and say what to do where it cannot be kept."""
    try:
        yield FeatureIndex(cache_folder(place) / "features" / asked.model.sha256[:16], asked.width)
    except OSError as error:
        raise SettingsError(
            f"the index of features cannot be kept ({error}); name a folder with space for it in {FOLDER_VARIABLE}: "
            "0.65 GB a million frames"
        ) from error


def _described(neighbour: Neighbour, analysis: AnalysisWithFeatures) -> SimilarFrame:
    scan_id, sample_name = analysis.raw.get("scan_id"), analysis.raw.get("sample_name")
    return SimilarFrame(
        raw_uid=analysis.raw_uid,
        stream=analysis.stream,
        data_key=analysis.data_key,
        frame=neighbour.frame,
        cosine=neighbour.cosine,
        analysis_uid=analysis.uid,
        scan_id=scan_id if isinstance(scan_id, int) else None,
        sample_name=None if sample_name is None else str(sample_name),
    )
