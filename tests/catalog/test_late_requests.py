"""Nothing that comes late removes or repeats a row: a writer that slept, a request that hung, a copy left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from dvfb_stream.catalog import leases as leases_module
from dvfb_stream.catalog import rewriting
from dvfb_stream.catalog import store as store_module
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.run_table import RunTable
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreUnavailableError
from dvfb_stream.catalog.writers import Turns

from .test_store import FRAMES, SCORES, Run


@pytest.fixture
def run(analysis_documents) -> Run:
    return Run(analysis_documents(*SCORES))


@pytest.fixture
def store(client) -> Iterator[AnnotationStore]:
    store = AnnotationStore(client)
    yield store
    store.close()


@pytest.fixture
def after_take_over(client, monkeypatch) -> Callable[[Callable[[AnnotationStore], None]], None]:
    """Let a store as another process has it, which takes this one for dead, do something."""

    def let(do: Callable[[AnnotationStore], None]) -> None:
        with monkeypatch.context() as patch:
            elsewhere = {"token": "other", "name": "other", "machine": "other", "pid": 1, "started": 1}
            patch.setattr(leases_module, "identity", lambda _: elsewhere)
            patch.setattr(leases_module, "is_dead", lambda writer: writer["token"] != "other")
            patch.setattr(store_module, "TURNS", Turns())
            other = AnnotationStore(client)
            do(other)
            other.close()

    return let


def leases_of(client: Any) -> list[str]:
    place = find_place(client)
    return list(place.parent[f"{place.item['id']}_leases"])


def before_the_copy(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    make = RunTable.make

    def late(self: RunTable, container: Any, key: str, **how: Any) -> Any:
        if how.get("metadata"):
            monkeypatch.setattr(RunTable, "make", make)
            do()
        return make(self, container, key, **how)

    monkeypatch.setattr(RunTable, "make", late)


def before_the_delete(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    remake = RunTable.remake

    def late(self: RunTable, *how: Any) -> None:
        monkeypatch.setattr(RunTable, "remake", remake)
        do()
        remake(self, *how)

    monkeypatch.setattr(RunTable, "remake", late)


@pytest.mark.parametrize("pause", [before_the_copy, before_the_delete])
def test_a_writer_that_slept_while_it_was_taken_over_removes_no_row(
    store, run, client, monkeypatch, after_take_over, pause
):
    run.write(store, 0, 1, 2)
    run.repeat(client, 1)

    def take_over(other: AnnotationStore) -> None:
        run.write(other, *FRAMES)
        run.finish(other)

    pause(monkeypatch, lambda: after_take_over(take_over))
    with pytest.raises(StoreUnavailableError):
        run.write(store, 3)
    assert run.frames(client) == FRAMES
    run.write(store, 3)
    assert run.finish(store)["summary"]["frames"] == len(FRAMES)
    assert run.frames(client) == FRAMES


def test_a_writer_that_was_taken_over_while_it_read_back_does_not_call_its_rows_stored(
    store, run, client, monkeypatch, after_take_over
):
    """What it read is not what is there once the other has written the table anew."""
    run.write(store, 0)
    now = leases_module.seconds_since_boot()
    frames_of = store_module.frames_of

    def late(table: Any) -> Any:
        monkeypatch.setattr(store_module, "frames_of", frames_of)
        frames = frames_of(table)
        after_take_over(lambda other: run.write(other, *FRAMES))
        for opened in store._open.values():
            opened.hold._leases._clock = lambda: now + leases_module.LEASE_SECONDS
        return frames

    monkeypatch.setattr(store_module, "frames_of", late)
    with pytest.raises(StoreUnavailableError):
        run.write(store, 1)
    assert run.frames(client) == FRAMES


def test_the_last_store_of_a_process_gives_the_lease_back(store, run, client):
    other = AnnotationStore(client)
    run.write(store, 0, 1)
    run.write(other, 2)
    other.close()
    assert len(leases_of(client)) == 1
    run.write(store, *FRAMES)
    run.write(other, *FRAMES)
    run.finish(other)
    assert len(leases_of(client)) == 1
    store.close()
    assert len(leases_of(client)) == 0
    assert run.frames(client) == FRAMES


def test_a_store_goes_on_after_another_of_its_process_wrote_the_table_anew(store, run, client):
    other = AnnotationStore(client)
    run.write(store, 0, 1)
    run.write(other, 2)
    run.repeat(client, 1)
    run.write(store, 3)
    run.write(other, *FRAMES)
    run.finish(other)
    assert run.frames(client) == FRAMES


def test_a_copy_that_was_left_behind_brings_no_row_into_a_run_that_was_deleted_and_made_anew(
    store, run, client, monkeypatch
):
    run.write(store, *FRAMES)
    run.repeat(client, 2)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunTable, "remake", killed)
        with pytest.raises(KeyboardInterrupt):
            run.finish(store)
    assert len(leases_of(client)) == 2, "a lease and a copy"
    find_place(client).delete_contents([run.uid], recursive=True, external_only=False)
    again = AnnotationStore(client)
    run.write(again, 4, 5)
    assert run.frames(client) == [4, 5]
    again.close()


def test_a_rewrite_that_was_killed_when_the_table_was_gone_is_finished(store, run, client, monkeypatch):
    run.write(store, *FRAMES)
    run.repeat(client, 2)
    fill = rewriting._fill

    def killed(table: Any, *how: Any) -> None:
        if table.item["id"] == "internal":
            raise KeyboardInterrupt
        fill(table, *how)

    with monkeypatch.context() as patch:
        patch.setattr(rewriting, "_fill", killed)
        with pytest.raises(KeyboardInterrupt):
            run.finish(store)
    assert run.frames(client) == []
    run.write(AnnotationStore(client), 0)
    assert run.frames(client) == FRAMES


class Hanging:
    """A connection on which the first append hangs: its client hears nothing, and it is carried out later."""

    def __init__(self, client: Any) -> None:
        self._http_client = client.context.http_client
        self._send = self._http_client.send
        self.held: list[httpx.Request] = []

    def __call__(self, request: httpx.Request, **how: Any) -> httpx.Response:
        if request.method == "PATCH" and "/table/partition/" in request.url.path and not self.held:
            self.held.append(request)
            raise httpx.ReadTimeout("no answer", request=request)
        return self._send(request, **how)

    def __enter__(self) -> Hanging:
        self._http_client.send = self
        return self

    def __exit__(self, *_: object) -> None:
        del self._http_client.send

    def carry_out(self) -> int:
        return self._send(self.held[0]).status_code


@pytest.mark.parametrize("who", ["the same store", "another store", "another process"])
def test_an_append_that_is_carried_out_after_the_stop_stores_nothing(
    store, run, client, who, after_take_over
):
    run.write(store, 0, 1)
    with Hanging(client) as hanging, pytest.raises(StoreUnavailableError):
        run.write(store, *FRAMES)

    def go_on(writer: AnnotationStore) -> None:
        run.write(writer, *FRAMES)
        run.finish(writer)

    if who == "another process":
        after_take_over(go_on)
    elif who == "another store":
        store.close()
        go_on(AnnotationStore(client))
    else:
        go_on(store)
    assert hanging.carry_out() >= 400
    assert run.frames(client) == FRAMES
    assert run.stored(client).metadata["stop"]["summary"]["frames"] == len(FRAMES)
    assert len(leases_of(client)) == 0


def test_a_run_is_not_written_anew_where_no_append_is_in_doubt(store, run, caplog):
    run.write(store, *FRAMES)
    run.finish(store)
    assert "is written anew" not in caplog.text
