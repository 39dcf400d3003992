"""What counts as stored is there, each frame once and in order, as any client reads it."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pyarrow
import pytest
from tiled.client import from_uri

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.later import LaterStore
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.run_table import RunDocuments, RunTable
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import (
    RowsMissingError,
    StoreFaultError,
    StoreRefusedError,
    StoreUnavailableError,
)
from dvfb_stream.catalog.stored_runs import RunState, Stored

SCORES = (0.1, 0.9, None, 0.8, 0.7, 0.2)
FRAMES = list(range(len(SCORES)))
INTEGER = {"source": "x", "dtype": "integer", "shape": []}


class Run:
    """The documents of one analysis run."""

    def __init__(self, documents: list[tuple[str, dict[str, Any]]]) -> None:
        self.start, self.descriptor, *self.events, self.stop = (doc for _, doc in documents)
        self.uid = self.start["uid"]

    def write(self, store: AnnotationStore, *frames: int) -> None:
        store.write(self.start, self.descriptor, [self.events[frame] for frame in frames])

    def finish(self, store: AnnotationStore) -> dict[str, Any]:
        return store.finish(self.start, self.descriptor, self.stop)

    def stored(self, client: Any) -> Any:
        return find_place(client)[self.uid]

    def frames(self, client: Any) -> list[int]:
        """Frames as Bluesky's client reads them."""
        return self.stored(client)["annotations"]["frame"].read().tolist()

    def repeat(self, client: Any, *frames: int) -> None:
        """Append rows behind the store's back, as a request does whose answer was lost."""
        repeat_rows(self.stored(client)["annotations"].base["internal"], frames)


def repeat_rows(table: Any, frames: Collection[int]) -> None:
    rows = table.read()
    rows = rows[rows["frame"].isin(frames)]
    table.append_partition(0, pyarrow.Table.from_pandas(rows, preserve_index=False))


@pytest.fixture
def run(analysis_documents) -> Run:
    return Run(analysis_documents(*SCORES))


@pytest.fixture
def store(client) -> AnnotationStore:
    return AnnotationStore(client)


def test_rows_are_there_when_the_call_returns_in_the_order_of_frames(store, run, client):
    for frames in ((4, 5), (0,), (), (3, 1)):
        run.write(store, *frames)
        assert set(frames) <= set(run.frames(client))
    assert run.frames(client) == [0, 1, 3, 4, 5]
    assert store.state(run.uid) == RunState(Stored.OPEN, frozenset({0, 1, 3, 4, 5}))


def test_rows_given_again_in_part_and_whole_change_nothing(store, run, client):
    run.write(store, 0, 1, 2)
    run.write(store, 1, 2)
    run.write(store, *FRAMES)
    run.finish(store)
    for again in (store, AnnotationStore(client)):
        run.write(again, *FRAMES)
        run.write(again, 3)
        run.finish(again)
    assert run.frames(client) == FRAMES
    assert store.state(run.uid) == RunState(Stored.COMPLETE, frozenset(FRAMES))


def test_a_row_that_is_there_stays_as_it_is(store, run, client):
    run.write(store, *FRAMES)
    other = run.events[1] | {"data": run.events[1]["data"] | {"rings": 0.0}}
    store.write(run.start, run.descriptor, [other])
    AnnotationStore(client).write(run.start, run.descriptor, [other])
    assert run.stored(client)["annotations"]["rings"].read()[1] == 0.9


def test_rows_of_a_complete_run_that_are_missing_are_added_and_counted(store, run, client):
    run.write(store, 0, 1)
    store.finish(run.start, run.descriptor, run.stop | {"num_events": {"annotations": 2}})
    run.write(store, *FRAMES)
    assert run.finish(store)["summary"]["frames"] == len(FRAMES)
    assert run.frames(client) == FRAMES


def test_a_complete_run_to_which_rows_came_is_open_until_its_next_stop(store, run):
    run.write(store, 0, 1)
    store.finish(run.start, run.descriptor, run.stop | {"num_events": {"annotations": 2}})
    run.write(store, 2)
    assert store.state(run.uid) == RunState(Stored.OPEN, frozenset({0, 1, 2}))
    store.finish(run.start, run.descriptor, run.stop | {"num_events": {"annotations": 3}})
    assert store.state(run.uid).stored is Stored.COMPLETE


