"""One stream of a raw run in Tiled, whose documents are made again as far as it has come."""

from __future__ import annotations

import copy
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Container as Collection
from typing import Any

from bluesky_tiled_plugins.exporters import build_descriptor_docs
from numpy.typing import NDArray
from tiled.client.container import Container

from dvfb_stream.callbacks.descriptor import looks_like_image
from dvfb_stream.callbacks.frame_sequence import NoPixels
from dvfb_stream.errors import DvfbError
from dvfb_stream.history.stored_events import StoredEvents
from dvfb_stream.history.stored_images import FilesOfImages, ImagesInTiled, Permits, any_file, images_of

Document = tuple[str, dict[str, Any]]
Read = Callable[[str, ImagesInTiled, int, int], Sequence[NDArray[Any] | NoPixels]]
"""Called with a data key, where its images lie, and the points that are wanted: the first, and one past the last."""

TABLE = "internal"
"""Key of the table of events."""
_BLOCK_BYTES = 1 << 26
"""Of pixels that are asked of Tiled at a time."""
_BLOCK_POINTS = 1_000
"""Events and frames come by turns, so many of each: of events that came long before, rows would forget the time."""
_UNDECLARED = "<f8"
"""`dtype_numpy` that TiledWriter notes of arrays whose detector did not say any."""


def image_keys_of(described: Mapping[str, Any], data_keys: Collection[str] | None) -> list[str]:
    """Return the data keys with images of a stream; `data_keys` as `StoredStream` takes them."""
    return [
        key
        for key, spec in described.get("data_keys", {}).items()
        if (looks_like_image(spec) if data_keys is None else key in data_keys)
    ]


def _from_tiled(_: str, images: ImagesInTiled, first: int, stop: int) -> Sequence[NDArray[Any]]:
    return images.read(first, stop)


