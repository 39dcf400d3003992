"""Sends dead letters off on a thread of its own, so that nothing good ever waits for them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf

from dvfb_stream.dead_letters.folder import LetterFolder, NoRoomError
from dvfb_stream.dead_letters.letter import DeadLetter
from dvfb_stream.metrics import Metrics, catalogue

logger = logging.getLogger(__name__)

MOST_WAITING_BYTES = 128 << 20
"""Bytes of letters that wait to be sent off; two messages of the largest size. More are given up."""
_LETTER_BYTES = 1_000
"""That a letter takes beside its bytes."""
_AT_A_TIME = 64
"""Letters sent to the topic before their acknowledgements are waited for."""
_SECONDS_BETWEEN_TRIES = 30.0
"""Before a topic that did not take a letter is tried again; meanwhile letters go into the folder."""
_SECONDS_BETWEEN_COMPLAINTS = 10.0

Publish = Callable[[Sequence[DeadLetter]], list[bool]]
"""Sends letters to a topic; returns which of them the brokers have. May block; raises where none can be sent."""


def nothing() -> None:
    """Do nothing."""


class DeadLetterPost:
    """Brings dead letters to a topic, or else into a folder.

    Parameters
    ----------
    folder
        Where letters go that no topic takes.
    publish
        Sends letters to a topic; None: there is none. Called from the post's thread alone.
    metrics
        What is counted is added to it.
    max_waiting_bytes
        Of letters that wait.
    """

    def __init__(
        self,
        folder: LetterFolder,
        *,
        publish: Publish | None = None,
        metrics: Metrics | None = None,
        max_waiting_bytes: int = MOST_WAITING_BYTES,
    ) -> None:
        self.folder = folder
        """Where letters go that no topic takes."""
        self._publish = publish
        self._metrics = Metrics() if metrics is None else metrics
        self._max_waiting_bytes = max_waiting_bytes
        self._changed = threading.Condition(threading.Lock())  # guards what follows
        self._waiting: deque[tuple[DeadLetter, Callable[[], None]]] = deque()
        self._bytes = 0
        self._busy = self._closed = False
        self._sent = self._failed = 0
        self._next_try = self._next_complaint = -inf
        self._thread = threading.Thread(target=self._work, name="dvfb-dead-letters", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> int:
        """Letters that are in the topic or the folder."""
        return self._sent

    @property
    def failed(self) -> int:
        """Letters given up: neither took them, or too many waited."""
        return self._failed

    def post(self, letter: DeadLetter, then: Callable[[], None] = nothing) -> None:
        """Send a letter off; never blocks, never raises.

        Parameters
        ----------
        letter
            The letter.
        then
            Called once it is safe, or given up: from the post's thread, or at once. Must not raise.
        """
        size = len(letter.value) + _LETTER_BYTES
        with self._changed:
            # One that is larger than all that may wait has its turn when nothing else waits.
            fits = not self._waiting or self._bytes + size <= self._max_waiting_bytes
            if fits and not self._closed:
                self._waiting.append((letter, then))
                self._bytes += size
                self._changed.notify_all()
                return
        self._give_up(letter, "too many wait" if not self._closed else "the daemon ends")
        then()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no letter waits, at most `timeout` seconds; return whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._waiting or self._busy), timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Send off what waits within `timeout` seconds, and end the thread.

        Nobody is told of what is left, so that offsets do not pass it: the next daemon reads it again.
        """
        self.wait(timeout)
        with self._changed:
            self._closed = True
            left = len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        if left:
            logger.warning("%d dead letters are not sent off: what they are of is read again", left)
        self._thread.join(1.0)

    # -- the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while batch := self._next():
            try:
                self._send([letter for letter, _ in batch])
            except Exception:  # a fault of ours with one letter must not end the others
                logger.exception("dead letters could not be sent off")
            for _, then in batch:
                then()
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> list[tuple[DeadLetter, Callable[[], None]]]:
        """Wait for letters, and take some; none once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch = [self._waiting.popleft() for _ in range(min(_AT_A_TIME, len(self._waiting)))]
            self._bytes -= sum(len(letter.value) + _LETTER_BYTES for letter, _ in batch)
            self._busy = bool(batch)
            return batch

    def _send(self, letters: Sequence[DeadLetter]) -> None:
        for letter, taken in zip(letters, self._published(letters), strict=True):
            if not taken:
                try:
                    self.folder.put(letter)
                except NoRoomError as error:
                    self._give_up(letter, str(error))
                    continue
            self._sent += 1
            self._metrics.add(catalogue.DEAD_LETTERS, 1, letter.kind)

    def _published(self, letters: Sequence[DeadLetter]) -> list[bool]:
        if self._publish is None or time.monotonic() < self._next_try:
            return [False] * len(letters)
        try:
            taken = self._publish(letters)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is the folder
            taken, why = [False] * len(letters), f"{type(error).__name__}: {error}"
        else:
            # One alone may be too large for the topic; where none is taken, waiting for each would take minutes.
            why = "" if any(taken) else "it took none of them"
        if why:
            self._next_try = time.monotonic() + _SECONDS_BETWEEN_TRIES
            logger.warning(
                "the dead-letter topic takes no letters (%s): they go into %s", why, self.folder.path
            )
        return taken

    def _give_up(self, letter: DeadLetter, why: str) -> None:
        self._failed += 1
        self._metrics.add(catalogue.FAILED_DEAD_LETTERS, 1, letter.kind)
        now = time.monotonic()
        if now >= self._next_complaint:
            self._next_complaint = now + _SECONDS_BETWEEN_COMPLAINTS
            logger.error(
                "the dead letter of %s is lost (%s); %s; %d are lost so far",
                letter.origin, letter.reason, why, self._failed,
            )  # fmt: skip
