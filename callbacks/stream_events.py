"""Raw events of the frames that stream datums announce, and the rows that wait for theirs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.callbacks.frame_sequence import RawEvent

MOST_EVENTS = 100_000
"""Remembered of all open runs; a few hundred bytes each. As many frames may wait to be read, each with its event."""

MOST_WAITING = 1_000
"""Rows that wait for their events; of more, those that waited longest go on without: a stream may announce all its
frames long before the first event."""

Key = tuple[str, int]
"""Uid of a descriptor, and number of an event."""


class StreamEvents:
    """Remembers raw events, and lets rows wait for those that have not come.

    Bluesky emits a stream datum before the event of the same number. What a row says of its event, the time of the
    frame above all, must not depend on which of the two threads was faster: it is the same in a run that is
    delivered again, by whatever way.

    Only of streams that `expect` names: where all data keys are in files, a plan need not emit any event.

    Safe to share between threads. Nothing of the caller's runs under the lock.
    """

    def __init__(self) -> None:
        self._known: BoundedCache[Key, RawEvent] = BoundedCache(MOST_EVENTS, evict=Evict.OLDEST_PUT)
        self._lock = threading.Lock()  # so that an event cannot come between asking for it and waiting
        self._expected: set[str] = set()
        self._waiting: deque[tuple[Key, Callable[[], None]]] = deque()

    def expect(self, descriptor: str) -> None:
        """Let rows wait for events of a descriptor, until its end."""
        with self._lock:
            self._expected.add(descriptor)

    def end(self, descriptors: Iterable[str]) -> None:
        """Go on with what waits for events of these descriptors: none comes any longer."""
        with self._lock:
            ended = self._expected.intersection(descriptors)
            self._expected -= ended
            due = self._take(lambda key: key[0] in ended) if self._waiting else []
        for go_on in due:
            go_on()

    def get(self, descriptor: str, number: int) -> RawEvent | None:
        """Return the event with a number, where it has come and is not forgotten."""
        return self._known.get((descriptor, number))

    def put(self, descriptor: str, number: int, event: RawEvent) -> None:
        """Remember an event, and go on with what waited for it, on this thread."""
        with self._lock:
            self._known.put((descriptor, number), event)
            due = self._take(lambda key: key == (descriptor, number)) if self._waiting else []
        for go_on in due:
            go_on()

    def when_known(self, descriptor: str, number: int, go_on: Callable[[], None]) -> None:
        """Call `go_on` once an event has come, or is waited for no longer; at once where none is expected."""
        due: Callable[[], None] | None = go_on
        with self._lock:
            if descriptor in self._expected and (descriptor, number) not in self._known:
                self._waiting.append(((descriptor, number), go_on))
                due = self._waiting.popleft()[1] if len(self._waiting) > MOST_WAITING else None
        if due is not None:
            due()

    def go_on(self) -> None:
        """Go on with all that waits: somebody wants the rows now."""
        with self._lock:
            due = self._take(lambda key: True)
        for go_on in due:
            go_on()

    def _take(self, is_due: Callable[[Key], bool]) -> list[Callable[[], None]]:
        due = [go_on for key, go_on in self._waiting if is_due(key)]
        if due:
            self._waiting = deque(entry for entry in self._waiting if not is_due(entry[0]))
        return due