class StoredStream:
    """Gives descriptors and frames of one stream, each once; ask again when more of it is stored.

    An event comes with its images, when both are there. Frames in files come after their event, so that their rows
    know its time. A stream that may have none (all its data keys are in files, as in fly scans), and has none after
    `event_patience`, is taken to have none.

    Parameters
    ----------
    name
        Of the stream.
    run_uid
        Of the raw run.
    data_keys
        The data keys with images; None: those that look like images.
    root_map
        Other places for the folders that documents name.
    permits
        Whether the file at a path may be opened here.
    read
        Gives images that are not in files which are mounted here. None: Tiled's server.
    event_patience
        Seconds that frames in files wait for the stream's first event, while the run goes on.
    """

    def __init__(
        self,
        name: str,
        run_uid: str,
        *,
        data_keys: Collection[str] | None = None,
        root_map: Mapping[str, str] | None = None,
        permits: Permits = any_file,
        read: Read = _from_tiled,
        event_patience: float = 0.0,
    ) -> None:
        self.name = name
        self._run_uid = run_uid
        self._data_keys = data_keys
        self._root_map = dict(root_map or {})
        self._permits = permits
        self._read = read
        self._event_patience = event_patience
        self.events = StoredEvents()
        """What is known of its table; whoever learns of more adds it."""
        self.images: dict[str, ImagesInTiled | FilesOfImages] = {}
        """Where the images of each data key lie, of which there are some."""
        self._descriptors: list[dict[str, Any]] = []
        self._described = 0
        """Descriptors given."""
        self._may_lack_events = False
        """Whether all its data keys are in files, so that a fly scan emits no event."""
        self._events_given = 0
        self._points_given: dict[str, int] = {}
        """Of images in files, by data key."""
        self._resources_given: dict[str, int] = {}
        self._waiting_since: float | None = None
        """When the first frames in files were there, without an event."""

    def look(
        self, node: Container, nodes: Mapping[str, Any] | None = None, *, with_table: bool = True
    ) -> None:
        """Take note of what is stored by now.

        Parameters
        ----------
        node
            Tiled client of the stream, as it is now, whose children know where their data lies.
        nodes
            Its children. None: asked for.
        with_table
            Whether the table of events is read.

        Raises
        ------
        DvfbError
            When what describes the stream does not make a descriptor.
        Exception
            What Tiled's client raises.
        """
        described = node.metadata_copy()[0]
        keys = image_keys_of(described, self._data_keys)
        if not keys:
            return
        try:
            descriptors = copy.deepcopy(build_descriptor_docs(described, self.name, self._run_uid))
        except Exception as error:  # the family of the validator in there
            raise DvfbError(
                f"the descriptor of stream {self.name!r} is none: {str(error).splitlines()[0]}"
            ) from error
        nodes = dict(node.items()) if nodes is None else nodes
        # The table first: of events that it has, the images were stored before it.
        if with_table and TABLE in nodes:
            self.events.add(nodes[TABLE].read())
        for key in keys:
            if key in nodes:
                found = images_of(
                    nodes[key], described["data_keys"][key], self._root_map,
                    permits=self._permits, before=self.images.get(key),
                )  # fmt: skip
                if found.points:
                    self.images[key] = found
        self._descriptors = descriptors
        self._may_lack_events = all("external" in spec for spec in described["data_keys"].values())

    def documents(self, *, ended: bool) -> Iterator[Document]:
        """Give the documents that are new, in blocks; what was given counts as taken, wherever the caller stops.

        Parameters
        ----------
        ended
            Whether nothing will be added to the stream: all that is there is given.
        """
        ready = self._ready(ended=ended)
        if self._nothing_new(ready, ended=ended):
            return
        yield from self._descriptions()
        while True:
            before = self._events_given, dict(self._points_given)
            yield from self._next_events(ready)
            for key, found in self.images.items():
                if isinstance(found, FilesOfImages):
                    yield from self._next_datums(key, found, ready, ended=ended)
            if before == (self._events_given, self._points_given):
                return

    # -- what is ready -------------------------------------------------------------------------------------

    def _inside(self) -> dict[str, ImagesInTiled]:
        return {key: found for key, found in self.images.items() if isinstance(found, ImagesInTiled)}

    def _ready(self, *, ended: bool) -> int:
        """Return how many events can be given, images that no event of the table tells of included."""
        known, ready = len(self.events), len(self.events)
        for key, found in self._inside().items():
            positions = self.events.with_key(key)
            if ended:
                ready = max(ready, known + found.points - len(positions))
            elif len(positions) > found.points:
                ready = min(ready, positions[found.points])
        return ready

    def _nothing_new(self, ready: int, *, ended: bool) -> bool:
        if self._described == len(self._descriptors) and ready <= self._events_given:
            files = {k: found for k, found in self.images.items() if isinstance(found, FilesOfImages)}
            return all(
                self._limit(found, ready, ended=ended) <= self._points_given.get(key, 0)
                for key, found in files.items()
            )
        # Not before it is known where its images lie, unless there are none.
        return not (self.images and (ready or not self._inside())) and not (ended and self._descriptors)

    def _limit(self, found: FilesOfImages, ready: int, *, ended: bool) -> int:
        """Return up to which point frames in files can be given."""
        if self._events_given < ready:
            return min(found.points, self._events_given)
        return found.points if ended or self._has_no_events() else min(found.points, self._events_given)

    def _has_no_events(self) -> bool:
        if len(self.events) or not self._may_lack_events:
            return False
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        return time.monotonic() - self._waiting_since >= self._event_patience

    # -- the documents -------------------------------------------------------------------------------------

    def _descriptions(self) -> Iterator[Document]:
        while self._described < len(self._descriptors):
            descriptor = self._descriptors[self._described]
            for key, spec in descriptor["data_keys"].items():
                self._describe(key, spec)
            self._described += 1
            yield "descriptor", descriptor

    def _describe(self, key: str, spec: dict[str, Any]) -> None:
        """Let a data key say how its images come here."""
        if spec.get("dtype") == "array" and spec.get("dtype_numpy") == _UNDECLARED:
            del spec["dtype_numpy"]
        match self.images.get(key):
            case FilesOfImages():
                spec["external"] = "STREAM:"
            case ImagesInTiled():
                spec.pop("external", None)

    def _next_events(self, ready: int) -> Iterator[Document]:
        """Give the events of one block."""
        inside = self._inside()
        largest = max((found.point_bytes for found in inside.values()), default=1)
        length = max(1, min(_BLOCK_POINTS, _BLOCK_BYTES // largest))
        block = range(self._events_given, min(self._events_given + length, ready))
        if not block:
            return
        pixels = {key: self._pixels(key, found, block) for key, found in inside.items()}
        for position in block:
            images = {key: found[position] for key, found in pixels.items() if position in found}
            self._events_given += 1
            yield "event", self._event(position, images)

    def _pixels(self, key: str, found: ImagesInTiled, block: range) -> dict[int, Any]:
        """Return the pixels of those events of a block that have some, by the event's position."""
        positions = self.events.with_key(key)
        first, stop = (min(bisect_left(positions, end), found.points) for end in (block.start, block.stop))
        wanted = list(positions[first:stop])
        # Images of which no event tells follow the last event.
        beyond = range(max(block.start, len(self.events)), block.stop)
        more = len(positions) + beyond.start - len(self.events)
        if beyond and more < found.points:
            first = first if wanted else more
            stop = min(more + len(beyond), found.points)
            wanted += beyond[: stop - more]
        return dict(zip(wanted, self._read(key, found, first, stop), strict=True)) if wanted else {}

    def _next_datums(self, key: str, found: FilesOfImages, ready: int, *, ended: bool) -> Iterator[Document]:
        """Give the frames in files of one block, with the files that are new."""
        first = self._points_given.get(key, 0)
        block = range(first, min(first + _BLOCK_POINTS, self._limit(found, ready, ended=ended)))
        if not block:
            return
        uid = f"{self._run_uid}/{self.name}/{key}"
        for resource in found.resources(uid, self._resources_given.get(key, 0)):
            self._resources_given[key] = self._resources_given.get(key, 0) + 1
            yield "stream_resource", {**resource, "data_key": key, "run_start": self._run_uid}
        for datum in found.datums(uid, block):
            self._points_given[key] = datum["seq_nums"]["stop"] - 1
            yield "stream_datum", {**datum, "descriptor": self._descriptor(block.start)["uid"]}

    def _event(self, position: int, pixels: Mapping[str, Any]) -> dict[str, Any]:
        is_known = position < len(self.events)
        descriptor = self._descriptor(position)
        data = {**(self.events.data[position] if is_known else {}), **pixels}
        at = self.events.times[position] if is_known else descriptor["time"]
        numbers = self.events.numbers
        # Not the position: after a pause Bluesky gives numbers again.
        beyond = position - len(numbers) + 1
        return {
            "descriptor": descriptor["uid"],
            "seq_num": numbers[position] if is_known else (numbers[-1] if len(numbers) else 0) + beyond,
            "time": at,
            "data": data,
            "timestamps": dict.fromkeys(data, at),
        }

    def _descriptor(self, position: int) -> dict[str, Any]:
        """Return the newest descriptor at the time of an event."""
        at = self.events.times[position] if position < len(self.events) else None
        older: list[dict[str, Any]] = [d for d in self._descriptors if at is not None and d["time"] <= at]
        return (older or self._descriptors[:1])[-1]
