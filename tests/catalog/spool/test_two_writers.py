"""Who annotates the same frames as we do is named, once, unless they are about to end."""

from dataclasses import replace

import pytest

from dvfb_stream.catalog.spool import Spool, delivery
from dvfb_stream.catalog.store_errors import WrittenByAnotherError

from .conftest import PATIENCE, QUICK, documents, unavailable, until


@pytest.mark.parametrize(("patience", "lines"), [(0.05, 1), (600.0, 0)])
def test_another_writer_is_named_once_it_does_not_end(store, tmp_path, caplog, monkeypatch, patience, lines):
    monkeypatch.setattr(delivery, "_SECONDS_OF_TWO_WRITERS", patience)
    ended = []
    store.fault = lambda kind, uid: (
        None if ended else WrittenByAnotherError(uid, "live session on beamline-7")
    )
    with Spool(store, tmp_path, pace=QUICK) as spool, caplog.at_level("WARNING"):
        for name, doc in documents("a", 3):
            spool(name, doc)
        until(lambda: len(store.calls) > 20)
        ended.append(True)
        assert spool.wait(PATIENCE)
    told = [line for line in caplog.messages if line.startswith("live session on beamline-7 annotates")]
    assert len(told) == lines
    assert list(store.rows["a"]) == [0, 1, 2]


def test_other_runs_do_not_wait_for_one_that_another_process_writes(store, tmp_path):
    ended = []
    store.fault = lambda kind, uid: (
        WrittenByAnotherError(uid, "another daemon") if uid == "held" and not ended else None
    )
    # A pause of the whole spool would last for longer than the test is patient.
    slow = replace(QUICK, first_pause=10 * PATIENCE, longest_pause=10 * PATIENCE)
    with Spool(store, tmp_path, pace=slow) as spool:
        for name, doc in documents("held", 1):
            spool(name, doc)
        until(lambda: any(uid == "held" for _, uid, _ in store.calls))
        for name, doc in documents("free", 3):
            spool(name, doc)
        until(lambda: list(store.rows.get("free", ())) == [0, 1, 2])
        assert spool.stats().quarantined_rows == 0


def test_a_part_of_a_run_that_was_taken_over_is_let_go_once_it_is_stored(store, tmp_path):
    """Its stop is in the file of another process."""
    let_go = []
    store.let_go = let_go.append
    first = Spool(store, tmp_path, pace=replace(QUICK, max_age=10 * PATIENCE, batch_size=100))
    start, descriptor, *rows, _ = documents("a", 3)
    for name, doc in (start, descriptor, *rows):
        first(name, doc)
    first.close(0.0)
    with Spool(store, tmp_path, pace=QUICK):
        until(lambda: list(store.rows.get("a", ())) == [0, 1, 2])
        until(lambda: let_go == ["a"])


def test_a_stop_that_several_processes_wrote_down_is_stored_once(store, tmp_path):
    """Each that takes the end of a run which is not stored yet writes it down, restart for restart."""
    start, descriptor, *rows, stop = documents("a", 3)
    store.fault = lambda kind, uid: unavailable()
    for taken in ([*rows, stop], [stop], [stop], [stop]):
        ended = Spool(store, tmp_path, pace=QUICK)
        for name, doc in (start, descriptor, *taken):
            ended(name, doc)
        ended.close(0.0)
    assert len(list(tmp_path.glob("*.sqlite"))) == 4
    store.calls.clear()
    store.fault = lambda kind, uid: None
    with Spool(store, tmp_path, pace=QUICK) as spool:
        until(lambda: len(list(tmp_path.glob("*.sqlite"))) == 1)
        assert spool.stats().stored_runs == 1
    assert store.calls == [("write", "a", 3), ("finish", "a", 0), ("close", "", 0)]
