"""A store that keeps the promises of `AnnotationStore` in memory, and fails as it is told to."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from tiled.client import from_uri

from dvfb_stream.catalog.spool import Pace

from ..tiled_process import TiledProcess, on_sqlite

PATIENCE = 30.0

QUICK = Pace(max_age=0.05, first_pause=0.01, longest_pause=0.05, refused_pause=0.05)
"""Waits are short; what is waited for is the same."""


class RememberingStore:
    """Rows by run and frame: how often they were written anew, what they say, and in which order."""

    def __init__(self) -> None:
        self.rows: defaultdict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        self.stops: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, int]] = []
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.seen: Counter[tuple[str, int]] = Counter()
        self.fault: Callable[[str, str], Exception | None] = lambda kind, uid: None
        """Of each call, by kind and uid; it raises what this returns."""
        self.open = threading.Event()
        """Calls hang until it is set."""
        self.open.set()
        self.lost_answers = 0
        """So many calls do what they should, and fail nevertheless."""

    def write(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> None:
        uid = start["uid"]
        assert descriptor["run_start"] == uid
        self._answer("write", uid, len(events))
        for event in events:
            frame = event["data"]["frame"]
            self.seen[uid, frame] += 1
            if frame not in self.rows[uid]:
                self.rows[uid][frame] = dict(event)
                self.times[uid].append(time.monotonic())
        self._lose_the_answer()

    def finish(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], stop: Mapping[str, Any]
    ) -> dict[str, Any]:
        uid = start["uid"]
        self._answer("finish", uid, 0)
        self.stops.setdefault(uid, dict(stop))
        self._lose_the_answer()
        return dict(stop)

    def close(self) -> None:
        self.calls.append(("close", "", 0))

    def _answer(self, kind: str, uid: str, rows: int) -> None:
        self.calls.append((kind, uid, rows))
        self.open.wait(PATIENCE)
        fault = self.fault(kind, uid)
        if fault is not None:
            raise fault

    def _lose_the_answer(self) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            raise unavailable("the answer was lost on the way")


def unavailable(reason: str = "nobody answers") -> Exception:
    from dvfb_stream.catalog.store_errors import StoreUnavailableError

    return StoreUnavailableError(reason)


def refused(reason: str = "the table is none", *, everything: bool = False) -> Exception:
    from dvfb_stream.catalog.store_errors import StoreRefusedError

    return StoreRefusedError(reason, everything=everything)


@pytest.fixture(scope="package")
def tiled_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiledProcess]:
    """A real server that can be killed."""
    with on_sqlite(tmp_path_factory.mktemp("tiled")) as server:
        yield server


@pytest.fixture
def raw_container(tiled_process: TiledProcess, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A container for raw runs of each test's own; annotations lie beside it."""
    client = from_uri(tiled_process.uri, api_key=tiled_process.key)
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    yield client.create_container(key=name)
    client.context.close()


@pytest.fixture
def store() -> RememberingStore:
    return RememberingStore()


def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.002)


def documents(uid: str, frames: int, *, size: int = 0) -> list[tuple[str, dict[str, Any]]]:
    """Return the documents of a small analysis run."""
    descriptor = {"uid": f"{uid}-d", "run_start": uid, "data_keys": {}}
    return [
        ("start", {"uid": uid, "analysis": {"parent": f"raw of {uid}"}}),
        ("descriptor", descriptor),
        *(("event", event(uid, frame, size=size)) for frame in range(frames)),
        ("stop", {"uid": f"{uid}-s", "run_start": uid, "num_events": {"annotations": frames}}),
    ]


def event(uid: str, frame: int, *, size: int = 0) -> dict[str, Any]:
    data = {"frame": frame, "rings": frame / 7, "reason": "x" * size}
    return {"uid": f"{uid}-{frame}", "descriptor": f"{uid}-d", "seq_num": frame + 1, "data": data}
