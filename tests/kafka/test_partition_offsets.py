"""A partition is never committed past the start of a run that is not stored."""

import threading

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dvfb_stream.kafka.partition_offsets import PartitionOffsets, Verdict


def start(uid):
    return "start", {"uid": uid}


def descriptor(uid):
    return "descriptor", {"uid": f"descriptor of {uid}", "run_start": uid}


def event(uid):
    return "event", {"uid": "e", "descriptor": f"descriptor of {uid}"}


def stop(uid):
    return "stop", {"uid": "s", "run_start": uid}


@pytest.fixture
def runs():
    return PartitionOffsets()


def read_all(runs, *documents):
    return [runs.read(offset, *document) for offset, document in enumerate(documents, start=100)]


def test_before_the_first_record_there_is_nothing_to_commit(runs):
    assert runs.committable() is None


def test_an_open_run_holds_the_commit_at_its_start_until_it_is_stored(runs):
    assert set(read_all(runs, start("a"), descriptor("a"), event("a"), stop("a"))) == {Verdict.FEED}
    assert runs.committable() == 100
    runs.stored("a")
    assert runs.committable() == 104


def test_the_oldest_of_several_open_runs_holds_the_commit(runs):
    read_all(runs, start("a"), start("b"), stop("a"), start("c"))
    runs.stored("b")
    assert runs.committable() == 100
    runs.stored("a")
    assert runs.committable() == 103


def test_a_repeated_start_keeps_the_first_one_s_offset(runs):
    assert read_all(runs, start("a"), start("a"))[1] is Verdict.REPEATED_START
    assert runs.committable() == 100


def test_a_run_that_was_stored_may_come_again(runs):
    read_all(runs, start("a"), stop("a"))
    runs.stored("a")
    assert runs.read(102, *start("a")) is Verdict.FEED
    assert runs.committable() == 102


def test_documents_of_runs_whose_start_was_not_read_hold_back_nothing(runs):
    verdicts = read_all(runs, descriptor("a"), event("a"), stop("a"))
    assert set(verdicts) == {Verdict.UNKNOWN_RUN}
    assert runs.committable() == 103


def test_late_documents_of_a_stored_run_are_unknown(runs):
    read_all(runs, start("a"), descriptor("a"), stop("a"))
    runs.stored("a")
    assert runs.read(103, *event("a")) is Verdict.UNKNOWN_RUN


@pytest.mark.parametrize(
    "document",
    [("start", {}), ("start", {"uid": 3}), ("start", {"uid": ""}), ("event", {}), ("event", {"descriptor": [1]}),
     ("stop", {"run_start": None}), ("datum", {}), ("bulk_events", {"x": []})],
)  # fmt: skip
def test_documents_that_name_no_run_are_skipped(runs, document):
    assert runs.read(5, *document) is Verdict.NO_RUN
    assert runs.committable() == 6


def test_a_message_that_is_no_document_is_passed_over(runs):
    runs.skip(7)
    assert runs.committable() == 8


def test_references_lead_through_resources_and_stream_data(runs):
    verdicts = read_all(
        runs,
        start("a"),
        descriptor("a"),
        ("resource", {"uid": "r", "run_start": "a"}),
        ("datum", {"datum_id": "r/0", "resource": "r"}),
        ("stream_resource", {"uid": "sr", "run_start": "a"}),
        ("stream_datum", {"uid": "sr/0", "stream_resource": "sr", "descriptor": "descriptor of a"}),
        ("event_page", {"descriptor": "descriptor of a"}),
    )
    assert set(verdicts) == {Verdict.FEED}


def test_after_the_partition_is_taken_away_nothing_counts(runs):
    read_all(runs, start("a"), stop("a"), start("b"))
    assert runs.end() == 100
    runs.stored("a")
    runs.stored("b")
    runs.skip(200)
    assert runs.read(201, *start("c")) is Verdict.NOT_OURS
    assert runs.committable() == 100


def test_a_silent_run_is_given_up_and_lets_the_commit_go():
    now = [0.0]
    runs = PartitionOffsets(clock=lambda: now[0])
    runs.read(1, *start("silent"))
    runs.read(2, *start("alive"))
    runs.read(3, *descriptor("alive"))
    now[0] = 90.0
    runs.read(4, *event("alive"))
    now[0] = 101.0
    assert runs.give_up(100.0) == ["silent"]
    assert runs.committable() == 2
    assert runs.read(5, *stop("silent")) is Verdict.UNKNOWN_RUN


def test_whoever_ends_it_can_wait_for_a_write_under_way(runs):
    writing, go_on, written = threading.Event(), threading.Event(), []

    def write():
        writing.set()
        go_on.wait(10)
        written.append("first")

    thread = threading.Thread(target=lambda: runs.write(write))
    thread.start()
    assert writing.wait(10)
    runs.end()
    assert not runs.settle(0.01)
    go_on.set()
    assert runs.settle(10)
    thread.join(10)
    runs.write(lambda: written.append("second"))
    assert written == ["first"]


class Partition(RuleBasedStateMachine):
    """The rule, in its plainest form: re-reading from the committed offset meets every start not stored."""

    def __init__(self):
        super().__init__()
        self.runs = PartitionOffsets()
        self.log = []
        self.open = {}

    uids = st.sampled_from("abcd")

    @rule(uid=uids, kind=st.sampled_from([start, descriptor, event, stop]))
    def read(self, uid, kind):
        if kind is start:
            self.open.setdefault(uid, len(self.log))
        self.runs.read(len(self.log), *kind(uid))
        self.log.append(uid)

    @rule()
    def poison(self):
        self.runs.skip(len(self.log))
        self.log.append(None)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def store(self, data):
        uid = data.draw(st.sampled_from(sorted(self.open)))
        self.runs.stored(uid)
        del self.open[uid]

    @invariant()
    def no_open_start_is_passed(self):
        expected = min(self.open.values(), default=len(self.log)) if self.log else None
        assert self.runs.committable() == expected
        assert len(self.runs) == len(self.open)


TestPartition = Partition.TestCase
TestPartition.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
