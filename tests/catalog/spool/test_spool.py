from __future__ import annotations

import gc
import logging
import threading

import pytest

from dvfb_stream.catalog.spool import Pace, Spool, WhenFull
from dvfb_stream.catalog.store_errors import StoreFaultError, StoreUnavailableError
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.metrics import Metrics

from .conftest import PATIENCE, QUICK, documents, event, refused, unavailable, until


def put(spool, docs):
    for name, doc in docs:
        spool(name, doc)


def put_as_there_is_room(spool, docs):
    for document in docs:
        until(lambda: spool.stats().spooled_rows < 10)
        spool(*document)


@pytest.fixture
def spool(store, tmp_path):
    spool = Spool(store, tmp_path / "spool", pace=QUICK)
    yield spool
    spool.close(0.0)


def files(folder):
    return sorted(path.name for path in folder.glob("*.sqlite"))


def test_what_is_put_is_delivered_in_order_and_leaves_the_disk(store, spool, tmp_path):
    put(spool, documents("a", 200))
    assert spool.wait(PATIENCE)
    assert list(store.rows["a"]) == list(range(200))
    assert store.rows["a"][3] == event("a", 3)
    assert store.stops["a"]["num_events"] == {"annotations": 200}
    assert max(rows for _, _, rows in store.calls) <= QUICK.batch_size
    stats = spool.stats()
    assert (stats.stored_rows, stats.spooled_rows, stats.lost_rows, stats.stored_runs) == (200, 0, 0, 1)
    spool.close()
    assert not list((tmp_path / "spool").iterdir())


def test_a_row_waits_for_others_no_longer_than_its_age(store, tmp_path):
    with Spool(store, tmp_path, pace=Pace(max_age=0.1)) as spool:
        put(spool, documents("a", 1)[:-1])
        until(lambda: store.rows["a"])
        put(spool, [("event", event("a", 1))])
        until(lambda: len(store.rows["a"]) == 2)
        assert spool.stats().spooled_rows == 0


def test_rows_that_are_enough_for_a_call_do_not_wait(store, tmp_path):
    with Spool(store, tmp_path, pace=Pace(max_age=1e6, batch_size=8)) as spool:
        put(spool, documents("a", 20)[:-1])
        until(lambda: len(store.rows["a"]) == 16)
        assert spool.stats().spooled_rows == 4
        assert spool.wait(PATIENCE)  # who waits is not kept waiting
        assert len(store.rows["a"]) == 20


def test_the_waiting_for_others_leaves_half_a_second_for_the_store():
    assert Pace().max_age <= 0.5


def test_while_the_store_is_away_nothing_counts_as_stored(store, spool):
    store.fault = lambda kind, uid: unavailable()
    put(spool, documents("a", 10))
    assert not spool.wait(0.1)
    stats = spool.stats()
    assert (stats.stored_rows, stats.spooled_rows) == (0, 10)
    assert "nobody answers" in stats.trouble
    store.fault = lambda kind, uid: None
    assert spool.wait(PATIENCE)
    assert list(store.rows["a"]) == list(range(10))
    assert spool.stats().trouble == ""


def test_an_answer_that_was_lost_costs_a_repetition_and_no_second_row(store, spool):
    store.lost_answers = 3
    put(spool, documents("a", 10))
    assert spool.wait(PATIENCE)
    assert list(store.rows["a"]) == list(range(10))
    assert max(store.seen.values()) > 1


def test_a_call_that_hangs_holds_up_nobody_who_puts(store, spool):
    store.open.clear()
    put(spool, documents("a", 500))
    assert spool.stats().spooled_rows == 500
    store.open.set()
    assert spool.wait(PATIENCE)


