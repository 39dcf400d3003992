"""Makes the documents of a raw run again from what Tiled keeps of it, as far as annotating needs them."""

from __future__ import annotations

from collections.abc import Container as Collection
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiled.client.container import Container

from dvfb_stream.callbacks.copied_fields import ACCESS_TAGS
from dvfb_stream.history.stored_images import Permits, any_file
from dvfb_stream.history.stored_stream import Document, StoredStream, image_keys_of

_STREAM_SPEC = "BlueskyEventStream"


Streams = Sequence[tuple[str, Container]]
"""Of a run: the name of each, and Tiled's client of it."""


def documents_of(
    run: Any,
    *,
    data_keys: Collection[str] | None = None,
    root_map: Mapping[str, str] | None = None,
    permits: Permits = any_file,
    streams: Streams | None = None,
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
    permits
        Whether the file at a path may be opened here; images in others are read from Tiled, where it can.
    streams
        What `streams_of` gave; None: it is asked.

    Raises
    ------
    DvfbError
        When its documents do not make a run.
    Exception
        What Tiled's client raises.
    """
    start = start_of(run)
    yield "start", start
    for name, node in streams_of(run) if streams is None else streams:
        stream = StoredStream(name, start["uid"], data_keys=data_keys, root_map=root_map, permits=permits)
        stream.look(node)
        yield from stream.documents(ended=True)
    if stop := run.metadata_copy()[0].get("stop"):
        yield "stop", {**stop, "run_start": start["uid"]}


def start_of(run: Any) -> dict[str, Any]:
    """Return the start document of a run, as `documents_of` takes it."""
    start: dict[str, Any] = run.metadata_copy()[0]["start"]
    # TiledWriter takes them out of the document. Whoever may not see the run may not see its annotations.
    tags = (run.item["attributes"].get("access_blob") or {}).get("tags")
    return {**start, ACCESS_TAGS: tags} if tags else start


@dataclass(frozen=True, slots=True)
class ImageKey:
    """A data key with images."""

    stream: str
    data_key: str
    descriptor: Mapping[str, Any]
    """Of its stream, the first."""


def image_keys(streams: Streams, data_keys: Collection[str] | None = None) -> Iterator[ImageKey]:
    """Give the data keys with images of the streams of a run, as `documents_of` takes them."""
    for name, node in streams:
        described = node.metadata_copy()[0]
        for key in image_keys_of(described, data_keys):
            yield ImageKey(name, key, described)


def streams_of(run: Any) -> Streams:
    """Return the streams of a run that it has by now, as `StoredStream.look` takes them.

    The server is asked once; twice where versions of 2025 stored the run.
    """
    below = dict(_with_sources(run).items())
    if "streams" in below and not _is_stream(below["streams"]):
        below = dict(_with_sources(below["streams"]).items())
    return [(name, _with_sources(node)) for name, node in below.items() if _is_stream(node)]


def _is_stream(node: Any) -> bool:
    return _STREAM_SPEC in {spec.name for spec in node.specs}


def _with_sources(client: Any) -> Container:
    """Return Tiled's own client, whose children know where their data lies."""
    return Container(
        client.context,
        item=client.item,
        structure_clients=client.structure_clients,
        include_data_sources=True,
    )
