"""`seq_num` says which frame an event has: what does not come leaves its place free, and moves nothing."""

from __future__ import annotations

import itertools

import event_model
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.utils import RunEngineInterrupted
from hypothesis import given
from hypothesis import strategies as st
from ophyd.sim import SynSignal

from dvfb_stream.callbacks.raw_run import NOT_ANNOUNCED
from dvfb_stream.callbacks.runs import RunTracker
from dvfb_stream.frames import Geometry
from tests.callbacks.conftest import RawDocuments

SHAPE = (4, 6)
GEOMETRY = Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)


def followed(documents):
    """Return what became of each frame, in the order of the rows: its pixels' value, or why there are none."""
    tracker, frames = RunTracker({"image": GEOMETRY}), {}
    for name, doc in documents:
        for found in tracker.take(name, doc).frames:
            for position in range(found.count):
                number = found.origin_of(position).index
                assert number not in frames
                frames[number] = found.reason or float(found.pixels[position][0, 0])
    assert sorted(frames) == list(range(len(frames)))
    return [frames[number] for number in sorted(frames)]


def run_of(raw, numbers, *, counted=0):
    """Return the documents of a run whose events have these numbers; pixels count the exposures from 1."""
    documents = [raw.start(), raw.descriptor()]
    for value, number in enumerate(numbers, start=1):
        name, doc = raw.frame(value)
        documents.append((name, {**doc, "seq_num": number}))
    name, stop = raw.stop()
    return [*documents, (name, {**stop, "num_events": {"primary": counted, "other": 3}})]


@given(data=st.data())
def test_whichever_events_do_not_come_the_others_keep_their_numbers(data):
    raw, each = RawDocuments(), data.draw(st.integers(1, 3))
    documents = [raw.start(), raw.descriptor()]
    values = itertools.count(1)
    for _ in range(n := data.draw(st.integers(1, 8))):
        stack = np.array([next(values) for _ in range(each)], float)[:, None, None] * np.ones(SHAPE)
        documents.append(raw.event(image=stack))
    name, stop = raw.stop()
    documents.append((name, {**stop, "num_events": {"primary": n}}))
    lost = data.draw(st.sets(st.integers(2, n + 1), max_size=n))
    # Where none came that says how many frames an event has, the descriptor does.
    documents[1][1]["data_keys"]["image"]["shape"] = [each, *SHAPE]
    malformed = data.draw(st.sampled_from(sorted(lost))) if lost else None
    if malformed is not None:
        documents[malformed] = ("event", {**documents[malformed][1], "data": "cut off"})
        lost = lost - {malformed}
    found = followed([doc for number, doc in enumerate(documents) if number not in lost])
    lost = lost | {malformed}
    assert found == [
        NOT_ANNOUNCED if frame // each + 2 in lost else float(frame + 1) for frame in range(n * each)
    ]


def test_a_row_says_which_event_did_not_come(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    start, descriptor, first, _, third, stop = raw.whole(10, 20, 30)
    for document in (start, descriptor, first, third, stop):
        pipeline(*document)
    assert pipeline.wait(10)
    rows = recorder.rows()
    assert [(row["frame"], row["event_seq_num"], row["status"]) for row in rows] == [
        (0, 1, "ok"), (1, 2, "failed"), (2, 3, "ok"),
    ]  # fmt: skip
    assert rows[1]["reason"] == NOT_ANNOUNCED
    assert rows[1]["event_uid"] == ""
    # The geometry of the run is known, whichever frame is missing.
    assert recorder.of("start")[0]["analysis"]["geometry"]["center_x"] == 2.5


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1, 2, 3, 2, 3, 4], [1, 2, 3, 4, 5, 6]),  # Bluesky went back to a checkpoint
        ([1, 2, 3, 2, 4], [1, 2, 3, 4, NOT_ANNOUNCED, 5]),  # and one of the second pass did not come
        ([1, 1, 1], [1, 2, 3]),
        ([0, 1, 2], [1, 2, 3]),
        ([0, 2], [1, NOT_ANNOUNCED, 2]),
        ([None, "second", 3.0], [1, 2, 3]),
        ([None, 2, None, 5], [1, 2, 3, NOT_ANNOUNCED, 4]),
        ([3], [NOT_ANNOUNCED, NOT_ANNOUNCED, 1]),
        # Of no producer that counts: the event is the next one.
        ([1, 2**40, 2**40 + 1], [1, 2, 3]),
        ([1, 2**62 - 1, 2**70], [1, 2, 3]),
    ],
)
def test_a_number_that_was_there_before_is_that_of_a_further_frame(raw_documents, numbers, expected):
    assert followed(run_of(raw_documents(), numbers)) == expected


