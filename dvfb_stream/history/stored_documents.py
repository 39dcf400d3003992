"""Makes the documents of a raw run again from what Tiled keeps of it, as far as annotating needs them."""

from __future__ import annotations

import copy
from collections.abc import Container as Collection
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bluesky_tiled_plugins.exporters import build_descriptor_docs
from tiled.client.container import Container

from dvfb_stream.callbacks.copied_fields import ACCESS_TAGS
from dvfb_stream.callbacks.descriptor import looks_like_image
from dvfb_stream.errors import DvfbError
from dvfb_stream.history.stored_images import FilesOfImages, ImagesInTiled, images_of

Document = tuple[str, dict[str, Any]]

_TABLE = "internal"
_STREAM_SPEC = "BlueskyEventStream"
_BLOCK_BYTES = 1 << 26
"""Of pixels that are asked of Tiled at a time."""
_BLOCK_POINTS = 1_000
"""Events and frames come by turns, so many of each: of events that came long before, rows would forget the time."""
_UNDECLARED = "<f8"
"""`dtype_numpy` that TiledWriter notes of arrays whose detector did not say any."""


def documents_of(
    run: Any, *, data_keys: Collection[str] | None = None, root_map: Mapping[str, str] | None = None
) -> Iterator[Document]:
    """Give start, descriptors, frames and stop of a raw run, as `AnnotationPipeline` takes them.

    Images in files that are mounted here are announced by stream datums; all others are read from Tiled and are in
    the events. What Tiled does not keep is not there: uids of events, and the types of pixels that nobody declared.

    Parameters
    ----------
    run
        Tiled client of the run, as TiledWriter stored it (BlueskyRun 3.0).
    data_keys
        The data keys with images; None: those that look like images.
    root_map
        Other places for the folders that documents name.

    Raises
    ------
    DvfbError
        When its documents do not make a run.
    Exception
        What Tiled's client raises.
    """
    metadata = run.metadata_copy()[0]
    start = metadata["start"]
    # TiledWriter takes them out of the document. Whoever may not see the run may not see its annotations.
    if tags := ((run.item["attributes"].get("access_blob") or {}).get("tags")):
        start = {**start, ACCESS_TAGS: tags}
    yield "start", start
    for name, node in _streams(run):
        yield from _Stream(name, node, start["uid"], data_keys, dict(root_map or {})).documents()
    if stop := metadata.get("stop"):
        yield "stop", {**stop, "run_start": start["uid"]}


@dataclass(frozen=True, slots=True)
class ImageKey:
    """A data key with images."""

    stream: str
    data_key: str
    descriptor: Mapping[str, Any]
    """Of its stream, the first."""


def image_keys(run: Any, data_keys: Collection[str] | None = None) -> Iterator[ImageKey]:
    """Give the data keys with images of a run, as `documents_of` takes them."""
    for name, node in _streams(run):
        described = node.metadata_copy()[0]
        for key in _image_keys(described, data_keys):
            yield ImageKey(name, key, described)


def _streams(run: Any) -> Iterator[tuple[str, Container]]:
    below = _with_sources(run)
    if "streams" in below and _STREAM_SPEC not in {spec.name for spec in below["streams"].specs}:
        below = _with_sources(below["streams"])  # as versions of 2025 lay it out
    for name, node in below.items():
        if _STREAM_SPEC in {spec.name for spec in node.specs}:
            yield name, _with_sources(node)


def _with_sources(client: Any) -> Container:
    """Return Tiled's own client, whose children know where their data lies."""
    return Container(
        client.context,
        item=client.item,
        structure_clients=client.structure_clients,
        include_data_sources=True,
    )


def _image_keys(described: Mapping[str, Any], data_keys: Collection[str] | None) -> list[str]:
    return [
        key
        for key, spec in described.get("data_keys", {}).items()
        if (looks_like_image(spec) if data_keys is None else key in data_keys)
    ]


@dataclass(frozen=True, slots=True)
class _Events:
    """The table of a stream, in the order of the documents."""

    numbers: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)
    has: dict[str, np.ndarray] = field(default_factory=dict)
    """Which events have a data key, where some may not."""

    @classmethod
    def read(cls, table: Any) -> _Events:
        """Read them. TiledWriter sends rows again whose answer was lost: the same twice is one event."""
        rows = table.read().sort_values("time", kind="stable")
        rows = rows[~rows.duplicated(["seq_num", "time"])]
        data = rows[[name for name in rows if name not in ("seq_num", "time") and not name.startswith("ts_")]]
        return cls(
            rows["seq_num"].astype(int).tolist(),
            rows["time"].astype(float).tolist(),
            [
                {key: value for key, value in row.items() if value is not None}
                for row in data.to_dict("records")
            ],
            {
                name.removeprefix("ts_"): rows[name].notna().to_numpy()
                for name in rows
                if name.startswith("ts_")
            },
        )

    def with_key(self, key: str, count: int) -> list[int]:
        """Return which events have the `count` values of a data key that lies beside the table."""
        has = self.has.get(key)
        positions = list(range(count)) if has is None else np.flatnonzero(has).tolist()
        return positions if len(positions) == count else list(range(count))