def test_a_refused_run_is_quarantined_with_its_reason_and_the_others_go_on(store, spool, caplog):
    store.fault = lambda kind, uid: refused("a column is missing") if uid == "bad" else None
    put(spool, documents("bad", 5))
    put(spool, documents("good", 5))
    until(lambda: spool.stats().quarantined_runs == 1)
    put(spool, documents("late", 5))
    assert not spool.wait(PATIENCE)
    assert len(store.rows["good"]) == len(store.rows["late"]) == 5
    assert not store.rows["bad"]
    stats = spool.stats()
    assert (stats.stored_rows, stats.quarantined_rows, stats.spooled_rows) == (10, 5, 0)
    assert "a column is missing" in caplog.text
    assert "dvfb spool retry" in caplog.text


def test_rows_of_a_quarantined_run_that_come_later_are_kept_too(store, spool):
    store.fault = lambda kind, uid: refused()
    docs = documents("bad", 9)
    put(spool, docs[:5])
    until(lambda: spool.stats().quarantined_runs == 1)
    put(spool, docs[5:])
    assert spool.stats().quarantined_rows == 9
    assert len(store.calls) == 1


def test_a_quarantined_run_that_is_given_again_is_tried_again(store, spool):
    """Its stop is not, before the rows that it wants are there."""

    def fault(kind, uid):
        return (
            refused("rows are missing; give them again")
            if kind == "finish" and len(store.rows[uid]) < 7
            else None
        )

    put(spool, documents("bad", 7)[:-1])
    assert spool.wait(PATIENCE)
    store.rows.clear()  # somebody deletes the run
    store.fault = fault
    put(spool, documents("bad", 7)[-1:])
    until(lambda: spool.stats().quarantined_runs == 1)
    for document in documents("bad", 7):
        put(spool, [document])
        until(lambda: not any(run.is_waiting for run in spool._delivery.runs))
    assert spool.wait(PATIENCE)
    assert list(store.rows["bad"]) == list(range(7))
    assert spool.stats().quarantined_rows == 0


def test_one_run_that_always_fails_holds_up_no_other(store, spool):
    store.fault = lambda kind, uid: unavailable("status 500") if uid == "ill" else None
    put(spool, documents("ill", 3))
    for n in range(5):
        put(spool, documents(f"well-{n}", 3))
    until(lambda: len(store.stops) == 5)
    assert spool.stats().spooled_rows == 3


def test_after_an_outage_no_run_waits_for_the_pause_it_had_come_to(store, tmp_path):
    with Spool(store, tmp_path, pace=Pace(first_pause=0.05, longest_pause=1e6, max_age=0.0)) as spool:
        store.fault = lambda kind, uid: unavailable()
        for n in range(6):
            put(spool, documents(f"run-{n}", 1))
        until(lambda: len(store.calls) >= 7)
        store.fault = lambda kind, uid: None
        assert spool.wait(PATIENCE)


def test_a_fault_that_nobody_foresaw_is_tried_again_and_then_quarantined(store, tmp_path, caplog):
    store.fault = lambda kind, uid: ZeroDivisionError("ours") if uid == "odd" else None
    with Spool(store, tmp_path, pace=Pace(first_pause=0.0, longest_pause=0.0, most_faults=3)) as spool:
        put(spool, documents("odd", 2))
        until(lambda: spool.stats().quarantined_runs == 1)
        assert len(store.calls) == 3
        put(spool, documents("even", 2))
        until(lambda: "even" in store.stops)


@pytest.mark.parametrize(
    "fault", [StoreFaultError("status 500"), StoreUnavailableError("written by another")]
)
def test_a_run_over_which_alone_the_server_fails_is_quarantined_in_the_end(store, tmp_path, fault):
    """A run that somebody else writes is not: it may be so for hours."""
    store.fault = lambda kind, uid: fault if uid == "ill" else None
    pace = Pace(first_pause=0.0, longest_pause=0.0, max_age=0.0, most_faults_alone=3)
    with Spool(store, tmp_path, pace=pace) as spool:
        put(spool, documents("ill", 1))
        until(lambda: len(store.calls) >= 20)
        assert spool.stats().quarantined_runs == 0, "the server may be down"
        for n in range(10):
            put(spool, documents(f"well-{n}", 1))
            until(lambda uid=f"well-{n}": uid in store.stops)
            seen = len(store.calls)
            until(lambda seen=seen: len(store.calls) > seen or spool.stats().quarantined_runs)
        assert spool.stats().quarantined_runs == isinstance(fault, StoreFaultError)
        store.fault = lambda kind, uid: None