def test_a_run_without_rows_is_written_though_the_last_row_of_its_layout_was_deleted(
    store, run, client, analysis_documents
):
    """Tiled drops the table of its database that both have in common."""
    for other in (run, gone := Run(analysis_documents(*SCORES, raw_uid="gone"))):
        other.descriptor["data_keys"]["of_this_test_alone"] = {"dtype": "number"}
        for event in other.events:
            event["data"]["of_this_test_alone"] = 0.5
    gone.write(store, 0)
    made = store._made_place()
    RunTable(made.runs, RunDocuments.checked(run.start, run.descriptor))
    find_place(client).delete_contents([gone.uid], recursive=True, external_only=False)
    run.write(store, *FRAMES)
    run.finish(store)
    assert run.frames(client) == FRAMES
    assert len(made.spare) == 1, "the lease of the run that was deleted"


def test_the_summary_is_that_of_the_stored_rows(store, run, client):
    run.write(store, *FRAMES)
    wrong = {"frames": 99, "failed": 0, "rings": {"count": 77}, "rejected_documents": 3}
    said = store.finish(run.start, run.descriptor, run.stop | {"summary": wrong})
    assert said["summary"] == run.stop["summary"] | {"rejected_documents": 3}
    assert said["num_events"] == {"annotations": len(FRAMES)}
    assert run.stored(client).metadata["stop"]["summary"] == said["summary"]
    assert run.finish(store)["summary"] == said["summary"]


def test_a_run_with_rows_missing_gets_no_stop(store, run, client):
    run.write(store, 0, 1)
    with pytest.raises(StoreRefusedError, match="2 rows stored of 6; give its events again") as refused:
        run.finish(store)
    assert not refused.value.everything
    assert store.state(run.uid).stored is Stored.OPEN


def test_who_asks_for_a_stop_too_early_keeps_nobody_from_writing_the_missing_rows(store, run, client):
    run.write(store, 0, 1)
    leases = store._made_place().leases
    assert len(leases._all(run.uid)) == 1
    for _ in range(2):  # again and again, as a spool does
        with pytest.raises(RowsMissingError):
            run.finish(store)
        assert leases._all(run.uid) == []
    run.write(store, 2, 3, 4, 5)
    run.finish(store)
    assert run.frames(client) == FRAMES


def test_nothing_is_known_of_a_run_that_was_never_written(store, run):
    assert store.state(run.uid) == RunState(Stored.ABSENT)


@pytest.mark.parametrize("when", ["open", "complete"])
def test_rows_that_somebody_repeated_are_removed(store, run, client, when, caplog):
    run.write(store, 0, 1, 2)
    if when == "complete":
        run.write(store, *FRAMES)
        run.finish(store)
    run.repeat(client, 0, 2)
    assert len(run.frames(client)) > len(set(run.frames(client)))
    run.write(store, *FRAMES)
    assert run.frames(client) == FRAMES
    assert "is written anew" in caplog.text
    run.finish(store)
    assert run.stored(client).metadata["stop"]["summary"] == run.stop["summary"]


def test_rows_repeated_before_the_stop_are_removed_by_it(store, run, client):
    run.write(store, *FRAMES)
    run.repeat(client, *FRAMES)
    run.finish(store)
    assert run.frames(client) == FRAMES


@pytest.mark.parametrize("before", [0, 1, 2, 3, 4, 5])
def test_a_row_repeated_while_others_are_appended_is_removed(store, run, client, monkeypatch, before):
    """Before those that were appended, among them, behind them, far and near; one that is not there yet stays."""
    run.write(store, 0, 1, 5)
    append = RunTable.append

    def and_another(table: RunTable, events: Any) -> None:
        append(table, events)
        append(table, [run.events[before]])

    with monkeypatch.context() as patch:
        patch.setattr(RunTable, "append", and_another)
        run.write(store, 2, 3)
    assert run.frames(client) == sorted({0, 1, 2, 3, 5, before})
    run.write(store, *FRAMES)
    run.finish(store)
    assert run.frames(client) == FRAMES


