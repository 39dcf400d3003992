"""What a row says of its raw event does not depend on whether the event or the row was faster."""

from __future__ import annotations

import threading
import time

import h5py
import numpy as np
import pytest

from dvfb_stream.callbacks import stream_events
from dvfb_stream.callbacks.frame_sequence import RawEvent
from dvfb_stream.callbacks.stream_events import StreamEvents

PATIENCE = 10.0
SHAPE = (4, 6)


class Run:
    """A run with a motor and a detector whose frames lie in a file that is whole before the first document."""

    def __init__(self, raw, tmp_path, count=3, *, with_values=True):
        self.raw = raw
        self.path = tmp_path / "a.h5"
        with h5py.File(self.path, "w") as file:
            file["d"] = np.ones((count, *SHAPE), np.uint16)
        descriptor = raw.descriptor(external="STREAM:")
        if with_values:
            descriptor[1]["data_keys"]["motor"] = {"source": "motor", "dtype": "number", "shape": []}
        resource = {
            "uid": "r", "run_start": raw.uid, "data_key": "image", "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{self.path}", "parameters": {"dataset": "d"},
        }  # fmt: skip
        self.opening = [raw.start(), descriptor, ("stream_resource", resource)]
        self.descriptor = descriptor[1]["uid"]

    def datum(self, start, stop):
        return "stream_datum", {
            "uid": f"r/{start}", "stream_resource": "r", "descriptor": self.descriptor,
            "indices": {"start": start, "stop": stop}, "seq_nums": {"start": start + 1, "stop": stop + 1},
        }  # fmt: skip


def send(pipeline, *documents):
    for name, doc in documents:
        pipeline(name, doc)


def annotated(pipeline, count):
    """Wait until frames are annotated, which is before their rows are written."""
    deadline = time.monotonic() + PATIENCE
    while pipeline.stats().worker.annotated < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def times(recorder):
    return [(event["time"], event["data"]["event_uid"]) for event in recorder.of("event")]


def test_a_row_waits_for_its_event(make_pipeline, recorder, raw_documents, tmp_path):
    pipeline, run = make_pipeline(), Run(raw_documents(), tmp_path)
    send(pipeline, *run.opening, run.datum(0, 3))
    annotated(pipeline, 3)
    assert recorder.of("event") == []
    events = [run.raw.event(motor=float(i)) for i in range(3)]
    send(pipeline, *events, run.raw.stop())
    assert pipeline.wait(PATIENCE)
    assert times(recorder) == [(event["time"], event["uid"]) for _, event in events]


def test_a_row_whose_event_never_comes_is_written_at_the_end_of_the_run(
    make_pipeline, recorder, raw_documents, tmp_path
):
    pipeline, run = make_pipeline(), Run(raw_documents(), tmp_path)
    send(pipeline, *run.opening, run.datum(0, 3))
    annotated(pipeline, 3)
    event = run.raw.event(motor=1.0)
    send(pipeline, event, run.raw.stop())
    assert pipeline.wait(PATIENCE)
    assert times(recorder) == [(event[1]["time"], event[1]["uid"]), (1001.0, ""), (1001.0, "")]
    assert len(recorder.of("stop")) == 1


def test_rows_whose_files_are_late_do_not_wait_after_the_end_of_the_run(
    make_pipeline, recorder, raw_documents, tmp_path
):
    pipeline, run = make_pipeline(patience=PATIENCE), Run(raw_documents(), tmp_path)
    there = run.path.rename(tmp_path / "not yet")
    send(pipeline, *run.opening, run.datum(0, 3), run.raw.stop())
    there.rename(run.path)
    assert pipeline.wait(PATIENCE)
    assert len(recorder.of("event")) == 3
    assert len(recorder.of("stop")) == 1


def test_who_wants_the_rows_now_has_them(make_pipeline, recorder, raw_documents, tmp_path):
    pipeline, run = make_pipeline(), Run(raw_documents(), tmp_path)
    send(pipeline, *run.opening, run.datum(0, 3))
    assert pipeline.wait(PATIENCE)
    assert times(recorder) == [(1001.0, "")] * 3


def test_rows_of_a_fly_scan_wait_for_no_event(make_pipeline, recorder, raw_documents, tmp_path):
    pipeline, run = make_pipeline(), Run(raw_documents(), tmp_path, with_values=False)
    send(pipeline, *run.opening, run.datum(0, 3))
    deadline = time.monotonic() + PATIENCE
    while len(recorder.of("event")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_rows_of_an_abandoned_run_are_kept(make_pipeline, recorder, raw_documents, tmp_path):
    pipeline, run = make_pipeline(max_open_runs=1), Run(raw_documents(), tmp_path)
    send(pipeline, *run.opening, run.datum(0, 3))
    annotated(pipeline, 3)
    send(pipeline, raw_documents().start())
    assert pipeline.stats().abandoned_runs == 1
    assert pipeline.wait(PATIENCE)
    assert len(recorder.of("event")) == 3


def test_of_too_many_rows_the_oldest_wait_no_longer(monkeypatch):
    monkeypatch.setattr(stream_events, "MOST_WAITING", 2)
    events, gone_on = StreamEvents(), []
    events.expect("d")
    for number in range(1, 5):
        events.when_known("d", number, lambda number=number: gone_on.append(number))
    assert gone_on == [1, 2]
    events.put("d", 4, RawEvent("", 0.0))
    events.end(["another"])
    assert gone_on == [1, 2, 4]
    events.end(["d"])
    assert gone_on == [1, 2, 4, 3]


@pytest.mark.parametrize("end", [True, False])
def test_nothing_waits_for_ever_when_events_come_meanwhile(end):
    """Two threads, ten thousand times: each row goes on exactly once."""
    events, gone_on, count = StreamEvents(), [], 10_000
    events.expect("d")

    def bring():
        for number in range(1, count + 1):
            events.put("d", number, RawEvent(str(number), 0.0))
        if end:
            events.end(["d"])

    bringing = threading.Thread(target=bring)
    bringing.start()
    for number in range(1, count + 1):
        events.when_known("d", number, lambda number=number: gone_on.append(number))
    bringing.join(PATIENCE)
    assert sorted(gone_on) == list(range(1, count + 1))