@pytest.mark.parametrize("counted", [0, 2, None, "many", -1, 2**80])
def test_a_stop_that_counts_no_more_events_than_came_adds_nothing(raw_documents, counted):
    assert followed(run_of(raw_documents(), [1, 2], counted=counted)) == [1, 2]


def test_two_descriptors_of_a_stream_share_its_numbers_or_have_their_own(raw_documents):
    for numbers in ([(0, 1), (0, 2), (1, 3), (0, 4), (1, 5)], [(0, 1), (0, 2), (1, 1), (0, 3), (1, 2)]):
        raw = raw_documents()
        documents = [raw.start(), raw.descriptor(), raw.descriptor()]
        for value, (descriptor, number) in enumerate(numbers, start=1):
            name, doc = raw.frame(value)
            uid = documents[1 + descriptor][1]["uid"]
            documents.append((name, {**doc, "descriptor": uid, "seq_num": number}))
        assert followed([*documents, raw.stop()]) == [1, 2, 3, 4, 5]


def test_a_page_that_did_not_come_leaves_the_places_of_its_events(raw_documents):
    raw = raw_documents()
    start, descriptor, *events, stop = raw.whole(*range(1, 7))
    pages = [
        event_model.pack_event_page(*(doc for _, doc in events[first : first + 2])) for first in (0, 2, 4)
    ]
    documents = [start, descriptor, ("event_page", pages[0]), ("event_page", pages[2]), stop]
    assert followed(documents) == [1, 2, NOT_ANNOUNCED, NOT_ANNOUNCED, 5, 6]


def test_a_stack_whose_pixels_cannot_be_had_keeps_its_places(raw_documents):
    raw = raw_documents()
    stack = np.ones((3, *SHAPE))
    documents = [raw.start(), raw.descriptor(), *(raw.event(image=i) for i in (stack, "gone", 2 * stack))]
    found = followed([*documents, raw.stop()])
    assert [value for value in found if isinstance(value, float)] == [1, 1, 1, 2, 2, 2]
    assert found[3] == found[4] == found[5] == "a frame must be an array of numbers, not str 'gone'"


def test_a_run_that_comes_again_with_what_was_missing_adds_no_frames(make_pipeline, recorder, raw_documents):
    raw, pipeline = raw_documents(), make_pipeline()
    documents = raw.whole(10, 20, 30)
    for document in [*documents[:3], *documents[4:-1], *documents]:
        pipeline(*document)
    assert pipeline.wait(10)
    assert [row["status"] for row in recorder.rows()] == ["ok", "failed", "ok"]
    assert len(recorder.of("stop")) == 1


def test_a_real_scan_that_was_paused_has_a_row_for_each_exposure():
    """Bluesky goes back to the checkpoint, and monitors count for themselves."""
    exposures = itertools.count(1)
    camera = SynSignal(func=lambda: next(exposures) * np.ones(SHAPE), name="image")
    watched = SynSignal(func=lambda: 0.0, name="watched")
    documents, RE = [], RunEngine({})
    RE.subscribe(lambda name, doc: documents.append((name, doc)))

    @bpp.monitor_during_decorator([watched])
    @bpp.run_decorator()
    def plan():
        for point in range(4):
            yield from bps.checkpoint()
            yield from bps.trigger_and_read([camera])
            if point == 2:
                yield from bps.trigger_and_read([camera])
                yield from bps.pause()

    with pytest.raises(RunEngineInterrupted):
        RE(plan())
    RE.resume()
    numbers = [doc["seq_num"] for name, doc in documents if name == "event" and "image" in doc["data"]]
    assert numbers == [1, 2, 3, 4, 3, 4, 5]
    values = [
        doc["data"]["image"][0, 0] for name, doc in documents if name == "event" and "image" in doc["data"]
    ]
    assert followed(documents) == values
    # Without the first of the second pass and the last: the numbers tell of the last alone.
    events = [i for i, (name, doc) in enumerate(documents) if name == "event" and "image" in doc["data"]]
    left = [doc for i, doc in enumerate(documents) if i != events[-1]]
    assert followed(left) == [*values[:-1], NOT_ANNOUNCED]