class Cut:
    """A connection that fails at the n-th request of a kind, before it is sent or after it was answered."""

    def __init__(self, client: Any) -> None:
        self._http_client = client.context.http_client
        self._send = self._http_client.send
        self.left: int | None = None
        self.answered = False

    def __call__(self, request: httpx.Request, **how: Any) -> httpx.Response:
        cut = False
        if self.left is not None:
            self.left -= 1
            cut = self.left == 0
        if cut and not self.answered:
            raise httpx.ConnectError("cut off", request=request)
        response = self._send(request, **how)
        if cut:
            raise httpx.ReadError("cut off", request=request)
        return response

    def __enter__(self) -> Cut:
        self._http_client.send = self
        return self

    def __exit__(self, *_: object) -> None:
        del self._http_client.send


@pytest.mark.parametrize("answered", [False, True])
def test_whatever_request_or_answer_is_lost_the_same_call_again_stores_each_row_once(
    client, analysis_documents, answered
):
    lost = 0
    for number in range(1, 60, 7):
        run = Run(analysis_documents(*SCORES, raw_uid=f"{number} {answered}"))
        with Cut(client) as cut:
            cut.answered, cut.left = answered, number
            lost += store_in_three_calls(run, AnnotationStore(client))
            is_beyond_the_last = cut.left > 0
        assert run.frames(client) == FRAMES, number
        assert run.stored(client).metadata["stop"]["summary"] == run.stop["summary"]
        if is_beyond_the_last:
            break
    assert is_beyond_the_last
    assert lost > 0


def store_in_three_calls(run: Run, store: AnnotationStore) -> int:
    """Call again what failed, and return how often it did."""
    failed = 0
    for call, frames in ((run.write, FRAMES[:3]), (run.write, FRAMES), (run.finish, ())):
        try:
            call(store, *frames)
        except StoreUnavailableError:
            failed += 1
            call(store, *frames)
    return failed


def test_two_stores_of_one_process_take_turns(client, run):
    one, two = AnnotationStore(client), AnnotationStore(client)
    run.write(one, 0, 1)
    run.write(two, 1, 2, 3)
    run.write(one, 2, 3, 4)
    run.write(two, 5)
    run.finish(one)
    run.finish(two)
    assert run.frames(client) == FRAMES


def test_a_probe_leaves_nothing_behind(store, client):
    store.probe()
    assert len(find_place(client)) == 0
    assert len(find_place(client).parent[f"{client.item['id']}_annotations_leases"]) == 0


@pytest.mark.parametrize("later", [False, True])
def test_a_run_that_is_let_go_is_anothers_at_once(client, run, later):
    store: Any = LaterStore(client) if later else AnnotationStore(client)
    store.let_go("of a run that it never wrote to")
    run.write(store, 0)
    leases = AnnotationStore(client)._made_place().leases
    assert len(leases._all(run.uid)) == 1
    store.let_go(run.uid)
    assert leases._all(run.uid) == []
    run.write(store, 1)  # and nothing keeps who let it go from taking it up again
    assert run.frames(client) == [0, 1]
    store.close()


def test_trials_at_the_same_time_do_not_drop_each_other_s_table(store, client):
    """Tiled drops an SQL table with its last row."""
    with ThreadPoolExecutor(4) as pool:
        for probe in [pool.submit(store.probe) for _ in range(8)]:
            probe.result()


def test_a_key_that_tiled_does_not_know_is_refused_for_everything(client, run):
    stranger = from_uri(client.uri, api_key=client.context.api_key)
    store = AnnotationStore(stranger)
    stranger.context.api_key = "0123456789abcdef"
    for call in (store.probe, lambda: run.write(store, 0), lambda: run.finish(store)):
        with pytest.raises(StoreRefusedError, match="TILED_API_KEY") as refused:
            call()
        assert refused.value.everything
        assert "0123456789abcdef" not in str(refused.value)
    stranger.context.close()


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_unavailable(store, run, client, monkeypatch, status):
    answer_with(client, monkeypatch, status)
    with pytest.raises(StoreUnavailableError, match=str(status)):
        store.state(run.uid)


@pytest.mark.parametrize(
    ("status", "everything"), [(400, False), (401, True), (403, True), (413, False), (422, False)]
)
def test_what_will_not_pass_is_refused(store, run, client, monkeypatch, status, everything):
    store.probe()
    answer_with(client, monkeypatch, status)
    with pytest.raises(StoreRefusedError, match=str(status)) as refused:
        store.state(run.uid)
    assert refused.value.everything is everything


