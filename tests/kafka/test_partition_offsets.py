"""A partition is never committed past the first document of a run that is not stored."""

import threading

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dvfb_stream.callbacks.runs import RunTracker
from dvfb_stream.kafka.partition_offsets import PartitionOffsets


def start(uid):
    return "start", {"uid": uid}


def descriptor(uid):
    return "descriptor", {"uid": f"descriptor of {uid}", "run_start": uid, "data_keys": {}}


def event(uid):
    return "event", {"uid": "e", "descriptor": f"descriptor of {uid}", "data": {}}


def stop(uid):
    return "stop", {"uid": "s", "run_start": uid}


class Partition:
    """Offsets as the pipeline feeds them: the tracker says which run a document belongs to."""

    def __init__(self, **settings):
        self.offsets = PartitionOffsets(**settings)
        self.tracker = RunTracker({})

    def take(self, offset, name, doc):
        self.offsets.taken(offset, name, self.tracker.take(name, doc).run_uid)

    def take_all(self, *documents):
        for offset, document in enumerate(documents, start=100):
            self.take(offset, *document)

    def store(self, uid):
        """All rows are written: the pipeline forgets the run, and says that it is stored."""
        run = self.tracker._runs.get(uid)
        if run is not None:
            self.tracker.finish(run.progress)
        self.offsets.stored(uid)

    @property
    def committable(self):
        return self.offsets.committable()


@pytest.fixture
def partition():
    return Partition()


def test_before_the_first_record_there_is_nothing_to_commit(partition):
    assert partition.committable is None


def test_an_open_run_holds_the_commit_at_its_start_until_it_is_stored(partition):
    partition.take_all(start("a"), descriptor("a"), event("a"), stop("a"))
    assert partition.committable == 100
    partition.store("a")
    assert partition.committable == 104


def test_the_oldest_of_several_open_runs_holds_the_commit(partition):
    partition.take_all(start("a"), start("b"), stop("a"), start("c"))
    partition.store("b")
    assert partition.committable == 100
    partition.store("a")
    assert partition.committable == 103


def test_a_repeated_start_keeps_the_first_one_s_offset(partition):
    partition.take_all(start("a"), start("a"))
    assert partition.tracker.repeated == 1
    assert partition.committable == 100


def test_a_run_that_was_stored_may_come_again(partition):
    partition.take_all(start("a"), stop("a"))
    partition.store("a")
    partition.take(102, *start("a"))
    assert partition.committable == 102


def test_documents_that_come_again_between_the_stop_and_the_last_row_hold_back_nothing(partition):
    documents = start("a"), descriptor("a"), stop("a")
    partition.take_all(*documents, *documents)
    partition.store("a")
    assert partition.committable == 106
    assert len(partition.offsets) == 0


def test_a_descriptor_before_its_start_holds_the_commit_at_itself(partition):
    partition.take_all(stop("other"), descriptor("a"), start("a"), event("a"), stop("a"))
    assert partition.committable == 101
    assert partition.tracker.rejected == 1  # the stop
    partition.store("a")
    assert partition.committable == 105


def test_documents_of_runs_whose_start_was_not_read_hold_back_nothing_once_they_stopped(partition):
    partition.take_all(descriptor("a"), event("a"), stop("a"), event("a"))
    assert partition.tracker.rejected == 4
    assert partition.committable == 104
    assert len(partition.offsets) == 0


def test_late_documents_of_a_stored_run_belong_to_none(partition):
    partition.take_all(start("a"), descriptor("a"), stop("a"))
    partition.store("a")
    partition.take(103, *event("a"))
    partition.take(104, *descriptor("a"))
    assert partition.committable == 105


