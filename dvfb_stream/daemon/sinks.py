"""Opens the places that the configuration names for analysis documents."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from dvfb_stream.callbacks import Sink
from dvfb_stream.catalog.spool.encoding import json_ready
from dvfb_stream.daemon.settings import DaemonSettings, TiledSettings
from dvfb_stream.errors import DvfbError, SettingsError

if TYPE_CHECKING:
    from dvfb_stream.catalog import TiledSink


class StorageError(DvfbError):
    """A place for analysis documents that cannot be opened, or that refused a document."""


class StoreAwayError(StorageError):
    """Nobody answers at the catalog for analysis documents, or not yet."""


class JsonLinesSink:
    """Appends ``[name, document]`` to a file, one a line; on the disk when a run stops.

    What is not a number (the scores of a failed frame) is null. A daemon that starts again repeats the
    documents of the runs that were open: equal uids, equal documents. A line that a killed daemon left torn
    stays, by itself; what it was to say is among what is repeated.

    Parameters
    ----------
    path
        The file; made where there is none.

    Raises
    ------
    StorageError
        When it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("a", encoding="utf-8")
            if _is_torn(path):
                self._file.write("\n")
        except OSError as error:
            raise StorageError(f"cannot write sinks.jsonl {path}: {error.strerror or error}") from error
        self._turn = threading.Lock()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Append one document."""
        line = json.dumps([name, json_ready(doc)], allow_nan=False)
        with self._turn:
            self._file.write(line + "\n")
            self._file.flush()
            if name == "stop":
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ClosableSink(Protocol):
    """A sink that holds something open."""

    def __call__(self, name: str, doc: dict[str, Any], /) -> object:
        """Take a document."""
        ...

    def close(self) -> object:
        """Close it."""
        ...


class ConfiguredSinks:
    """The sinks of a configuration, which all pipelines of a daemon share.

    A context manager: leaving it closes them. What Tiled does not have then waits on the disk for the next daemon.

    Parameters
    ----------
    settings
        The configuration.
    open_topic
        Opens the sink for `sinks.topic`, where that is set: the source of documents knows the cluster.

    Raises
    ------
    StorageError
        When one of them cannot be opened.
    """

    def __init__(
        self, settings: DaemonSettings, *, open_topic: Callable[[str], ClosableSink] | None = None
    ) -> None:
        self._shared: list[ClosableSink] = []
        self._tiled: TiledSink | None = None
        try:
            if settings.sinks.tiled is not None:
                self._tiled = _tiled_sink(settings.sinks.tiled)
                self._shared.append(self._tiled)
            if settings.sinks.jsonl is not None:
                self._shared.append(JsonLinesSink(settings.sinks.jsonl))
            if settings.sinks.topic is not None and open_topic is not None:
                self._shared.append(open_topic(settings.sinks.topic))
        except StorageError:
            self.close()
            raise

    def for_pipeline(self) -> Sequence[Sink]:
        """Return the sinks of a new pipeline."""
        return tuple(self._shared)

    def trouble(self) -> str:
        """Return why the catalog takes no rows at the moment; empty where nothing is wrong, or there is none."""
        return self._tiled.stats().trouble if self._tiled is not None else ""

    def spooled_bytes(self) -> int:
        """Return the size of this process's file in the spool."""
        return self._tiled.stats().spooled_bytes if self._tiled is not None else 0

    def close(self) -> None:
        """Close what is shared."""
        for sink in self._shared:
            sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_torn(path: Path) -> bool:
    if not path.is_file():  # a pipe has no end to look at
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")


def _tiled_sink(settings: TiledSettings) -> TiledSink:
    from dvfb_stream.catalog import TiledSink, connect
    from dvfb_stream.catalog.connection import CatalogAwayError
    from dvfb_stream.catalog.spool import WhenFull
    from dvfb_stream.daemon.store_reach import StoreReach

    # Tiled's client tries for a minute; who waits for it wants to say so meanwhile.
    if trouble := StoreReach(settings.uri).trouble():
        raise StoreAwayError(
            f"sinks.tiled: the catalog {settings.uri.partition('?')[0]} {trouble}; is the address right, and is the "
            "server up?"
        )

    try:
        sink = TiledSink(
            connect(settings.uri),
            batch_size=settings.batch_size,
            spool=settings.spool,
            max_spool_bytes=settings.max_spool_bytes,
            # The source keeps what is not read; where there is no room, reading pauses.
            when_full=WhenFull.WAIT,
        )
        sink.probe()
    except CatalogAwayError as error:
        raise StoreAwayError(f"sinks.tiled: {error}") from error
    except SettingsError as error:
        raise StorageError(f"sinks.tiled: {error}") from error
    return sink
