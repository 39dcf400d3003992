"""What one raw run's documents say about files; bookkeeping alone, nothing is opened here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dvfb_stream.callbacks.documents import (
    MAX_EXPOSURES_IN_A_DOCUMENT,
    Document,
    DocumentError,
    NotKnownYetError,
    RepeatedError,
    mapping,
    text,
    whole,
)
from dvfb_stream.callbacks.numbering import Ranges
from dvfb_stream.callbacks.resource_datum import DatumFrames, ResourceDatum
from dvfb_stream.callbacks.resources import StreamFrames, StreamResource, frames_each
from dvfb_stream.files.references import Expected


@dataclass(slots=True, eq=False)
class _Sequence:
    """A stream resource, and which of its points were announced."""

    resource: StreamResource
    first: int | None = None
    """Index of its first point; None: nothing of it is announced yet."""
    announced: dict[str, Ranges] = field(default_factory=dict)
    """Points from `first`, by the stream in which they were announced."""

    @property
    def points(self) -> int:
        """One past the highest point announced."""
        return max((ranges.stop for ranges in self.announced.values()), default=0)


class RunAssets:
    """Stream resources of one raw run; and its datums, among those of all runs.

    Parameters
    ----------
    root_map
        Other places for folders that documents name: ``{"/ioc/data": "/mnt/data"}``.
    old
        Resources and datums. None: of this run alone.
    """

    def __init__(self, root_map: Mapping[str, str] | None = None, old: ResourceDatum | None = None) -> None:
        self._root_map = dict(root_map or {})
        self.old = ResourceDatum(root_map) if old is None else old
        """Resources and datums."""
        self._sequences: dict[str, _Sequence] = {}
        self._expected: dict[Expected, Expected] = {}
        """One for all frames of a detector, of which many wait."""
        self._points: dict[str, int] = {}
        """One past the last index announced, by data key."""

    def of_datum(self, datum_id: str, spec: Document) -> DatumFrames:
        """Return the frames of a datum, whether its documents have come or not.

        Parameters
        ----------
        datum_id
            As an event has it in place of the data.
        spec
            What the descriptor says of the data key.
        """
        return self.old.frames(datum_id, frames_each(spec.get("shape"), {}), expected_of(spec))

    def add_stream_resource(self, doc: Document) -> None:
        """Learn where the frames of a stream resource lie; DocumentError when malformed."""
        uid = text(doc, "uid")
        known = self._sequences.get(uid)
        resource = StreamResource(
            data_key=text(doc, "data_key"),
            uri=text(doc, "uri"),
            mimetype=text(doc, "mimetype"),
            parameters=dict(mapping(doc, "parameters")),
            root_map=self._root_map,
        )
        if known is None:
            self._sequences[uid] = _Sequence(resource)
        else:
            known.resource = resource

    def data_key_of(self, stream_datum: Document, *, run: str = "") -> str:
        """Return the data key of a stream datum of `run`; NotKnownYetError when its resource has not come."""
        uid = text(stream_datum, "stream_resource")
        if uid not in self._sequences:
            raise NotKnownYetError("stream_resource", uid, run=run)
        return self._sequences[uid].resource.data_key

    def of_stream_datum(self, doc: Document, spec: Document, stream: str = "primary") -> list[StreamFrames]:
        """Return the frames that a stream datum announces and none announced before it in its stream.

        Mostly they are one range.

        Parameters
        ----------
        doc
            The stream datum.
        spec
            What the descriptor says of the data key.
        stream
            Name of the descriptor's stream.

        Raises
        ------
        NotKnownYetError
            When its stream resource has not come.
        RepeatedError
            When all of them were announced before.
        DocumentError
            When it is malformed, or claims more frames than is believed.
        """
        data_key = self.data_key_of(doc)
        sequence = self._sequences[doc["stream_resource"]]
        start, stop = (whole(mapping(doc, "indices").get(end)) for end in ("start", "stop"))
        if start is None or stop is None or start < 0:
            raise DocumentError(
                f"a stream datum's indices must be integers from 0, not {doc['indices'].get('start')!r} to "
                f"{doc['indices'].get('stop')!r}"
            )
        each = frames_each(spec.get("shape"), sequence.resource.parameters)
        first = sequence.first
        if first is None:
            # Indices count from the beginning of the resource, or go on just where those of another ended.
            known = self._points.get(data_key, 0)
            first = known if start == known else 0
        if start < first:
            raise DocumentError(
                f"a stream datum whose indices begin with {start}, where those of its stream resource begin with "
                f"{first}, has frames that cannot be found"
            )
        start, stop = start - first, stop - first
        if max(stop - start, start - sequence.points) * each > MAX_EXPOSURES_IN_A_DOCUMENT:
            raise DocumentError(
                f"a stream datum that announces {(stop - start) * each} frames at once, "
                f"{max(0, start - sequence.points) * each} after the last, is not believed"
            )
        expected = expected_of(spec)
        expected = self._expected.setdefault(expected, expected)
        news = sequence.announced.setdefault(stream, Ranges()).add(start, stop)
        if not news and start < stop:
            raise RepeatedError("its frames were announced before")
        sequence.first = first
        self._points[data_key] = max(self._points.get(data_key, 0), first + stop)
        numbers = doc.get("seq_nums")
        seq_num = whole(numbers.get("start")) if isinstance(numbers, Mapping) else None
        others = [ranges for name, ranges in sequence.announced.items() if name != stream]
        return [
            StreamFrames(
                resource=sequence.resource,
                numbers=range(points.start * each, points.stop * each),
                frames_each=each,
                expected=expected,
                point=points.start - sum(ranges.count_below(points.start) for ranges in others),
                seq_num=0 if seq_num is None or not 0 < seq_num < 1 << 62 else seq_num + points.start - start,
            )
            for points in news
        ]


def expected_of(spec: Document) -> Expected:
    """Return what a descriptor's data key promises of each frame."""
    shape, dtype = spec.get("shape"), spec.get("dtype_numpy")
    rows_columns = None
    if (
        isinstance(shape, list | tuple)
        and len(shape) >= 2
        and all((whole(length) or 0) > 0 for length in shape)
    ):
        rows_columns = (int(shape[-2]), int(shape[-1]))
    try:
        known = np.dtype(dtype) if isinstance(dtype, str) and dtype else None
    except (TypeError, ValueError, SyntaxError):
        known = None
    return Expected(rows_columns, known)
