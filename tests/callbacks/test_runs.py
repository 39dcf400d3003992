"""The tracker alone; what it means for rows is in test_document_order.py."""

from __future__ import annotations

from dvfb_stream.callbacks.runs import RunTracker


def begin(tracker, uid):
    return tracker.take("start", {"uid": uid}).run


def test_a_run_that_was_abandoned_and_began_again_is_not_finished_by_its_old_rows():
    tracker = RunTracker({}, max_open_runs=1)
    old = begin(tracker, "a")
    assert tracker.take("start", {"uid": "b"}).abandoned == [old]
    new = begin(tracker, "a")
    assert new is not old
    assert tracker.finish(old.progress) is None
    assert tracker.open_runs == ["a"]
    assert tracker.finish(new.progress) is new
    assert (tracker.open_runs, tracker.abandoned) == ([], 2)


def test_it_says_whose_a_document_is_as_long_as_the_run_is_open():
    tracker = RunTracker({})
    descriptor = {"uid": "d", "run_start": "a", "data_keys": {}}
    event = {"uid": "e", "descriptor": "d", "data": {}}
    taken = [
        tracker.take(name, doc).run_uid
        for name, doc in [
            ("descriptor", descriptor),
            ("start", {"uid": "a"}),
            ("event", event),
            ("event", {"uid": "f", "descriptor": "unknown", "data": {}}),
            ("start", {"uid": "a"}),
            ("stop", {"run_start": "a"}),
            ("event", event | {"uid": "g"}),
            ("stop", {"run_start": "never begun"}),
        ]
    ]
    assert taken == ["a", "a", "a", "", "", "a", "", "never begun"]


def test_of_too_many_runs_the_one_that_was_silent_for_longest_is_left():
    tracker = RunTracker({}, max_open_runs=2)
    begin(tracker, "first")
    second = begin(tracker, "second")
    tracker.take("descriptor", {"uid": "d", "run_start": "first", "data_keys": {}})
    assert tracker.take("start", {"uid": "third"}).abandoned == [second]
    assert tracker.open_runs == ["first", "third"]


def test_memory_bounds_the_open_runs_and_is_free_again():
    tracker = RunTracker({}, max_bytes=1 << 20)
    for number in range(200):
        begin(tracker, str(number))
        tracker.take("descriptor", {"uid": f"d{number}", "run_start": str(number), "data_keys": {}})
    assert 30 < len(tracker.open_runs) < 65
    assert tracker.abandoned == 200 - len(tracker.open_runs)
    for uid in tracker.open_runs:
        tracker.finish(tracker._runs[uid].progress)
    assert tracker._n_bytes == 0