def test_where_nothing_may_be_written_everything_waits_for_another_key(store, spool, caplog):
    store.fault = lambda kind, uid: refused("status 403", everything=True)
    put(spool, documents("a", 5))
    put(spool, documents("b", 5))
    assert not spool.wait(0.2)
    assert spool.stats().quarantined_runs == 0
    assert "403" in spool.stats().trouble
    assert any(record.levelno == logging.ERROR and "403" in record.message for record in caplog.records)
    store.fault = lambda kind, uid: None
    assert spool.wait(PATIENCE)
    assert len(store.stops) == 2


def test_who_asked_is_told_once_a_run_is_stored_and_not_before(store, spool):
    store.open.clear()
    told = []
    docs = documents("a", 3)
    put(spool, docs[:-1])
    spool.tell_when_stored(
        "a", lambda uid: told.append((uid, uid in store.stops, threading.current_thread().name))
    )
    put(spool, docs[-1:])
    assert told == []
    store.open.set()
    assert spool.wait(PATIENCE)
    until(lambda: told)
    assert told == [("a", True, "dvfb-spool")]


def test_nobody_is_told_while_rows_wait_that_came_when_the_stop_was_being_stored(store, spool):
    docs = documents("a", 3)
    put(spool, docs[:-1])
    until(lambda: spool.stats().spooled_rows == 0)
    store.open.clear()
    told = []
    spool.tell_when_stored("a", lambda uid: told.append(sorted(store.rows[uid])))
    put(spool, docs[-1:])
    until(lambda: ("finish", "a", 0) in store.calls)
    put(spool, [*docs[:2], ("event", event("a", 3))])  # given again, with a row more
    store.open.set()
    until(lambda: 3 in store.rows["a"])
    put(spool, docs[-1:])
    until(lambda: told)
    assert told == [[0, 1, 2, 3]]


def test_who_is_told_may_ask_and_does_not_wait_for_itself(store, spool):
    answers = []
    docs = documents("a", 3)
    spool.tell_when_stored("a", lambda uid: answers.append(spool.wait(None)))
    put(spool, docs)
    until(lambda: answers)
    assert answers == [False]


@pytest.mark.parametrize("n_documents", [0, 1, 2, 6, 12, 13])
def test_what_was_put_and_not_stored_the_next_spool_delivers(store, tmp_path, n_documents):
    docs = documents("a", 10)
    store.fault = lambda kind, uid: unavailable()
    first = Spool(store, tmp_path, pace=QUICK)
    put(first, docs[:n_documents])
    first.close(0.0)
    store.fault = lambda kind, uid: None
    with Spool(store, tmp_path, pace=QUICK) as second:
        until(lambda: second.stats().inherited_rows == 0 and len(files(tmp_path)) == 1)
        assert list(store.rows["a"]) == list(range(max(0, min(10, n_documents - 2))))
        assert ("a" in store.stops) == (n_documents == 13)
        put(second, docs)  # given again, as Kafka does
        assert second.wait(PATIENCE)
        assert list(store.rows["a"]) == list(range(10))
        assert "a" in store.stops
    assert not files(tmp_path)


def test_two_spools_on_one_folder_have_a_file_each_and_leave_each_other_alone(store, tmp_path):
    with Spool(store, tmp_path, pace=QUICK) as one, Spool(store, tmp_path, pace=QUICK) as other:
        assert len(files(tmp_path)) == 2
        put(one, documents("a", 5))
        put(other, documents("b", 5))
        put(other, documents("a", 5))
        assert one.wait(PATIENCE)
        assert other.wait(PATIENCE)
        assert sorted(store.stops) == ["a", "b"]
        assert other.stats().inherited_rows == 0