def answer_with(client: Any, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    import tiled.client.utils

    monkeypatch.setattr(tiled.client.utils, "TILED_RETRY_ATTEMPTS", 1)

    def send(request: httpx.Request, **_: Any) -> httpx.Response:
        return httpx.Response(status, request=request, json={"detail": "so it is"})

    monkeypatch.setattr(client.context.http_client, "send", send)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda run: run.descriptor["data_keys"]["rings"].update(dtype="array"), r"no table .*\['rings'\]"),
        (lambda run: run.descriptor["data_keys"].pop("frame"), "no integer data key 'frame'"),
        (lambda run: run.start.pop("time"), "none of an analysis run"),
        (lambda run: run.start.update(odd=object()), "the start .* is no JSON"),
        (lambda run: run.descriptor.update(odd={1: object()}), "the descriptor .* is no JSON"),
        (lambda run: run.start.update(uid="a/b"), "'a/b' is no key"),
        (
            lambda run: run.descriptor["data_keys"].update(_dataset_id=INTEGER),
            r"no table .*\['_dataset_id'\]",
        ),
        (lambda run: run.descriptor["data_keys"].update(time=INTEGER), r"no table .*\['time'\]"),
        (lambda run: run.events[0].pop("seq_num"), "does not fit its table"),
        (lambda run: run.events[0]["data"].update(rings="many"), "does not fit its table"),
        (lambda run: run.events[0]["data"].pop("frame"), "names no frame"),
        (lambda run: run.events[0]["data"].update(frame=2**63), "names no frame"),
        (lambda run: run.events[0]["data"].update(frame=float("inf")), "names no frame"),
        (lambda run: run.events[0]["data"].update(frame=1.5), "names no frame"),
    ],
)
def test_documents_that_cannot_be_stored_are_refused_for_their_run_alone(store, run, spoil, reason):
    spoil(run)
    with pytest.raises(StoreRefusedError, match=reason) as refused:
        run.write(store, *FRAMES)
    assert not refused.value.everything


@pytest.mark.parametrize("odd", ["a\0b", "a\ud800b"])
def test_texts_that_databases_refuse_are_stored_without_what_they_refuse(store, run, client, odd):
    run.start["analysis"]["note"] = {odd: odd}
    run.descriptor["note"] = odd
    run.events[2]["data"]["reason"] = odd
    run.write(store, *FRAMES)
    run.stop["reason"] = odd
    run.finish(store)
    stored = run.stored(client)
    assert stored["annotations"]["reason"].read()[2] == "a\ufffdb"
    assert stored.metadata["start"]["analysis"]["note"] == {"a\ufffdb": "a\ufffdb"}
    assert stored.metadata["stop"]["reason"] == "a\ufffdb"


def test_long_texts_are_cut_and_say_so(store, run, client):
    run.start["analysis"]["note"] = run.events[2]["data"]["reason"] = "x" * 1_000_000
    run.write(store, 2)
    stored = run.stored(client)
    for text in (
        str(stored["annotations"]["reason"].read()[0]),
        stored.metadata["start"]["analysis"]["note"],
    ):
        assert len(text) == 2_000
        assert text.endswith("x ... (cut)")


@pytest.mark.parametrize(
    "body",
    [b"<html>maintenance</html>", b"", b"{}", b"null", b"[1]"],
    ids=["page", "empty", "object", "null", "list"],
)
@pytest.mark.parametrize("at", [1, 4, 8])
def test_an_answer_that_is_not_tiled_s_is_no_fault_of_the_run(store, run, client, monkeypatch, body, at):
    """A proxy answers with a page of its own, and status 200, while its server is away."""
    send, number = client.context.http_client.send, 0

    def garbled(request: httpx.Request, **how: Any) -> httpx.Response:
        nonlocal number
        number += 1
        return httpx.Response(200, content=body, request=request) if number >= at else send(request, **how)

    with monkeypatch.context() as patch:
        patch.setattr(client.context.http_client, "send", garbled)
        with pytest.raises(StoreUnavailableError):
            run.write(store, 0)
    run.write(store, 0)
    assert run.frames(client) == [0]


def test_a_fault_of_this_package_is_not_laid_to_tiled():
    with pytest.raises(TypeError), told_apart("adding"):
        int([])


def test_a_server_s_fault_is_told_from_its_absence(store, run, client, monkeypatch):
    answer_with(client, monkeypatch, 500)
    with pytest.raises(StoreFaultError):
        store.state(run.uid)
