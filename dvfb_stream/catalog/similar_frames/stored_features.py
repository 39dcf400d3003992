"""Which analysis runs keep features, and what these are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiled.queries import Key, KeyPresent

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.arrays import read_array
from dvfb_stream.catalog.newest import superseded_by
from dvfb_stream.catalog.place import KIND, find_place, places_in, plain
from dvfb_stream.catalog.replacing import REPLACED

FEATURES = "features"
"""Name of the array."""


@dataclass(frozen=True, slots=True)
class Model:
    """Which model features are of: those of two are not comparable."""

    name: str
    version: str
    sha256: str

    @property
    def described(self) -> str:
        """Name, version and the beginning of the hash."""
        return f"{self.name} {self.version} ({self.sha256[:8]})"


@dataclass(frozen=True, slots=True)
class AnalysisWithFeatures:
    """An analysis run that keeps features."""

    uid: str
    raw_uid: str
    stream: str
    data_key: str
    model: Model
    width: int
    """Features of a frame."""
    state: str | None
    """Another one whenever its rows were replaced; None: it has no stop yet."""
    is_newest: bool
    """Whether no other analysis of the same frames supersedes it."""
    raw: dict[str, Any]
    """What was copied from the raw start: ``scan_id``, ``sample_name``, ..."""
    place: Any
    """Tiled client of the container that it lies in."""

    @classmethod
    def of(cls, uid: str, run: Any, place: Any) -> AnalysisWithFeatures:
        """Return what is known of a run that a search has found."""
        analysis = run.metadata["start"]["analysis"]
        model = analysis["model"]
        return cls(
            uid=uid,
            raw_uid=str(analysis["parent"]),
            stream=str(analysis["stream"]),
            data_key=str(analysis["data_key"]),
            model=Model(str(model["name"]), str(model["version"]), str(model["sha256"])),
            width=int(analysis["arrays"][FEATURES][0]),
            state=_state(run.metadata),
            is_newest=superseded_by(run) is None,
            raw=dict(analysis.get("raw") or {}),
            place=place,
        )

    def frames(self) -> NDArray[np.int64]:
        """Return the indices of the frames that have features or might have some: those with a row.

        Raises
        ------
        StoreUnavailableError, StoreRefusedError
            When Tiled does not answer.
        """
        return read_array(self.place, self.uid, FEATURES)[0]

    def features(
        self, frames: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
        """Return frames, (N,), and features, (N, width), of those that have them; raises as `frames`."""
        found, features = read_array(self.place, self.uid, FEATURES, frames)
        there = np.isfinite(features).all(axis=1)
        return found[there], features[there]


def places_of(client: Any) -> list[Any]:
    """Return clients of the containers of analysis runs that a client means.

    Raises
    ------
    SettingsError
        When it is no container.
    """
    place = find_place(client)
    return places_in(client) if place is None else [place]


def analyses_of(place: Any, raw_uid: str) -> list[Any]:
    """Return clients of the analysis runs of a raw run, those without features included.

    Raises
    ------
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer.
    """
    with told_apart(f"looking for analyses of run {raw_uid}"):
        found = plain(place).search(Key("start.analysis.kind") == KIND)
        return list(found.search(Key("start.analysis.parent") == raw_uid).values())


def keeps_features(run: Any) -> bool:
    """Return whether an analysis run keeps features."""
    return FEATURES in (run.metadata["start"]["analysis"].get("arrays") or {})


def all_with_features(place: Any, model: Model) -> list[AnalysisWithFeatures]:
    """Return the analysis runs of a container that keep features of a model, one for the same frames.

    Of several, with other geometries, it is the newest: `newest_of`.

    Raises
    ------
    StoreUnavailableError, StoreRefusedError
        When Tiled does not answer.
    """
    with told_apart("looking for runs with features"):
        found = plain(place).search(KeyPresent(f"start.analysis.arrays.{FEATURES}"))
        analyses = [
            AnalysisWithFeatures.of(uid, run, place)
            for uid, run in found.search(Key("start.analysis.model.sha256") == model.sha256).items()
        ]
    of_frames: dict[tuple[str, str, str], list[AnalysisWithFeatures]] = {}
    for analysis in analyses:
        of_frames.setdefault((analysis.raw_uid, analysis.stream, analysis.data_key), []).append(analysis)
    return [newest_of(same) for same in of_frames.values()]


def newest_of(analyses: Sequence[AnalysisWithFeatures]) -> AnalysisWithFeatures:
    """Return the one that no other supersedes; where one without features does, that which was begun last."""
    return max(enumerate(analyses), key=lambda numbered: (numbered[1].is_newest, numbered[0]))[1]


def _state(metadata: Any) -> str | None:
    if not metadata.get("stop"):
        return None
    said = json.dumps([metadata["stop"], metadata.get(REPLACED)], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:16]
