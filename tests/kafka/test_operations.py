"""What an operator sees of a daemon: lag, offsets, the state of the broker; and what is stuck is noticed."""

import threading

import pytest
from kafka.errors import KafkaConnectionError

from dvfb_stream.daemon.health import Part
from dvfb_stream.daemon.sinks import StorageError
from dvfb_stream.kafka import daemon as daemon_module
from dvfb_stream.kafka.cluster_watch import other_groups
from dvfb_stream.kafka.consumer import BrokerError, open_consumer
from dvfb_stream.kafka.partition_watch import Receiving
from tests.kafka.conftest import BrightnessAnnotator, RawRun, Recorder, eventually, frames_of, quick_group


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr("dvfb_stream.kafka.cluster_watch.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("dvfb_stream.kafka.daemon._MEASURE_SECONDS", 0.1)


def values(daemon, name):
    """A metric's values, by the values of its labels."""
    found = daemon.daemon.metrics.snapshot()[name]["values"]
    return {tuple(value["labels"].values()): value["value"] for value in found}


def send_singly(topic, count):
    """Publish messages, each a batch of its own: Tansu says where the last batch begins, not where it ends."""
    return [topic.send(b"no document")[0] for _ in range(count)][-1]


def test_lag_and_offsets_are_told_of_each_partition_and_forgotten_with_it(topic, start_daemon):
    gate = threading.Event()
    run = RawRun([1, 2, 3])
    topic.send(b"no document", *run.documents[:-1])
    # A message is a full queue: the first is taken, the others stay in the cluster.
    daemon = start_daemon(
        Recorder(), annotator=BrightnessAnnotator(gate), limits={"max_document_bytes": 1, "max_frames": 1}
    )
    partition = (topic.name, "0")
    eventually(lambda: values(daemon, "dvfb_read_offset").get(partition) == 6)
    last = send_singly(topic, 20)
    eventually(lambda: values(daemon, "dvfb_lag_messages").get(partition, 0) >= 10)
    gate.set()
    eventually(lambda: values(daemon, "dvfb_lag_messages")[partition] == 0)
    eventually(lambda: values(daemon, "dvfb_refused_messages")[()] == 21)
    # The run is open: its start is where a restart reads on.
    eventually(lambda: values(daemon, "dvfb_committed_offset").get(partition) == 1)
    assert values(daemon, "dvfb_open_runs")[()] == 1
    topic.send(run.stop)
    eventually(lambda: values(daemon, "dvfb_committed_offset")[partition] == last + 2)
    eventually(lambda: values(daemon, "dvfb_stored_runs")[()] == 1)
    assert values(daemon, "dvfb_rebalances")[("assigned",)] >= 1
    assert values(daemon, "dvfb_commits")[()] >= 2
    assert daemon.daemon.health.ready()[Part.LAG].ok
    daemon.stop()
    assert partition not in values(daemon, "dvfb_lag_messages")


def test_more_lag_than_the_bound_is_not_ready(topic, start_daemon):
    gate = threading.Event()
    topic.send(*RawRun([1, 2, 3]).documents[:-1])
    daemon = start_daemon(
        Recorder(),
        annotator=BrightnessAnnotator(gate),
        limits={"max_document_bytes": 1, "max_frames": 1},
        http={"max_lag": 5},
    )
    eventually(lambda: values(daemon, "dvfb_read_offset").get((topic.name, "0")) == 5)
    send_singly(topic, 20)
    lag = eventually(lambda: not (lag := daemon.daemon.health.ready()[Part.LAG]).ok and lag)
    assert "more than http.max_lag 5" in lag.reason
    gate.set()
    eventually(lambda: daemon.daemon.health.ready()[Part.LAG].ok)


class Stalled:
    """A real consumer that, like those of kafka-python 3.0.7, from some moment on brings nothing."""

    def __init__(self, consumer, is_stalled):
        self._consumer = consumer
        self._is_stalled = is_stalled

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    def poll(self, timeout_ms):
        found = self._consumer.poll(timeout_ms=timeout_ms)
        if not self._is_stalled():
            return found
        for partition, records in found.items():
            self._consumer.seek(partition, records[0].offset)
        return {}


@pytest.fixture
def stall(monkeypatch):
    """Makes the first consumers stall, as many as `.many` says once `.now` is set."""

    class Stall:
        many = 1
        now = threading.Event()
        opened = 0

    def opened(settings):
        Stall.opened += 1
        number = Stall.opened
        return Stalled(open_consumer(settings), lambda: Stall.now.is_set() and number <= Stall.many)

    monkeypatch.setattr(daemon_module, "open_consumer", opened)
    Stall.now = threading.Event()
    return Stall


def await_partitions(daemon) -> None:
    """Have a daemon wait long for its partitions, however soon other things count as stalled: machines are busy."""
    daemon.daemon._watch._longest_rebalance = 60.0


def test_a_consumer_that_brings_nothing_of_what_there_is_is_opened_again(topic, start_daemon, stall):
    sink, first, second = Recorder(), RawRun([1, 2]), RawRun([3, 4, 5])
    topic.send(*first.documents)
    daemon = start_daemon(sink, start=False, limits={"stall_timeout": 1.5})
    await_partitions(daemon)
    daemon.start()
    eventually(lambda: len(sink.of("stop")) == 1)
    stall.now.set()
    topic.send(*second.documents)
    eventually(lambda: len(sink.of("stop")) == 2, timeout=60)
    assert sink.frames()[-3:] == frames_of(second)
    assert values(daemon, "dvfb_consumer_reopenings")[()] == 1
    daemon.stop()


def test_a_connection_that_is_refused_while_it_runs_is_made_again(topic, start_daemon, monkeypatch):
    """As by a broker that is being started anew; it ended the daemon as one that refuses it for good does."""
    refuse, opened = threading.Event(), []

    class Refused(Stalled):
        def poll(self, timeout_ms):
            messages = self._consumer.poll(timeout_ms=timeout_ms)
            if refuse.is_set() and len(opened) == 1:  # it may have been set while this one waited
                raise KafkaConnectionError("Connection refused")
            return messages

    def open_one(settings):
        opened.append(open_consumer(settings))
        return Refused(opened[-1], refuse.is_set)

    monkeypatch.setattr(daemon_module, "open_consumer", open_one)
    sink, first, second = Recorder(), RawRun([1, 2]), RawRun([3, 4, 5])
    topic.send(*first.documents)
    daemon = start_daemon(sink)
    eventually(lambda: len(sink.of("stop")) == 1)
    refuse.set()
    topic.send(*second.documents)
    eventually(lambda: len(sink.of("stop")) == 2, timeout=60)
    assert sink.frames()[-3:] == frames_of(second)
    assert len(opened) == 2
    daemon.stop()


def test_where_that_does_not_help_the_daemon_ends_with_the_reason(topic, start_daemon, stall, monkeypatch):
    monkeypatch.setattr("dvfb_stream.kafka.daemon._MOST_REOPENINGS", 1)
    stall.many = 100
    stall.now.set()
    topic.send(*RawRun([1, 2]).documents)
    daemon = start_daemon(Recorder(), start=False, limits={"stall_timeout": 0.5})
    await_partitions(daemon)
    daemon.start()
    daemon.join()
    assert isinstance(daemon.error, BrokerError)
    assert "messages of " in str(daemon.error)
    assert "opened again 1 times, it received nothing either" in str(daemon.error)


class NeverJoins(Stalled):
    """A real consumer that does not come to be a member, as of a group that divides its partitions for ever."""

    def poll(self, timeout_ms):
        return {} if self._is_stalled() else self._consumer.poll(timeout_ms=timeout_ms)


@pytest.fixture
def first_never_join(monkeypatch):
    """Function that has the first consumers, so many, never join."""

    def let(many, then=lambda: None):
        opened = []

        def open_one(settings):
            opened.append(open_consumer(settings))
            number = len(opened)
            if number > many:
                then()
            return NeverJoins(opened[-1], lambda: number <= many)

        monkeypatch.setattr(daemon_module, "open_consumer", open_one)

    return let


def test_a_daemon_that_its_group_gives_no_partitions_leaves_and_joins_anew(
    topic, start_daemon, first_never_join, caplog
):
    """As where the cluster waits for a leader that has left; Tansu 0.6 does, where it is restarted amid a join."""
    sink, run = Recorder(), RawRun([1, 2, 3])
    topic.send(*run.documents)
    daemon = start_daemon(sink, start=False, limits={"stall_timeout": 0.2})
    first_never_join(2, then=lambda: await_partitions(daemon))
    daemon.start()
    lag = eventually(
        lambda: "no partitions" in (lag := daemon.daemon.health.ready()[Part.LAG]).reason and lag
    )
    assert not lag.ok
    eventually(lambda: len(sink.of("stop")) == 1, timeout=60)
    assert sink.frames() == frames_of(run)
    assert values(daemon, "dvfb_consumer_reopenings")[()] == 2
    assert "the group has divided its partitions for" in caplog.text
    assert daemon.daemon.health.ready()[Part.LAG].ok
    daemon.stop()


def test_where_joining_anew_does_not_help_the_daemon_ends(topic, start_daemon, first_never_join, monkeypatch):
    monkeypatch.setattr("dvfb_stream.kafka.daemon._MOST_REOPENINGS", 1)
    first_never_join(100)
    daemon = start_daemon(Recorder(), limits={"stall_timeout": 0.2})
    daemon.join()
    assert isinstance(daemon.error, BrokerError)
    assert "none is this daemon's" in str(daemon.error)


def test_a_rebalance_may_take_as_long_as_a_member_that_hangs_is_waited_for(topic, start_daemon):
    daemon = start_daemon(
        start=False, limits={"stall_timeout": 120.0}, session_timeout=45.0, heartbeat_interval=3.0
    )
    assert daemon.daemon._watch._longest_rebalance == 165.0
    daemon.start()


def test_a_daemon_more_than_there_are_partitions_waits_in_its_group(topic, start_daemon):
    busy = start_daemon(Recorder())
    eventually(lambda: values(busy, "dvfb_rebalances").get(("assigned",)))
    idle = start_daemon(Recorder())
    eventually(lambda: idle.daemon.health.ready()[Part.LAG].ok)
    looks = []
    look = idle.daemon._watch._look_at_group
    idle.daemon._watch._longest_rebalance = 1e-9
    idle.daemon._watch._look_at_group = lambda *args, **how: (look(*args, **how), looks.append(1))
    eventually(lambda: len(looks) >= 5)
    assert not values(idle, "dvfb_consumer_reopenings").get(())
    assert not values(idle, "dvfb_rebalances").get(("assigned",))
    idle.stop()
    busy.stop()


def test_a_pipeline_that_does_nothing_of_its_work_ends_the_daemon_with_the_reason(topic, start_daemon):
    never = threading.Event()

    class Endless(BrightnessAnnotator):
        def annotate(self, frames):
            never.wait(60)
            return super().annotate(frames)

    topic.send(*RawRun([1, 2]).documents)
    daemon = start_daemon(Recorder(), annotator=Endless(), limits={"stall_timeout": 1.0})
    daemon.join()
    never.set()
    assert isinstance(daemon.error, StorageError)
    assert "limits.stall_timeout" in str(daemon.error)
    assert "2 to annotate" in str(daemon.error)


def test_told_to_stop_a_stuck_daemon_does_not_wait_for_what_is_stuck(topic, start_daemon, monkeypatch):
    monkeypatch.setattr("dvfb_stream.daemon.progress.QUIET_SECONDS", 0.5)
    never = threading.Event()
    topic.send(*RawRun([1, 2]).documents)
    daemon = start_daemon(
        Recorder(), annotator=BrightnessAnnotator(never), limits={"drain_timeout": 10_000.0}
    )
    eventually(lambda: daemon.stats().frames == 2)
    daemon.stop()
    never.set()


def test_another_group_on_the_topic_is_found(topic, start_daemon):
    topic.send(*RawRun([1]).documents)
    daemon = start_daemon(Recorder(), group=f"dvfb-other-{topic.name}")
    eventually(lambda: values(daemon, "dvfb_commits")[()] >= 1)
    from dvfb_stream.daemon.settings import KafkaSettings

    ours = KafkaSettings.model_validate(quick_group(topic))
    assert list(other_groups(ours)) == [f"dvfb-other-{topic.name}"]
    theirs = ours.model_copy(update={"group": f"dvfb-other-{topic.name}"})
    assert other_groups(theirs) == {}


class TestReceiving:
    """Of what was read, what there is and what is paused, at which time."""

    def test_nothing_to_read_is_no_stall(self):
        receiving = Receiving(10.0)
        for now in (0.0, 20.0, 40.0):
            assert receiving.stalled(now, read={"p": 5}, ends={"p": 5}, paused=()) == []

    def test_messages_that_do_not_come_are_one(self):
        receiving = Receiving(10.0)
        found = [
            receiving.stalled(now, read={"p": 5, "q": q}, ends={"p": 6, "q": 9}, paused=())
            for now, q in ((0.0, 1), (9.0, 2), (10.0, 3))
        ]
        assert found == [[], [], ["p"]]

    def test_a_partition_that_is_paused_is_none(self):
        receiving = Receiving(10.0)
        read, ends = {"p": 5}, {"p": 6}
        assert receiving.stalled(0.0, read=read, ends=ends, paused=()) == []
        assert receiving.stalled(15.0, read=read, ends=ends, paused=["p"]) == []
        assert receiving.stalled(20.0, read=read, ends=ends, paused=()) == []
        assert receiving.stalled(25.0, read=read, ends=ends, paused=()) == ["p"]

    def test_one_that_was_never_read_is_one_too(self):
        receiving = Receiving(10.0)
        assert receiving.stalled(0.0, read={"p": None}, ends={"p": 6}, paused=()) == []
        assert receiving.stalled(10.0, read={"p": None}, ends={"p": 6}, paused=()) == ["p"]
        assert receiving.stalled(20.0, read={}, ends={"p": 6}, paused=()) == []