@pytest.mark.parametrize(
    "document",
    [("start", {}), ("start", {"uid": 3}), ("start", {"uid": ""}), ("event", {}), ("event", {"descriptor": [1]}),
     ("stop", {"run_start": None}), ("datum", {}), ("bulk_events", {"x": []})],
)  # fmt: skip
def test_documents_that_name_no_run_are_skipped(partition, document):
    partition.take(5, *document)
    assert partition.committable == 6
    assert partition.tracker.rejected == 1


def test_a_message_that_is_no_document_is_passed_over(partition):
    partition.offsets.taken(7, "", "")
    assert partition.committable == 8


def test_after_the_partition_is_taken_away_nothing_counts(partition):
    partition.take_all(start("a"), stop("a"), start("b"))
    assert partition.offsets.end() == 100
    partition.store("a")
    partition.store("b")
    partition.offsets.taken(200, "", "")
    partition.take(201, *start("c"))
    assert partition.committable == 100


def test_a_silent_run_is_abandoned_and_lets_the_commit_go():
    now = [0.0]
    partition = Partition(clock=lambda: now[0])
    partition.take(1, *start("silent"))
    partition.take(2, *descriptor("joined in the middle"))
    partition.take(3, *start("alive"))
    partition.take(4, *descriptor("alive"))
    now[0] = 90.0
    partition.take(5, *event("alive"))
    now[0] = 101.0
    assert partition.offsets.abandon_silent(100.0) == ["silent", "joined in the middle"]
    assert partition.committable == 3


class Clocked:
    """A partition whose records say when they were published, and by whom; a day is the longest silence."""

    DAY = 86_400.0

    def __init__(self, read_at=0.0):
        self.monotonic, self.now = 0.0, read_at
        self.partition = Partition(clock=lambda: self.monotonic, now=lambda: self.now)
        self.offset = 100

    def read(self, document, at, publisher=b"key"):
        name, doc = document
        run = self.partition.tracker.take(name, doc).run_uid
        self.partition.offsets.taken(self.offset, name, run, published=at, publisher=publisher)
        self.offset += 1

    def later(self, seconds):
        self.monotonic += seconds
        self.now += seconds

    def given_up(self, **settings):
        return self.partition.offsets.abandon_silent(self.DAY, **settings)


def test_a_run_that_is_read_again_was_silent_before_as_well():
    clocked = Clocked(read_at=3 * Clocked.DAY)
    clocked.read(start("old"), at=0.0)
    clocked.read(start("young"), at=2.5 * Clocked.DAY)
    assert clocked.given_up() == []  # the rest may just be read
    clocked.later(601)
    assert clocked.given_up() == ["old"]
    assert clocked.partition.committable == 101


def test_a_run_whose_rest_is_not_read_yet_is_not_given_up():
    clocked = Clocked(read_at=10 * Clocked.DAY)
    clocked.read(start("long"), at=0.0)
    clocked.read(event("long"), at=0.5 * Clocked.DAY)
    clocked.later(1000)
    assert clocked.given_up(caught_up=False) == []
    clocked.read(start("next"), at=1.6 * Clocked.DAY)
    clocked.later(1000)
    assert clocked.given_up(caught_up=False) == ["long"]


def test_a_publisher_with_a_wrong_clock_keeps_its_run_as_long_as_it_goes_on():
    clocked = Clocked(read_at=30 * Clocked.DAY)
    clocked.read(start("1970"), at=5.0)
    clocked.read(descriptor("1970"), at=5.0)
    for _ in range(10):
        clocked.later(500)
        clocked.read(event("1970"), at=6.0)
        assert clocked.given_up() == []


def test_a_run_that_has_stopped_waits_for_its_store_from_when_it_was_read():
    clocked = Clocked(read_at=10 * Clocked.DAY)
    clocked.read(start("a"), at=0.0)
    clocked.read(stop("a"), at=1.0)
    clocked.later(0.9 * Clocked.DAY)
    assert clocked.given_up() == []
    clocked.later(0.2 * Clocked.DAY)
    assert clocked.given_up() == ["a"]


