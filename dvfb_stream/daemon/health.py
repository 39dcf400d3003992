"""How a daemon is: whether it turns, and whether each part that it needs is well, with the reason where not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from dvfb_stream.metrics import Metrics, catalogue


class Part(StrEnum):
    """What a daemon needs to annotate."""

    BROKER = "broker"
    """A Kafka cluster that answers."""
    SOURCE = "source"
    """The Tiled catalog of raw runs, which answers."""
    STORE = "store"
    """The catalog of annotations, which takes rows."""
    MODEL = "model"
    """The model, loaded."""
    LAG = "lag"
    """Messages that wait in the cluster, no more of them than a bound."""


@dataclass(frozen=True, slots=True)
class State:
    """How one part is."""

    ok: bool
    reason: str
    """What is wrong, or what is seen."""


class Health:
    """What a daemon knows of itself; its loop tells it, and other threads ask.

    A turn of the loop costs one assignment. Parts are told, or looked at whenever somebody asks.

    Parameters
    ----------
    parts
        What this daemon needs; none of them is well before somebody says so.
    patience
        Seconds between two turns after which the loop counts as stuck.
    metrics
        ``dvfb_up`` of each part, and the age of the last turn, are kept there.
    clock
        Seconds, monotonic.
    """

    def __init__(
        self,
        parts: Iterable[Part],
        *,
        patience: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._patience = patience
        self._metrics = metrics
        self._clock = clock
        self._lock = threading.Lock()
        self._states: dict[Part, State] = {part: State(ok=False, reason="not there yet") for part in parts}
        self._looks: dict[Part, Callable[[], State]] = {}
        self._turned = clock()

    def turn(self) -> None:
        """Take note that the loop turns."""
        self._turned = self._clock()

    def say(self, part: Part, *, ok: bool, reason: str) -> None:
        """Take note of how a part is."""
        with self._lock:
            self._states[part] = State(ok, reason)

    def look_at(self, part: Part, look: Callable[[], State]) -> None:
        """From now on call `look` for the state of a part, whenever it is asked for; from any thread."""
        with self._lock:
            self._looks[part] = look

    def age(self) -> float:
        """Return how long ago the loop turned, in seconds."""
        return max(0.0, self._clock() - self._turned)

    def alive(self) -> State:
        """Return whether the loop turns."""
        age = self.age()
        if age < self._patience:
            return State(ok=True, reason=f"the loop turned {age:.1f} s ago")
        return State(ok=False, reason=f"the loop has not turned for {age:.0f} s")

    def ready(self) -> dict[Part, State]:
        """Return how each part is."""
        with self._lock:
            found, looks = dict(self._states), dict(self._looks)
        for part, look in looks.items():
            found[part] = look()
        return found

    def measure(self) -> None:
        """Bring the metrics up to date."""
        self._metrics.set(catalogue.LOOP_AGE, round(self.age(), 3))
        for part, state in self.ready().items():
            self._metrics.set(catalogue.UP, int(state.ok), part)
