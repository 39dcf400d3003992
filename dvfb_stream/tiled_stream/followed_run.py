"""One raw run while it is written: what the websocket tells of it, and what its nodes say where that is not all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Container as Collection
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tiled.client.container import Container
from tiled.media_type_registration import default_deserialization_registry
from tiled.stream_messages import ArrayData, TableData

from dvfb_stream.callbacks.frame_sequence import NoPixels
from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.place import KIND
from dvfb_stream.catalog.store_errors import StoreFaultError, StoreRefusedError
from dvfb_stream.errors import DvfbError
from dvfb_stream.history.stored_documents import start_of, streams_of
from dvfb_stream.history.stored_images import ImagesInTiled
from dvfb_stream.history.stored_stream import TABLE, Document, StoredStream, image_keys_of
from dvfb_stream.tiled_stream.arrived_pixels import ArrivedPixels
from dvfb_stream.tiled_stream.sockets import Change, Heard, Path, StreamSockets

EVENT_PATIENCE = 5.0
"""Seconds that the first frames in files wait for events, which TiledWriter stores right after them, on a busy server
within a second or two. A fly scan has none; its later frames do not wait."""
_LOOK_AGAIN = 1.0
"""Seconds after an update that did not come until a second look: the server tells of rows before it stores them."""
_MOST_FAULTS = 6
"""Times that the server fails over the same images before their rows say so."""


class NoRunError(DvfbError):
    """There is no such raw run: it was deleted, or is something else."""


class FollowedRun:
    """Makes the documents of one raw run as they are stored, each once.

    Positions decide what was given, never messages: an update that is lost, or comes twice, costs a look at the
    nodes at most. Used by one thread.

    Parameters
    ----------
    uid
        Of the raw run.
    raw
        Tiled's own client of the container that it is in.
    sockets
        Where its nodes are watched.
    pixels
        Where images are kept that have come.
    data_keys, root_map
        See `StoredStream`.
    """

    def __init__(
        self,
        uid: str,
        raw: Container,
        *,
        sockets: StreamSockets,
        pixels: ArrivedPixels,
        data_keys: Collection[str] | None,
        root_map: Mapping[str, str],
    ) -> None:
        self.uid = uid
        self.begun = 0.0
        """Time of its start document; known after the first look."""
        self.is_analysis = False
        """Whether it is no raw run, but one of ours; known after the first look."""
        self.has_ended = False
        """Whether the catalog has its stop; known after a look."""
        self.is_given = False
        """Whether all its documents were given."""
        self.last_news = time.monotonic()
        """When something of it was new."""
        self.faults = 0
        """Times in a row that it could not be looked at, or read."""
        self.not_before = 0.0
        """When it is to be tried again, by the monotonic clock."""
        self.images_from_nodes = 0
        """Images that were read from the catalog, of those that are not in files which are mounted here."""
        self._raw = raw
        self._sockets = sockets
        self._pixels = pixels
        self._data_keys = data_keys
        self._root_map = root_map
        self._start: dict[str, Any] | None = None
        self._stop: dict[str, Any] | None = None
        self._is_begun = False
        self._streams: dict[str, StoredStream] = {}
        self._nodes: dict[str, Container] = {}
        """Of the streams with images."""
        self._run_due = True
        self._streams_due: set[str] = set()
        self._tables_due: set[str] = set()
        self._rows_heard: dict[str, list[TableData]] = {}
        """After which rows that did not come are read first, by stream."""
        self._again_at = float("inf")
        self._image_faults: Counter[tuple[str, str, int]] = Counter()

    # -- what is heard ---------------------------------------------------------------------------------------

    def hear(self, heard: Heard) -> None:
        """Take note of what was heard of the run, or of a node below it."""
        self.last_news = time.monotonic()
        what, below = heard.what, heard.path[1:]
        if what is Change.LOST:
            return
        if not below or below[0] not in self._streams:
            self._run_due = True
            return
        name, *keys = below
        if not isinstance(what, TableData | ArrayData) or heard.missed:
            self._streams_due.add(name)
            # The server tells of what is written before it has stored it.
            self._again_at = time.monotonic() + _LOOK_AGAIN
            if keys == [TABLE]:
                self._tables_due.add(name)
        if isinstance(what, TableData):
            self._rows_heard.setdefault(name, []).append(what)
            self._add_rows(name)
        elif isinstance(what, ArrayData):
            self._add_images(name, keys[0], what)

    def look_soon(self) -> None:
        """Have the next look see all that is there."""
        self._run_due = True
        self._tables_due |= self._streams.keys()

    @property
    def is_due(self) -> bool:
        """Whether there is something to look at."""
        return self._run_due or bool(self._streams_due) or time.monotonic() >= self._again_at

    def _add_rows(self, name: str) -> None:
        """Take the rows that were heard, unless others before them have to be read first."""
        import tiled.serialization.table  # noqa: F401 - registers what reads them

        if name in self._tables_due:
            return
        for update in self._rows_heard.pop(name, ()):
            rows = default_deserialization_registry.dispatch("table", update.mimetype)(update.payload)
            self._streams[name].events.add(rows.to_pandas() if hasattr(rows, "to_pandas") else rows)

    def _add_images(self, name: str, key: str, update: ArrayData) -> None:
        points = self._pixels.put((self.uid, name, key), update)
        images = self._streams[name].images
        found = images.get(key)
        if points is None or not isinstance(found, ImagesInTiled):
            self._streams_due.add(name)
        elif points > found.points:
            images[key] = replace(found, points=points)

    # -- what is stored --------------------------------------------------------------------------------------

    def look(self) -> None:
        """See what is stored by now, as far as that is not known from what was heard.

        Raises
        ------
        NoRunError
            When it is none.
        StoreUnavailableError, StoreRefusedError
            When the server does not say.
        DvfbError
            When a stream's descriptor is none.
        """
        if time.monotonic() >= self._again_at:
            self._again_at = float("inf")
            self.look_soon()
        with told_apart(f"looking at the raw run {self.uid}"):
            if self._run_due:
                self._look_at_run()
            for name in sorted(self._streams_due & self._nodes.keys()):
                self._look_at_stream(name)

    def _look_at_run(self) -> None:
        self._run_due = False  # before: what is heard meanwhile is looked at again
        try:
            found = self._raw.get(self.uid)
            metadata = {} if found is None else found.metadata_copy()[0]
            if found is None or "start" not in metadata:
                raise NoRunError(f"there is no raw run {self.uid}")
            if self._start is None:
                self._start = start_of(found)
                self.begun = float(self._start.get("time", 0.0))
                analysis = self._start.get("analysis")
                self.is_analysis = isinstance(analysis, dict) and analysis.get("kind") == KIND
            self._sockets.watch((self.uid,))
            for name, node in streams_of(found):
                if not image_keys_of(node.metadata, self._data_keys):
                    continue
                if name not in self._streams:
                    self._streams[name] = self._stream(name)
                    self._tables_due.add(name)
                self._nodes[name] = node
                self._streams_due.add(name)
                self._sockets.watch(self._path(node))
            stop = metadata.get("stop")
            if stop and not self.has_ended:
                self._stop = {**stop, "run_start": self.uid}
                self.has_ended = True
                self._streams_due |= self._nodes.keys()
                self._tables_due |= {name for name in self._nodes if self._lacks_events(name)}
        except BaseException:
            self._run_due = True
            raise

    def _look_at_stream(self, name: str) -> None:
        stream, node = self._streams[name], self._nodes[name]
        children = dict(node.items())
        stream.look(node, children, with_table=name in self._tables_due)
        self._streams_due.discard(name)
        self._tables_due.discard(name)
        self._add_rows(name)
        keys = image_keys_of(node.metadata, self._data_keys)
        for key in (TABLE, *keys):
            if key in children:
                self._sockets.watch(self._path(children[key]))

    def _lacks_events(self, name: str) -> bool:
        """Return whether the stop document counts other events than are known."""
        counted = (self._stop or {}).get("num_events", {}).get(name)
        return counted is None or counted != len(self._streams[name].events)

    def _stream(self, name: str) -> StoredStream:
        return StoredStream(
            name,
            self.uid,
            data_keys=self._data_keys,
            root_map=self._root_map,
            read=partial(self._images, name),
            event_patience=EVENT_PATIENCE,
        )

    def _path(self, node: Any) -> Path:
        return tuple(node.path_parts[len(self._raw.path_parts) :])

    # -- documents -------------------------------------------------------------------------------------------

    def documents(self) -> Iterator[Document]:
        """Give the documents that are new; what was given counts as taken, wherever the caller stops.

        Raises
        ------
        StoreUnavailableError, StoreRefusedError
            When the server does not give images.
        """
        if self._start is None or self.is_given:
            return
        if not self._is_begun:
            self._is_begun = True
            yield "start", self._start
        is_complete = self.has_ended and not self.is_due and not self._tables_due & self._nodes.keys()
        for stream in self._streams.values():
            for document in stream.documents(ended=is_complete):
                self.last_news = time.monotonic()
                yield document
        if is_complete and self._stop is not None:
            self.is_given = True
            yield "stop", self._stop

    def _images(
        self, name: str, key: str, images: ImagesInTiled, first: int, stop: int
    ) -> Sequence[NDArray[Any] | NoPixels]:
        """Return images that came, and those that did not from the catalog."""
        where = (self.uid, name, key)
        found: list[Any] = [self._pixels.get(where, position) for position in range(first, stop)]
        missing = [n for n, image in enumerate(found) if image is None]
        for part in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1) if missing else ():
            begin, end = int(part[0]), int(part[-1]) + 1
            found[begin:end] = self._from_node(name, key, images, first + begin, first + end)
        self._pixels.drop(where, stop)
        return found

    def _from_node(
        self, name: str, key: str, images: ImagesInTiled, first: int, stop: int
    ) -> Sequence[NDArray[Any] | NoPixels]:
        try:
            with told_apart(f"reading images {first} to {stop - 1} of {key!r} of the raw run {self.uid}"):
                # Whose node is older than what the websocket told.
                if images.node.shape[0] < stop * max(1, images.rows_each):
                    images.node.refresh()
                read = images.read(first, stop)
                if len(read) != stop - first:
                    raise StoreFaultError(f"Tiled has {len(read)} of images {first} to {stop - 1} of {key!r}")
        except (StoreFaultError, StoreRefusedError) as error:
            if isinstance(error, StoreRefusedError) and error.everything:
                raise
            self._image_faults[name, key, first] += 1
            if self._image_faults[name, key, first] < _MOST_FAULTS:
                raise
            return [
                NoPixels(f"the frame was not seen as it was written, and Tiled does not give it: {error}")
            ] * (stop - first)
        self.images_from_nodes += stop - first
        return read
