"""The analysis run: the Bluesky run that carries the annotations of one data key of one raw run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from dvfb_stream.callbacks.copied_fields import ACCESS_TAGS, copied_fields
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.frame_arrays import DTYPE, documented
from dvfb_stream.frames import Geometry
from dvfb_stream.rows import EVENT_COLUMNS, Kind, centre_columns
from dvfb_stream.summary import Summary, known_labels
from dvfb_stream.texts import name_of

NAMESPACE = UUID("d3c6b0d5-7b0c-5c2e-9c0e-5a0f7d7f3b11")
"""Namespace of the analysis runs' uids. It must never change: equal runs are recognised by equal uids."""

STREAM = "annotations"


def analysis_uid(
    raw_uid: str, stream: str, data_key: str, model: Mapping[str, Any], *, geometry: str = ""
) -> str:
    """Return the uid of the analysis run: the same raw data and the same weights give the same uid.

    Whatever the geometry: live annotation must find its run again. One that is made later with another geometry,
    beside the first, names its digest (`Geometry.digest`).
    """
    text = f"{raw_uid}:{name_of(stream)}:{name_of(data_key)}:{model['name']}@{model['sha256']}"
    return str(uuid5(NAMESPACE, f"{text}:{geometry}" if geometry else text))


class AnalysisRun:
    """Composes the documents of one analysis run, and sums its rows up.

    All documents are functions of the raw documents and the annotations: uids are derived from the start uid
    and the frame's index, times are those of the raw documents. So a replay gives equal documents.

    Where a frame has no probabilities, its scores, `measured_contrast`, `fit_residual` and `novelty` are NaN: Tiled
    keeps these columns as 64-bit floats, in which NaN survives, whereas a column with None in it changes its type.
    The stop document is metadata, where Tiled turns NaN into None; there, what has no value is left out.

    Parameters
    ----------
    raw_start
        Start document of the raw run. Its `copied_fields` stand under ``analysis.raw``: a search by `scan_id` or
        `sample_name` must not take the analysis run for the raw one.
    stream, data_key
        Where the frames lie in the raw run.
    provenance
        As `FrameAnnotator.provenance` returns it.
    geometry
        Geometry of the first frame; None where it is not known. Each row has the centre of its own.
    started, described
        Times of the raw start and the raw descriptor, seconds since 1970.
    arrays
        Shapes of the arrays that each event has besides its row, by name; NaN where an annotation carries none.
    geometry_in_uid
        As `analysis_uid` takes it.
    """

    def __init__(
        self,
        raw_start: Mapping[str, Any],
        *,
        stream: str,
        data_key: str,
        provenance: Mapping[str, Any],
        geometry: Geometry | None,
        started: float,
        described: float,
        arrays: Mapping[str, tuple[int, ...]] | None = None,
        geometry_in_uid: str = "",
    ) -> None:
        self.raw_uid: str = raw_start["uid"]
        self.stream = stream
        self.data_key = data_key
        self.uid = analysis_uid(self.raw_uid, stream, data_key, provenance["model"], geometry=geometry_in_uid)
        self._namespace = UUID(self.uid)
        self._descriptor_uid = self._derived_uid("descriptor")
        self._labels = known_labels(provenance)
        self._summary = Summary(self._labels)
        self._described = described
        self._arrays = dict(arrays or {})
        copied = copied_fields(raw_start)
        visibility = {name: copied.pop(name) for name in (ACCESS_TAGS,) if name in copied}
        self._start: dict[str, Any] = {
            "uid": self.uid,
            "time": started,
            "analysis": {
                "kind": "dvfb-annotation",
                "parent": self.raw_uid,
                "stream": name_of(stream),
                "data_key": name_of(data_key),
                **provenance,
                "geometry": _described_geometry(geometry),
                "raw": copied,
            },
        } | visibility
        self.rejected_documents = 0
        """Documents of the raw run that could have had frames, and were left out."""

    def __str__(self) -> str:
        return f"analysis run {self.uid} of {self.data_key!r} in stream {self.stream!r} of run {self.raw_uid}"

    def summary_so_far(self) -> list[float]:
        """Return what its rows add up to so far, for `go_on`."""
        return self._summary.state()

    def go_on(self, summary: Sequence[float]) -> None:
        """Count the rows that come now beyond those of a process before this one; ValueError as `Summary.go_on`."""
        self._summary.go_on(summary)

    def start(self) -> dict[str, Any]:
        """Return the start document."""
        return dict(self._start)

    def descriptor(self) -> dict[str, Any]:
        """Return the descriptor of the stream `annotations`."""
        data_keys = {column.name: _data_key(column.kind) for column in EVENT_COLUMNS}
        data_keys |= {name: _array_key(shape) for name, shape in self._arrays.items()}
        return {
            "uid": self._descriptor_uid,
            "run_start": self.uid,
            "time": self._described,
            "name": STREAM,
            "data_keys": data_keys,
            "object_keys": {"dvfb": list(data_keys)},
            "configuration": {},
            "hints": {"dvfb": {"fields": list(self._labels)}},
        }

    def event(self, row: Row) -> dict[str, Any]:
        """Return the event of one frame, and add it to the summary once it is composed."""
        exact = {} if row.centre is None else {"center_x": row.centre[0], "center_y": row.centre[1]}
        values = row.annotation.as_row(
            frame=row.index,
            event_uid=name_of(row.event_uid),
            event_seq_num=row.event_seq_num,
            **(centre_columns(row.geometry) | exact),
        )
        data = {column.name: values[column.name] for column in EVENT_COLUMNS}
        data |= {name: documented(row.annotation, name, shape) for name, shape in self._arrays.items()}
        event = {
            "uid": self._derived_uid(str(row.index)),
            "descriptor": self._descriptor_uid,
            "seq_num": row.index + 1,
            "time": row.time,
            "data": data,
            "timestamps": dict.fromkeys(data, row.time),
            "filled": {},
        }
        self._summary.add(data)
        return event

    def stop(self, time: float) -> dict[str, Any]:
        """Return the stop document with the summary and `rejected_documents`; `time` is that of the raw stop."""
        return {
            "uid": self._derived_uid("stop"),
            "run_start": self.uid,
            "time": time,
            "exit_status": "success",
            "reason": "",
            "num_events": {STREAM: self._summary.frames},
            "summary": self._summary.as_dict() | {"rejected_documents": self.rejected_documents},
        }

    def _derived_uid(self, name: str) -> str:
        return str(uuid5(self._namespace, name))


def _data_key(kind: Kind) -> dict[str, Any]:
    data_key: dict[str, Any] = {"source": "dvfb_stream", "dtype": kind.value, "shape": []}
    return data_key if kind is Kind.TEXT else data_key | {"dtype_numpy": kind.dtype}


def _array_key(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"source": "dvfb_stream", "dtype": "array", "shape": list(shape), "dtype_numpy": DTYPE}


def _described_geometry(geometry: Geometry | None) -> dict[str, Any] | None:
    if geometry is None:
        return None
    return {
        "shape": list(geometry.shape),
        "center_x": geometry.center_x,
        "center_y": geometry.center_y,
        "masked_pixels": 0 if geometry.mask is None else int(geometry.mask.size - geometry.mask.sum()),
        "pixel_aspect": geometry.pixel_aspect,
        "source": geometry.source,
        "sha256": geometry.digest,
    }
