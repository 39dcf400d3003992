"""What one raw run's documents say about files; bookkeeping alone, nothing is opened here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dvfb_stream.callbacks.assets.old_resources import DatumFrame, Documents, Resource, located
from dvfb_stream.callbacks.assets.references import Expected, PixelReference
from dvfb_stream.callbacks.assets.resources import StreamResource, frames_each
from dvfb_stream.callbacks.documents import MAX_EXPOSURES_IN_A_DOCUMENT, DocumentError, mapping, text

Document = Mapping[str, Any]

MOST_DATUMS = 1_000_000
"""Datums kept of a run, those of a day; of more, the oldest are forgotten."""


@dataclass(slots=True)
class _Announced:
    """Frames of a data key announced so far."""

    points: int = 0
    """One past the last index."""


@dataclass(slots=True, eq=False)
class _Sequence:
    """A stream resource and the index of its first point."""

    resource: StreamResource
    first: int | None = None
    """None: nothing of it is announced yet."""


class RunAssets:
    """Resources and datums of one raw run.

    Parameters
    ----------
    root_map
        Other places for what resources call their root: ``{"/ioc/data": "/mnt/data"}``.
    """

    def __init__(self, root_map: Mapping[str, str] | None = None) -> None:
        self._root_map = dict(root_map or {})
        self._documents = Documents()
        self._sequences: dict[str, _Sequence] = {}
        self._announced: dict[str, _Announced] = {}

    def add_resource(self, doc: Document) -> None:
        """Learn where the datums of a resource lie.

        Raises
        ------
        DocumentError
            When the document is malformed.
        """
        root = doc.get("root", "")
        if not isinstance(root, str):
            raise DocumentError(f"a resource's root must be text, not {root!r}")
        self._documents.resources[text(doc, "uid")] = Resource(
            spec=text(doc, "spec"),
            path=located(root, text(doc, "resource_path"), self._root_map),
            kwargs=dict(mapping(doc, "resource_kwargs")),
        )

    def add_datum(self, doc: Document) -> None:
        """Learn which part of a resource a datum is; DocumentError when malformed."""
        self._add(text(doc, "datum_id"), text(doc, "resource"), mapping(doc, "datum_kwargs"))

    def add_datum_page(self, doc: Document) -> None:
        """Learn that of several datums; DocumentError when malformed."""
        ids, resource, columns = doc.get("datum_id"), text(doc, "resource"), mapping(doc, "datum_kwargs")
        if not isinstance(ids, list | tuple | np.ndarray) or any(
            len(c) != len(ids) for c in columns.values()
        ):
            raise DocumentError("the columns of a datum page must be lists of one length")
        for row, datum_id in enumerate(ids):
            self._add(str(datum_id), resource, {key: column[row] for key, column in columns.items()})

    def _add(self, datum_id: str, resource: str, kwargs: Document) -> None:
        datums = self._documents.datums
        datums[datum_id] = (resource, dict(kwargs))
        if len(datums) > MOST_DATUMS:
            del datums[next(iter(datums))]

    def of_datum(self, datum_id: str, spec: Document) -> list[PixelReference]:
        """Return the frames of a datum, whether its documents have come or not.

        Parameters
        ----------
        datum_id
            As an event has it in place of the data.
        spec
            What the descriptor says of the data key.
        """
        each = frames_each(spec.get("shape"), {})
        expected = expected_of(spec)
        return [DatumFrame(self._documents, datum_id, position, each, expected) for position in range(each)]

    def add_stream_resource(self, doc: Document) -> None:
        """Learn where the frames of a stream resource lie; DocumentError when malformed."""
        uid, data_key = text(doc, "uid"), text(doc, "data_key")
        known = self._sequences.get(uid)
        resource = StreamResource(
            data_key=data_key,
            uri=self._mapped(text(doc, "uri")),
            mimetype=text(doc, "mimetype"),
            parameters=dict(mapping(doc, "parameters")),
        )
        self._sequences[uid] = _Sequence(resource, None if known is None else known.first)
        self._announced.setdefault(data_key, _Announced())

    def _mapped(self, uri: str) -> str:
        for old, new in self._root_map.items():
            for prefix in (f"file://localhost{old}", f"file://{old}"):
                if uri.startswith(prefix):
                    return f"file://localhost{new}{uri.removeprefix(prefix)}"
        return uri

    def data_key_of(self, stream_datum: Document) -> str:
        """Return the data key of a stream datum's frames; DocumentError when its resource is not known."""
        uid = text(stream_datum, "stream_resource")
        if uid not in self._sequences:
            raise DocumentError(f"the stream datum's stream resource {uid!r} is not known in its run")
        return self._sequences[uid].resource.data_key

    def of_stream_datum(self, doc: Document, spec: Document) -> Iterable[PixelReference]:
        """Return the frames that a stream datum announces.

        Parameters
        ----------
        doc
            The stream datum.
        spec
            What the descriptor says of the data key.

        Raises
        ------
        DocumentError
            When it is malformed, or claims more frames than is believed.
        """
        data_key = self.data_key_of(doc)
        sequence = self._sequences[doc["stream_resource"]]
        indices = mapping(doc, "indices")
        start, stop = indices.get("start"), indices.get("stop")
        if not (isinstance(start, int) and isinstance(stop, int)) or start < 0:
            raise DocumentError(
                f"a stream datum's indices must be integers from 0, not {start!r} to {stop!r}"
            )
        each = frames_each(spec.get("shape"), sequence.resource.parameters)
        if (stop - start) * each > MAX_EXPOSURES_IN_A_DOCUMENT:
            raise DocumentError(
                f"a stream datum that announces {(stop - start) * each} frames at once is not believed"
            )
        announced = self._announced[data_key]
        if sequence.first is None:
            # Indices of a data key go on from resource to resource, or begin again with each.
            sequence.first = announced.points if start >= announced.points else 0
        announced.points = max(announced.points, stop)
        expected = expected_of(spec)
        first = (start - sequence.first) * each
        return [
            sequence.resource.frame(number, each, expected)
            for number in range(first, first + (stop - start) * each)
        ]


def expected_of(spec: Document) -> Expected:
    """Return what a descriptor's data key promises of each frame."""
    shape, dtype = spec.get("shape"), spec.get("dtype_numpy")
    rows_columns = None
    if (
        isinstance(shape, list | tuple)
        and len(shape) >= 2
        and all(isinstance(n, int) and n > 0 for n in shape)
    ):
        rows_columns = (shape[-2], shape[-1])
    try:
        known = np.dtype(dtype) if isinstance(dtype, str) and dtype else None
    except TypeError:
        known = None
    return Expected(rows_columns, known)