def test_live_rows_are_not_late_behind_the_backlog_of_an_outage(store, tmp_path):
    store.fault = lambda kind, uid: unavailable()
    with Spool(store, tmp_path, pace=QUICK) as before:
        put(before, documents("old", 640))
        before.close(0.0)
    store.fault = lambda kind, uid: None
    store.open.clear()
    with Spool(store, tmp_path, pace=QUICK) as now:
        until(lambda: store.calls)
        put(now, documents("new", 1))
        done = len(store.calls)
        store.open.set()
        until(lambda: "new" in store.stops)
        assert [uid for _, uid, _ in store.calls[done - 1 : done + 4]].count("old") <= 3


def test_a_full_spool_loses_loudly_gives_no_stop_and_goes_on_when_there_is_room(store, tmp_path, caplog):
    store.fault = lambda kind, uid: unavailable()
    with Spool(store, tmp_path, pace=QUICK, max_bytes=1 << 18) as spool:
        docs = documents("a", 400, size=2000)
        put(spool, docs)
        lost = spool.stats().lost_rows
        assert 0 < lost < 400
        assert spool.stats().spooled_rows == 400 - lost
        assert "no room" in caplog.text
        assert "gets no stop" in caplog.text
        assert (tmp_path / files(tmp_path)[0]).stat().st_size <= 1 << 18
        store.fault = lambda kind, uid: None
        assert not spool.wait(PATIENCE)
        assert len(store.rows["a"]) == 400 - lost
        put(spool, documents("b", 50, size=2000))
        until(lambda: "b" in store.stops)
        assert "a" not in store.stops
        put_as_there_is_room(spool, docs)  # annotated again
        until(lambda: "a" in store.stops)
        assert sorted(store.rows["a"]) == list(range(400))
        assert not spool.wait(PATIENCE), "rows were lost earlier"


def test_a_run_of_which_nothing_fits_comes_whole_once_it_is_given_again(store, tmp_path):
    store.fault = lambda kind, uid: unavailable()
    with Spool(store, tmp_path, pace=QUICK, max_bytes=1 << 16) as spool:
        put(spool, documents("a", 60, size=2000))
        put(spool, documents("b", 60, size=2000))
        store.fault = lambda kind, uid: None
        until(lambda: not spool.stats().spooled_rows)
        assert not store.stops
        for uid in "ab":
            put_as_there_is_room(spool, documents(uid, 60, size=2000))
        until(lambda: len(store.stops) == 2)


def test_whoever_can_wait_loses_nothing_to_a_full_spool(store, tmp_path, caplog):
    store.open.clear()
    with Spool(store, tmp_path, pace=QUICK, max_bytes=1 << 18, when_full=WhenFull.WAIT) as spool:
        putting = threading.Thread(target=put, args=(spool, documents("a", 400, size=2000)))
        putting.start()
        until(lambda: "rows wait" in caplog.text)
        store.open.set()
        putting.join(PATIENCE)
        assert spool.wait(PATIENCE)
        assert list(store.rows["a"]) == list(range(400))
        assert spool.stats().lost_rows == 0


def test_a_call_that_waits_for_room_ends_with_the_spool(store, tmp_path):
    store.fault = lambda kind, uid: unavailable()
    spool = Spool(store, tmp_path, pace=QUICK, max_bytes=1 << 16, when_full=WhenFull.WAIT)
    failures = []

    def all_of_it():
        try:
            put(spool, documents("a", 400, size=2000))
        except DvfbError as error:
            failures.append(str(error))

    putting = threading.Thread(target=all_of_it)
    putting.start()
    until(lambda: spool.stats().spooled_rows > 5)
    spool.close(0.0)
    putting.join(PATIENCE)
    assert not putting.is_alive()
    assert "closed" in failures[0]