def test_a_run_whose_stop_was_lost_is_given_up_an_hour_after_its_publisher_went_on():
    clocked = Clocked()
    for uid, publisher in (("lost", b"key"), ("other's", b"another"), ("next", b"key")):
        clocked.read(start(uid), at=clocked.now, publisher=publisher)
        clocked.read(descriptor(uid), at=clocked.now, publisher=publisher)
    clocked.read(start("around"), at=clocked.now)
    clocked.later(3700)
    assert clocked.given_up() == []
    clocked.read(event("around"), at=clocked.now)
    clocked.read(event("next"), at=clocked.now)
    clocked.read(stop("next"), at=clocked.now)
    # One that began before its publisher's next run, and said something during that, is an outer run.
    assert clocked.given_up() == ["lost"]
    clocked.read(event("lost"), at=clocked.now)
    assert clocked.given_up() == []
    assert clocked.partition.committable == 102


@pytest.mark.parametrize("goes_on", [(event, stop), (stop,)])
def test_an_abandoned_run_that_goes_on_holds_the_commit_until_it_is_stored(goes_on):
    now = [0.0]
    partition = Partition(clock=lambda: now[0])
    partition.take_all(start("a"), descriptor("a"))
    now[0] = 101.0
    assert partition.offsets.abandon_silent(100.0) == ["a"]
    assert partition.committable == 102
    for offset, kind in enumerate(goes_on, start=102):
        partition.take(offset, *kind("a"))
    assert partition.committable == 102
    assert partition.offsets.abandon_silent(100.0) == []
    partition.store("a")
    assert partition.committable == 102 + len(goes_on)
    partition.take(200, *stop("a"))
    assert partition.committable == 201


def test_whoever_ends_it_can_wait_for_a_write_under_way(partition):
    writing, go_on, written = threading.Event(), threading.Event(), []
    offsets = partition.offsets

    def write():
        writing.set()
        go_on.wait(10)
        written.append("first")

    thread = threading.Thread(target=lambda: offsets.write(write))
    thread.start()
    assert writing.wait(10)
    offsets.end()
    assert not offsets.settle(0.01)
    go_on.set()
    assert offsets.settle(10)
    thread.join(10)
    offsets.write(lambda: written.append("second"))
    assert written == ["first"]


class Commits(RuleBasedStateMachine):
    """The rule, in its plainest form: whoever reads on from the committed offset meets each run not stored whole."""

    def __init__(self):
        super().__init__()
        self.partition = Partition()
        self.log = []
        self.open = {}

    uids = st.sampled_from("abcd")

    @rule(uid=uids, kind=st.sampled_from([start, descriptor, event, stop]))
    def take(self, uid, kind):
        known, _ = self.open.get(uid, (None, False))
        waits = kind is descriptor and known is None and not self.is_over(uid)
        if known is None and (kind is start or waits):
            self.open[uid] = len(self.log), False
        elif kind is stop and known is not None:
            if uid in self.partition.tracker._runs:
                self.open[uid] = known, True
            else:
                del self.open[uid]  # its start was never read
        self.partition.take(len(self.log), *kind(uid))
        self.log.append(uid)

    def is_over(self, uid):
        return uid in self.partition.tracker._ended

    @rule()
    def poison(self):
        self.partition.offsets.taken(len(self.log), "", "")
        self.log.append(None)

    @precondition(lambda self: any(stopped for _, stopped in self.open.values()))
    @rule(data=st.data())
    def store(self, data):
        uid = data.draw(st.sampled_from(sorted(uid for uid, (_, stopped) in self.open.items() if stopped)))
        self.partition.store(uid)
        del self.open[uid]

    @invariant()
    def nothing_of_an_open_run_is_passed(self):
        first = min((offset for offset, _ in self.open.values()), default=len(self.log))
        assert self.partition.committable == (first if self.log else None)
        assert len(self.partition.offsets) == len(self.open)


TestCommits = Commits.TestCase
TestCommits.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
