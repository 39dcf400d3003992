"""A replay is a run of its own that is as consistent as the old one, at the pace that is asked for."""

import uuid

import pytest
from event_model import DocumentNames, compose_run, schema_validators

from dvfb_stream.replay.document import Script, TimedDocument
from dvfb_stream.replay.new_run import NewRun
from dvfb_stream.replay.pace import ReplayPace
from dvfb_stream.replay.replaying import replay


def documents():
    """Of a run with an inline data key and one in old-style resources, as event-model composes them."""
    run = compose_run(metadata={"scan_id": 3, "sample_name": "x"}, time=100.0)
    yield "start", run.start_doc
    stream = run.compose_descriptor(
        name="primary",
        data_keys={
            "motor": {"source": "m", "dtype": "number", "shape": []},
            "image": {"source": "i", "dtype": "array", "shape": [4, 6], "external": "FILESTORE:"},
        },
    )
    yield "descriptor", stream.descriptor_doc
    resource = run.compose_resource(
        spec="S", root="/", resource_path="a.h5", resource_kwargs={}, path_semantics="posix"
    )
    yield "resource", resource.resource_doc
    for number in range(2):
        datum = resource.compose_datum(datum_kwargs={"point": number})
        yield "datum", datum
        event = stream.compose_event(
            data={"motor": 1.5, "image": datum["datum_id"]},
            timestamps={"motor": 101.0, "image": 101.0},
            filled={"image": False},
        )
        event["time"] = 101.0 + number
        yield "event", event
    stop = run.compose_stop()
    stop["time"] = 104.0
    yield "stop", stop


def test_uids_are_new_and_point_at_one_another_as_before():
    old = list(documents())
    seed = uuid.uuid4()
    renewed = NewRun(seed, now=5000.0)
    new = [(name, renewed.renew(name, doc)) for name, doc in old]
    for name, doc in new:
        schema_validators[DocumentNames[name]].validate(doc)
    by_name = dict(new)
    start, descriptor = by_name["start"], by_name["descriptor"]
    assert descriptor["run_start"] == by_name["stop"]["run_start"] == start["uid"]
    assert by_name["event"]["descriptor"] == descriptor["uid"]
    assert by_name["datum"]["resource"] == by_name["resource"]["uid"]
    datums = [doc["datum_id"] for name, doc in new if name == "datum"]
    assert [doc["data"]["image"] for name, doc in new if name == "event"] == datums
    assert by_name["event"]["data"]["motor"] == 1.5
    old_uids = {doc.get("uid", doc.get("datum_id")) for _, doc in old}
    assert not old_uids & {doc.get("uid", doc.get("datum_id")) for _, doc in new}
    assert start["replay_of"] == old[0][1]["uid"]
    assert (start["scan_id"], start["sample_name"]) == (3, "x")
    again = NewRun(seed, now=5000.0)
    assert [(name, again.renew(name, doc)) for name, doc in old] == new


def test_times_are_moved_to_now_and_keep_their_distances():
    renewed = NewRun(uuid.uuid4(), now=5000.0)
    new = [(name, renewed.renew(name, doc)) for name, doc in documents()]
    assert [doc["time"] for name, doc in new if name in ("start", "event", "stop")] == [
        5000,
        5001,
        5002,
        5004,
    ]
    assert [doc["timestamps"]["motor"] for name, doc in new if name == "event"] == [5001, 5001]


def test_pages_are_renewed_as_what_they_are_made_of():
    renewed = NewRun(uuid.UUID(int=1), now=10.0)
    renewed.renew("start", {"uid": "r", "time": 4.0})
    renewed.renew("descriptor", {"uid": "d", "run_start": "r", "data_keys": {"image": {"external": "F:"}}})
    datum = renewed.renew("datum_page", {"resource": "s", "datum_id": ["a", "b"], "datum_kwargs": {}})
    page = renewed.renew(
        "event_page",
        {"uid": ["e", "f"], "descriptor": "d", "time": [5.0, 6.0], "seq_num": [1, 2],
         "data": {"image": ["a", "b"]}, "timestamps": {"image": [5.0, 6.0]}, "filled": {"image": [False, False]}},
    )  # fmt: skip
    assert page["data"]["image"] == datum["datum_id"]
    assert page["time"] == page["timestamps"]["image"] == [11.0, 12.0]
    assert page["filled"] == {"image": [False, False]}


@pytest.mark.parametrize(("rate", "lasts"), [(1.0, 4.0), (4.0, 1.0), (float("inf"), 0.0)])
def test_it_lasts_as_long_as_the_run_did_or_a_fraction(rate, lasts):
    class Clock:
        now = 50.0

        def __call__(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds

    clock, taken = Clock(), []
    script = Script(
        [TimedDocument(at, "event", {"n": n}) for n, at in enumerate([100.0, 101.0, None, 101.5, 104.0])], 5
    )
    count = replay(
        script,
        lambda name, doc: taken.append((doc["n"], clock.now - 50)),
        rate=rate,
        sleep=clock.sleep,
        clock=clock,
    )
    assert count == 5
    assert [n for n, _ in taken] == list(range(5))
    assert taken[-1][1] == pytest.approx(lasts)
    assert taken[2][1] == taken[1][1]


def test_what_is_late_makes_nothing_early():
    pace = ReplayPace(1.0)
    assert pace.pause(100.0, now=0.0) == 0
    assert pace.pause(101.0, now=5.0) == 0  # the target took five seconds
    assert pace.pause(107.0, now=5.0) == 2