class _Stream:
    """One stream of a run."""

    def __init__(
        self,
        name: str,
        node: Container,
        run_uid: str,
        data_keys: Collection[str] | None,
        root_map: Mapping[str, str],
    ) -> None:
        described = node.metadata_copy()[0]
        try:
            self._descriptors = copy.deepcopy(build_descriptor_docs(described, name, run_uid))
        except Exception as error:  # the family of the validator in there
            raise DvfbError(
                f"the descriptor of stream {name!r} is none: {str(error).splitlines()[0]}"
            ) from error
        self._run_uid = run_uid
        self._name = name
        nodes = dict(node.items()) if _image_keys(described, data_keys) else {}
        self._table = nodes.get(_TABLE)
        self._images: dict[str, ImagesInTiled | FilesOfImages] = {
            key: images_of(nodes[key], described["data_keys"][key], root_map)
            for key in _image_keys(described, data_keys)
            if key in nodes
        }

    def documents(self) -> Iterator[Document]:
        """Give its documents; none where it has no images."""
        if not self._images and self._table is None:
            return
        for descriptor in self._descriptors:
            for key, spec in descriptor["data_keys"].items():
                self._describe(key, spec)
            yield "descriptor", descriptor
        files = {key: found for key, found in self._images.items() if isinstance(found, FilesOfImages)}
        for key, found in files.items():
            for resource in found.resources(f"{self._run_uid}/{self._name}/{key}"):
                yield "stream_resource", {**resource, "data_key": key, "run_start": self._run_uid}
        yield from self._frames(files)

    def _describe(self, key: str, spec: dict[str, Any]) -> None:
        """Let a data key say how its images come here."""
        if spec.get("dtype") == "array" and spec.get("dtype_numpy") == _UNDECLARED:
            del spec["dtype_numpy"]
        match self._images.get(key):
            case FilesOfImages():
                spec["external"] = "STREAM:"
            case ImagesInTiled():
                spec.pop("external", None)

    def _frames(self, files: Mapping[str, FilesOfImages]) -> Iterator[Document]:
        events = _Events() if self._table is None else _Events.read(self._table)
        inside = {key: found for key, found in self._images.items() if isinstance(found, ImagesInTiled)}
        positions = {
            key: {event: n for n, event in enumerate(events.with_key(key, found.points))}
            for key, found in inside.items()
        }
        count = max([len(events.numbers), *(found.points for found in self._images.values())], default=0)
        largest = max((found.point_bytes for found in inside.values()), default=1)
        length = max(1, min(_BLOCK_POINTS, _BLOCK_BYTES // largest))
        for first in range(0, count, length):
            block = range(first, min(first + length, count))
            pixels = {key: self._read(found, positions[key], block) for key, found in inside.items()}
            if events.numbers or inside:
                for position in block:
                    of_event = {key: found[position] for key, found in pixels.items() if position in found}
                    yield "event", self._event(events, position, of_event)
            for key, found in files.items():
                for datum in found.datums(f"{self._run_uid}/{self._name}/{key}", block):
                    yield (
                        "stream_datum",
                        {**datum, "descriptor": self._descriptor(events, block.start)["uid"]},
                    )

    def _read(self, images: ImagesInTiled, positions: Mapping[int, int], block: range) -> dict[int, Any]:
        """Return the pixels of those events of a block that have some, by the event's position."""
        wanted = [position for position in block if position in positions]
        if not wanted:
            return {}
        first, last = positions[wanted[0]], positions[wanted[-1]]
        return dict(zip(wanted, images.read(first, last + 1), strict=True))

    def _event(self, events: _Events, position: int, pixels: Mapping[str, Any]) -> dict[str, Any]:
        is_known = position < len(events.numbers)
        descriptor = self._descriptor(events, position)
        data = {**(events.data[position] if is_known else {}), **pixels}
        time = events.times[position] if is_known else descriptor["time"]
        return {
            "descriptor": descriptor["uid"],
            "seq_num": events.numbers[position] if is_known else position + 1,
            "time": time,
            "data": data,
            "timestamps": dict.fromkeys(data, time),
        }

    def _descriptor(self, events: _Events, position: int) -> dict[str, Any]:
        """Return the newest descriptor at the time of an event."""
        time = events.times[position] if position < len(events.times) else None
        older: list[dict[str, Any]] = [d for d in self._descriptors if time is not None and d["time"] <= time]
        return (older or self._descriptors[:1])[-1]
