"""Finds what models had said of frames: which analysis run of a raw run is meant, and its rows of some frames."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.ipc
from numpy.typing import NDArray
from tiled.client.utils import handle_error, retry_context
from tiled.queries import In, Key
from tiled.utils import APACHE_ARROW_FILE_MIME_TYPE

from dvfb_stream.catalog.corrections.correction import ModelRow
from dvfb_stream.catalog.corrections.corrections_place import path_beside, path_of
from dvfb_stream.catalog.corrections.pages import address_of, nodes_in
from dvfb_stream.catalog.newest import SUPERSEDED_BY
from dvfb_stream.catalog.place import ANNOTATIONS_SUFFIX, KIND, STREAM, TABLE
from dvfb_stream.errors import SettingsError

_AT_A_TIME = 100
"""Raw runs asked for in one request: their uids stand in its address, of which servers take some 8 kB."""
_SHORTEST_SHA = 6
"""Characters of a model's hash that name it."""

_SELECTED = (
    "{parent: start.analysis.parent, stream: start.analysis.stream, data_key: start.analysis.data_key, "
    "model: start.analysis.model, labels: start.analysis.labels, "
    f"superseded_by: start.analysis.{SUPERSEDED_BY}, stop: stop.uid, raw: start.analysis.raw}}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """An analysis run, as far as a correction speaks of it."""

    uid: str
    path: tuple[str, ...]
    """Of its node, from the server's root."""
    raw_uid: str
    stream: str
    data_key: str
    model: str
    model_version: str
    model_sha256: str
    labels: tuple[str, ...]
    """That the model knows."""
    access_tags: tuple[str, ...]
    """Of those who may see it; empty where nothing says."""
    is_newest: bool
    """Whether no other of the same frames supersedes it."""
    is_finished: bool
    """Whether it has its stop."""
    raw: Mapping[str, Any]
    """What was copied from the raw start: `sample_name`, `beamline_id` and so on."""

    def __str__(self) -> str:
        return f"{self.stream}/{self.data_key} by {self.model} ({self.model_sha256[:_SHORTEST_SHA]})"


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows of an analysis run."""

    of_frame: Mapping[int, ModelRow]
    """Of the frames asked for, those that are there."""
    all_frames: str
    """Which frames have rows, in words."""


def analyses_of(client: Any, raw_uids: Iterable[str]) -> dict[str, list[Analysis]]:
    """Return the analysis runs of raw runs, the newest last; of those that have none, nothing.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, or of the place of the analysis runs.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    wanted, found = list(dict.fromkeys(raw_uids)), dict[str, list[Analysis]]()
    beside = path_beside(client, ANNOTATIONS_SUFFIX)
    # Earlier versions put them among the raw ones.
    for path in dict.fromkeys(path for path in (beside, path_of(client)) if path is not None):
        missing = [uid for uid in wanted if uid not in found]
        for first in range(0, len(missing), _AT_A_TIME):
            some = missing[first : first + _AT_A_TIME]
            which = (
                Key("start.analysis.parent") == some[0]
                if len(some) == 1
                else In("start.analysis.parent", some)
            )
            queries = (Key("start.analysis.kind") == KIND, which)
            for node in nodes_in(client.context, path, *queries, select=_SELECTED):
                analysis = _analysis(node)
                found.setdefault(analysis.raw_uid, []).append(analysis)
    return found


def _analysis(node: Mapping[str, Any]) -> Analysis:
    attributes = node["attributes"]
    said = attributes["metadata"]["selected"]
    return Analysis(
        uid=node["id"],
        path=(*attributes["ancestors"], node["id"]),
        raw_uid=said["parent"],
        stream=said["stream"],
        data_key=said["data_key"],
        model=said["model"]["name"],
        model_version=str(said["model"]["version"]),
        model_sha256=said["model"]["sha256"],
        labels=tuple(said["labels"] or ()),
        access_tags=tuple(attributes.get("access_tags") or ()),
        is_newest=said["superseded_by"] is None,
        is_finished=said["stop"] is not None,
        raw=said["raw"] or {},
    )


def chosen(
    raw_uid: str,
    analyses: Sequence[Analysis],
    *,
    stream: str | None = None,
    data_key: str | None = None,
    model: str | None = None,
) -> Analysis:
    """Return the analysis run that is meant: of one detector, the newest.

    Raises
    ------
    SettingsError
        When none is meant, or several detectors' are.
    """
    if not analyses:
        raise SettingsError(
            f"run {raw_uid} has no annotations; make them first: dvfb annotate --tiled CATALOG"
        )
    there = ", ".join(dict.fromkeys(map(str, analyses)))
    left = [
        one
        for one in analyses
        if stream in (None, one.stream) and data_key in (None, one.data_key) and _is_by(one, model)
    ]
    asked = {"stream": stream, "data_key": data_key, "model": model}
    if not left:
        said = ", ".join(f"{name} {value!r}" for name, value in asked.items() if value is not None)
        raise SettingsError(f"run {raw_uid} has no annotations of {said}; it has {there}")
    if len({(one.stream, one.data_key) for one in left}) > 1:
        raise SettingsError(
            f"run {raw_uid} has frames of several detectors: {there}; say which by data_key, and stream"
        )
    # Of one that is being written, the frame may be missing yet.
    return max(left, key=lambda one: (one.is_newest and one.is_finished, one.is_newest, left.index(one)))


def _is_by(analysis: Analysis, model: str | None) -> bool:
    if model is None or model in (analysis.model, f"{analysis.model}@{analysis.model_version}"):
        return True
    return len(model) >= _SHORTEST_SHA and analysis.model_sha256.startswith(model)


def rows_of_frames(context: Any, analysis: Analysis, frames: Collection[int]) -> FoundRows:
    """Return what an analysis run says of frames, in one request.

    Parameters
    ----------
    context
        Of a Tiled client.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    table = _table(context, analysis, ["status", "labels", "doubtful", *analysis.labels])
    known = np.asarray(table["frame"].to_numpy(), np.int64)
    wanted = table.filter(
        pyarrow.compute.is_in(table["frame"], pyarrow.array(sorted(frames), pyarrow.int64()))
    )
    return FoundRows(dict(_rows(analysis, wanted)), _said_of(known))


def centres_of_frames(context: Any, analysis: Analysis) -> dict[int, tuple[float, float]]:
    """Return the direct beam (x, y) in pixels with which frames were annotated, of those of which it is known.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """
    table = _table(context, analysis, ["center_x", "center_y"])
    if "center_x" not in table.column_names:
        return {}
    columns = (table[name].to_pylist() for name in ("frame", "center_x", "center_y"))
    known = (value for value in zip(*columns, strict=True) if None not in value)
    return {frame: (x, y) for frame, x, y in known if math.isfinite(x) and math.isfinite(y)}


def _rows(analysis: Analysis, table: pyarrow.Table) -> Iterator[tuple[int, ModelRow]]:
    for row in table.to_pylist():
        scores = {label: row.get(label) for label in analysis.labels}
        yield (
            row["frame"],
            ModelRow(
                analysis_uid=analysis.uid,
                model=analysis.model,
                model_version=analysis.model_version,
                model_sha256=analysis.model_sha256,
                status=row["status"],
                labels=_split(row["labels"]),
                doubtful=_split(row.get("doubtful")),
                scores={label: s for label, s in scores.items() if s is not None and math.isfinite(s)},
            ),
        )


def _table(context: Any, analysis: Analysis, columns: Sequence[str]) -> pyarrow.Table:
    address = address_of(context, "table/full", (*analysis.path, STREAM, TABLE))
    try:
        return _read(context, address, {"column": ["frame", *columns]})
    except httpx.HTTPStatusError as error:
        if error.response.status_code == HTTPStatus.NOT_FOUND:
            return pyarrow.table({"frame": pyarrow.array([], pyarrow.int64())})
        if not error.response.is_client_error:
            raise
    # Of an earlier version, without one of these columns.
    return _read(context, address, {})


def _read(context: Any, address: str, params: Mapping[str, Any]) -> pyarrow.Table:
    for attempt in retry_context(context):
        with attempt:
            response = context.http_client.get(
                address, headers={"Accept": APACHE_ARROW_FILE_MIME_TYPE}, params=params
            )
            content = handle_error(response).read()
    return pyarrow.ipc.open_file(content).read_all()


def _said_of(frames: NDArray[np.int64]) -> str:
    if not len(frames):
        return "it has no rows yet"
    least, most = int(frames.min()), int(frames.max())
    holes = "" if most - least + 1 == len(set(frames.tolist())) else ", not all of these"
    return f"it has those of frames {least} to {most}{holes}"


def _split(labels: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (labels or "").split(",")))
