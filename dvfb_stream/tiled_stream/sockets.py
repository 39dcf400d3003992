"""Listens to what Tiled's server tells over websockets of the nodes that are watched; reconnects, and sees gaps.

Tiled's own `Subscription`, and with it `subscribe_to_streams`, is not used: it waits for ever for a connection that
the server refuses, gives up without a word after 45 s of outage or one large message, and queues without a bound.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tiled.client.context import Context
from tiled.client.stream import SCHEMA_MESSAGE_TYPES
from tiled.stream_messages import ArrayData, ArrayRef, ChildCreated, ChildMetadataUpdated, TableData, Update
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from dvfb_stream.daemon.unpacking import unpackb
from dvfb_stream.metrics import Metrics, catalogue

logger = logging.getLogger(__name__)

FIRST_PAUSE = 0.25
"""Seconds before a lost connection is tried again; doubled each time, to"""
LONGEST_PAUSE = 15.0
"""seconds: a server that comes back is heard of soon, and its nodes are looked at meanwhile."""
REFUSED_PAUSE = 60.0
"""Seconds until a server that refused is asked again: it may have been started anew, with a streaming cache."""
_MOST_QUEUED = 4
"""Messages of a connection that wait to be taken, each with frames of some megabytes; more wait on the server."""
_OPEN_SECONDS = 10.0
"""Longest wait for a connection."""
_CLOSE_SECONDS = 2.0
"""Longest wait for the server to agree that a connection ends."""
_PRODUCER_ENDED = 1000
"""Close code after which nothing comes any more."""
_AWAY = frozenset({429, 502, 503, 504})
"""HTTP status with which a proxy says that the server is away."""
_TOO_BIG = 1009
"""Close code where a message was larger than is taken."""

_UPDATES: Mapping[str, type[Update]] = {
    "container-child-created": ChildCreated,
    "container-child-metadata-updated": ChildMetadataUpdated,
    "array-data": ArrayData,
    "array-ref": ArrayRef,
    "table-data": TableData,
}

Path = tuple[str, ...]
"""Keys from the watched container to a node; empty: the container itself."""


class Change(Enum):
    """What became of the connection for a node."""

    JOINED = "joined"
    """From now on updates come; those before may not have."""
    LOST = "lost"
    """For now, none come; the connection is tried again."""
    ENDED = "ended"
    """Whoever wrote the node has closed it."""
    MISSED = "missed"
    """There was an update, and no room for it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One thing that was heard of one node, in the order of the server."""

    path: Path
    what: Update | Change
    missed: int = 0
    """Updates before this one that did not come, by its sequence number; at least 1 where nobody knows how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketStats:
    """What was heard."""

    updates: int
    """Messages that told of something."""
    missed_updates: int
    """Messages that did not come, as the numbers of others tell: evicted from the server's cache, or lost with it."""
    reconnections: int
    """Connections that were made again."""


@dataclass(slots=True, eq=False)
class _Watch:
    path: Path
    last: int = 0
    """Sequence number of its last update."""
    joined: bool = False
    joins: int = 0