def test_runs_that_never_stop_do_not_pile_up(store, tmp_path):
    with Spool(store, tmp_path, pace=QUICK, max_open_runs=3) as spool:
        for n in range(6):
            put(spool, documents(f"run-{n}", 2)[:-1])
        assert spool.wait(PATIENCE)
        until(lambda: len(list(spool._delivery.runs)) == 3)
        with pytest.raises(DvfbError, match="not open"):
            spool("event", event("run-0", 2))
        assert len(store.rows["run-0"]) == 2


def test_metrics_say_what_stats_say(store, spool):
    metrics = Metrics()
    put(spool, documents("early", 4))
    assert spool.wait(PATIENCE)
    spool.report_to(metrics)
    spool.report_to(metrics)
    store.fault = lambda kind, uid: refused() if uid == "bad" else unavailable()
    put(spool, documents("bad", 3))
    until(lambda: spool.stats().quarantined_runs)
    put(spool, documents("late", 5))
    value = {name: metric["values"] for name, metric in metrics.snapshot().items()}
    assert [
        value[f"dvfb_{what}_rows"][0]["value"] for what in ("stored", "spooled", "quarantined", "lost")
    ] == [4, 5, 3, 0]


def test_a_forgotten_spool_lets_go_of_its_file_and_keeps_what_is_in_it(store, tmp_path):
    store.fault = lambda kind, uid: unavailable()
    spool = Spool(store, tmp_path, pace=QUICK)
    put(spool, documents("a", 5))
    del spool
    gc.collect()
    store.fault = lambda kind, uid: None
    with Spool(store, tmp_path, pace=QUICK):
        until(lambda: "a" in store.stops)


def test_without_a_folder_there_is_nothing_left_at_the_end(store):
    spool = Spool(store, pace=QUICK)
    folder = spool._file.path.parent
    put(spool, documents("a", 5))
    assert spool.close(PATIENCE)
    assert not folder.exists()
    assert len(store.rows["a"]) == 5


def test_a_document_of_no_run_is_refused(spool):
    with pytest.raises(DvfbError, match="not open"):
        spool("event", event("a", 1))
    with pytest.raises(DvfbError, match="resource"):
        spool("resource", {"uid": "x"})


def test_what_no_document_may_hold_is_refused_and_never_pickled(spool):
    put(spool, documents("a", 0)[:2])
    with pytest.raises(DvfbError, match="Spool"):
        spool("event", event("a", 1) | {"mine": spool})


def test_a_folder_that_cannot_be_written_to_says_what_to_do(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="DVFB_SPOOL"):
        Spool(store, tmp_path / "file" / "spool")


@pytest.mark.parametrize("bound", ["max_bytes", "max_open_runs"])
def test_bounds_are_positive(store, tmp_path, bound):
    with pytest.raises(SettingsError, match=bound):
        Spool(store, tmp_path, **{bound: 0})
    with pytest.raises(SettingsError, match="batch_size"):
        Pace(batch_size=0)


def test_a_run_that_alone_is_there_and_fails_is_told_from_a_store_that_is_ill(store, tmp_path):
    """Nothing else is stored in between: a trial run shows whom the fault is with."""
    ill, told, probes = [True], [], []

    def probe():
        probes.append(1)
        if ill[0]:
            raise StoreFaultError("500")

    store.probe = probe
    store.fault = lambda kind, uid: StoreFaultError("500") if uid == "a" else None
    pace = Pace(max_age=0.01, first_pause=0.005, longest_pause=0.02, most_faults_alone=3)
    with Spool(store, tmp_path, pace=pace) as spool:
        spool.tell_when_refused("a", lambda uid, reason: told.append((uid, reason)))
        put(spool, documents("a", 2))
        until(lambda: len(probes) > 10)
        assert not told
        assert spool.stats().quarantined_runs == 0
        ill[0] = False
        until(lambda: told)
        assert told[0][0] == "a"
        assert "500" in told[0][1]
        assert spool.stats().quarantined_rows == 2