class StreamSockets:
    """One thread with a connection for each watched node.

    Parameters
    ----------
    context
        Of Tiled's client: where the server is, and the key.
    root
        Path of the container below which nodes are watched.
    hear
        Called with what is heard, from the thread; must return at once.
    max_bytes
        Of a message; what is larger is not taken, and is looked for in the catalog.
    metrics
        What is missed, and how often it was connected again, is added to it.
    """

    def __init__(
        self,
        context: Context,
        root: Path,
        hear: Callable[[Heard], None],
        *,
        max_bytes: int,
        metrics: Metrics | None = None,
    ) -> None:
        self._context = context
        self._root = root
        self._hear = hear
        self._max_bytes = max_bytes
        self._metrics = Metrics() if metrics is None else metrics
        self._lock = threading.Lock()  # guards what follows
        self._watched: dict[Path, _Watch] = {}
        self._tasks: dict[Path, asyncio.Task[None]] = {}
        self._updates = self._missed = self._reconnections = 0
        self._refusal = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dvfb-tiled-sockets", daemon=True)
        self._thread.start()

    @property
    def refusal(self) -> str:
        """What the server answered instead of a connection, the last time; empty where it did not refuse."""
        with self._lock:
            return self._refusal

    def watch(self, path: Path) -> None:
        """Listen to a node from now on, and after an interruption to what the server remembers of that.

        Not to what it remembers from before: it does so by the number of a node, which SQLite gives again to another
        when one is deleted, so that pixels of the one would be taken for those of the other.
        """
        with self._lock:
            if path in self._watched:
                return
            watch = self._watched[path] = _Watch(path)
        self._call(lambda: self._start(watch))

    def forget(self, path: Path) -> None:
        """Listen no more to a node, and to those below."""
        with self._lock:
            gone = [one for one in self._watched if one[: len(path)] == path]
            for one in gone:
                del self._watched[one]
        self._call(lambda: [task.cancel() for one in gone if (task := self._tasks.pop(one, None))])

    def all_joined(self) -> bool:
        """Return whether all that are watched are connected now, or have ended."""
        with self._lock:
            return all(watch.joined for watch in self._watched.values())

    def stats(self) -> SocketStats:
        """Return what was heard so far."""
        with self._lock:
            return SocketStats(
                updates=self._updates, missed_updates=self._missed, reconnections=self._reconnections
            )

    def close(self) -> None:
        """Close all connections, and end the thread."""
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- on the thread ---------------------------------------------------------------------------------------

    def _call(self, action: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(action)

    def _start(self, watch: _Watch) -> None:
        self._tasks[watch.path] = self._loop.create_task(self._follow(watch))

    async def _finish(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        # Those that were forgotten before may still be closing their connections, which must not be cut short.
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)

    async def _follow(self, watch: _Watch) -> None:
        pause = FIRST_PAUSE
        while True:
            wait = 0.0
            try:
                if await self._once(watch):
                    return
                pause = FIRST_PAUSE
            except (WebSocketException, OSError, TimeoutError) as error:
                if isinstance(error, InvalidStatus) and error.response.status_code not in _AWAY:
                    wait = REFUSED_PAUSE
                    with self._lock:
                        self._refusal = str(error)
                logger.debug("listening to %s: %s", "/".join(watch.path), error)
            except Exception:  # what nobody foresaw costs this connection, and is made good by looking
                logger.exception("listening to %s failed", "/".join(watch.path) or "the catalog")
            if watch.joined:
                pause = FIRST_PAUSE
            with self._lock:
                watch.joined = False
            self._hear(Heard(watch.path, Change.LOST))
            await asyncio.sleep(wait or pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _once(self, watch: _Watch) -> bool:
        """Listen as long as the connection holds; return whether the node's writer closed it."""
        async with connect(
            self._address(watch),
            additional_headers=self._headers(),
            max_size=self._max_bytes,
            max_queue=_MOST_QUEUED,
            open_timeout=_OPEN_SECONDS,
            close_timeout=_CLOSE_SECONDS,
        ) as connection:
            schema = SCHEMA_MESSAGE_TYPES[(first := unpackb(await connection.recv()))["type"]](**first)
            with self._lock:
                watch.joined = True
                self._refusal = ""
                self._reconnections += watch.joins > 0
            if watch.joins:
                self._metrics.add(catalogue.RECONNECTIONS)
            watch.joins += 1
            self._hear(Heard(watch.path, Change.JOINED))
            code = await self._listen(watch, connection, schema.content())
        if code == _PRODUCER_ENDED and watch.path:
            self._hear(Heard(watch.path, Change.ENDED))
            return True
        if code == _TOO_BIG:
            watch.last += 1
            logger.warning(
                "an update of %s is larger than %d bytes; its frames are read from the catalog",
                "/".join(watch.path),
                self._max_bytes,
            )
        return False

    async def _listen(
        self, watch: _Watch, connection: ClientConnection, content: Mapping[str, Any]
    ) -> int | None:
        """Hand on updates until the connection ends; return the code that says why."""
        try:
            async for message in connection:
                if isinstance(message, str):
                    continue
                fields = unpackb(message)
                update = _UPDATES[fields["type"]](**fields, **content)
                # What was before the first is in the catalog, where it is looked for.
                expected = watch.last + 1 if watch.last else update.sequence
                missed = max(1, update.sequence - expected) if update.sequence != expected else 0
                watch.last = update.sequence
                with self._lock:
                    self._updates += 1
                    self._missed += missed
                if missed:
                    self._metrics.add(catalogue.MISSED_UPDATES, missed)
                self._hear(Heard(watch.path, update, missed))
        except ConnectionClosed as error:
            logger.debug("the connection for %s broke: %s", "/".join(watch.path), error)
            closed = error.sent or error.rcvd
            return None if closed is None else closed.code
        return connection.close_code

    def _address(self, watch: _Watch) -> str:
        uri = self._context.api_uri
        scheme = "wss" if uri.scheme == "https" else "ws"
        path = "/".join(("/api/v1/stream/single", *self._root, *watch.path))
        params = {"envelope_format": "msgpack"}
        if watch.last:
            params["start"] = str(watch.last + 1)
        return str(uri.copy_with(scheme=scheme, path=path, params=params))

    def _headers(self) -> dict[str, str]:
        key = self._context.api_key
        return {"Authorization": f"Apikey {key}"} if key else {}
