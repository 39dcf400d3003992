"""The promises of the house, whatever documents come: a machine makes runs, faults and nonsense, in any order."""

from __future__ import annotations

import logging
import shutil
import tempfile
import uuid
from collections import defaultdict
from pathlib import Path

import event_model
import h5py
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.frames import Geometry

from .conftest import BrightnessAnnotator, Recorder

SHAPE = (4, 6)
OK = "ok"

nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(
    [
        "start",
        "descriptor",
        "event",
        "event_page",
        "resource",
        "datum",
        "stream_resource",
        "stream_datum",
        "stop",
        "x",
    ]
)


class Promises(RuleBasedStateMachine):
    """Runs with three detectors: one whose frames come in events, two whose frames lie in files."""

    open_runs = Bundle("open_runs")

    @initialize(policy=st.sampled_from(["block", "drop-newest", "sample"]), room=st.sampled_from([3, 64]))
    def subscribe(self, policy, room):
        self.folder = Path(tempfile.mkdtemp())
        self.recorder = Recorder()
        self.policy = policy
        geometry = Geometry(shape=SHAPE, center_x=2.5, center_y=1.5)
        self.live = LiveAnnotator(
            BrightnessAnnotator(),
            sinks=[self.recorder],
            detectors={"cam": geometry, "npy": geometry, "hdf": geometry},
            policy=policy,
            max_frames=room,
            max_wait=0.001,
            patience=0.05,
        )
        # What each frame of each data key of each run must become: "ok" and its score, or "failed".
        self.expected = defaultdict(list)
        self.stopped = set()
        # Runs with frames that no document announces: those after them have no row before the stop.
        self.with_holes = set()
        self.descriptors = {}
        self.streams = {}

    def send(self, name, doc):
        self.live(name, doc)  # whatever it is, it must not raise

    @rule(
        target=open_runs,
        # Any in which the frames come after the start of their run.
        order=st.permutations(["descriptor", "event", "event"]).flatmap(
            lambda order: st.integers(0, order.index("event")).map(
                lambda place: [*order[:place], "start", *order[place:]]
            )
        ),
        bright=st.integers(0, 100),
    )
    def start(self, order, bright):
        run, descriptor = str(uuid.uuid4()), str(uuid.uuid4())
        self.descriptors[run] = descriptor
        key = {"source": "test", "dtype": "array", "shape": list(SHAPE)}
        documents = {
            "start": {"uid": run, "time": 1.0},
            "descriptor": {
                "uid": descriptor,
                "run_start": run,
                "time": 1.0,
                "name": "primary",
                "data_keys": {
                    "cam": key,
                    "npy": {**key, "external": "FILESTORE:"},
                    "hdf": {**key, "external": "STREAM:"},
                },
                "configuration": {},
            },
            # Sent twice.
            "event": self.event_of(run, cam=np.full(SHAPE, float(bright))),
        }
        self.expected[run, "cam"].append(bright / 100)
        for name in order:
            self.send(name, documents[name])
        return run

    def event_of(self, run, **data):
        return {
            "uid": str(uuid.uuid4()),
            "descriptor": self.descriptors[run],
            "seq_num": 1,
            "time": 2.0,
            "data": data,
            "timestamps": {},
            "filled": {key: not isinstance(value, str) for key, value in data.items()},
        }

    def event(self, run, **data):
        self.send("event", self.event_of(run, **data))

    @rule(run=open_runs, bright=st.integers(0, 100))
    def frame(self, run, bright):
        self.expected[run, "cam"].append(bright / 100)
        self.event(run, cam=np.full(SHAPE, float(bright)))

    @rule(run=open_runs, brights=st.lists(st.integers(0, 100), min_size=1, max_size=5))
    def several_frames_in_a_page(self, run, brights):
        self.expected[run, "cam"] += [bright / 100 for bright in brights]
        n = len(brights)
        self.send(
            "event_page",
            {
                "uid": [str(uuid.uuid4()) for _ in range(n)],
                "descriptor": self.descriptors[run],
                "seq_num": list(range(n)),
                "time": [2.0] * n,
                "data": {"cam": [np.full(SHAPE, float(bright)) for bright in brights]},
                "timestamps": {},
                "filled": {},
            },
        )

    @rule(
        run=open_runs,
        bad=st.sampled_from(
            [np.full(SHAPE, np.nan), "text", None, np.array([["a"]]), np.zeros((2, 2, 2, 2))]
        ),
    )
    def a_frame_that_is_none(self, run, bad):
        self.expected[run, "cam"].append(None)
        self.send(
            "event",
            {
                "uid": str(uuid.uuid4()),
                "descriptor": self.descriptors[run],
                "seq_num": 1,
                "time": 2.0,
                "data": {"cam": bad},
                "timestamps": {},
                "filled": {},
            },
        )

    @rule(
        run=open_runs,
        bright=st.integers(0, 100),
        fault=st.sampled_from(["", "", "", "missing", "torn", "shape", "no resource", "late datum"]),
    )
    def a_frame_in_a_file_of_its_own(self, run, bright, fault):
        resource, datum = str(uuid.uuid4()), str(uuid.uuid4())
        path = self.folder / f"{resource}_0.npy"
        np.save(path, np.full(SHAPE if fault != "shape" else (3, 3), float(bright)))
        if fault == "missing":
            path.unlink()
        if fault == "torn":
            path.write_bytes(path.read_bytes()[:-9])
        documents = [
            (
                "resource",
                {
                    "uid": resource,
                    "run_start": run,
                    "spec": "NPY_SEQ",
                    "root": str(self.folder),
                    "resource_path": resource,
                    "resource_kwargs": {},
                },
            ),
            ("datum", {"datum_id": datum, "resource": resource, "datum_kwargs": {"index": 0}}),
        ]
        if fault == "no resource":
            documents = []
        if fault == "late datum":
            self.event(run, npy=datum)
        for name, doc in documents:
            self.send(name, doc)
        if fault != "late datum":
            self.event(run, npy=datum)
        self.expected[run, "npy"].append(bright / 100 if fault in ("", "late datum") else None)

    @rule(
        run=open_runs,
        brights=st.lists(st.integers(0, 100), min_size=1, max_size=6),
        missing=st.integers(0, 2),
        each=st.integers(1, 3),
        data=st.data(),
    )
    def frames_of_a_stream(self, run, brights, missing, each, data):
        """In one file; announced in several documents that are lost, come twice, and in any order."""
        resource = str(uuid.uuid4())
        path = self.folder / f"{resource}.h5"
        written = brights[: max(0, len(brights) - missing)]
        if written:
            with h5py.File(path, "w") as file:
                file["data"] = np.stack([np.full(SHAPE, float(bright)) for bright in written])
        known = {
            "uid": resource,
            "run_start": run,
            "data_key": "hdf",
            "uri": f"file://localhost{path}",
            "mimetype": "application/x-hdf5",
            "parameters": {"dataset": "data"},
        }
        ranges = [(n, min(n + each, len(brights))) for n in range(0, len(brights), each)]
        # That of a second file must begin with it, or its indices may as well go on from the first.
        first, *others = ranges
        others = data.draw(st.permutations(others))
        others = others[: data.draw(st.integers(0, len(others)))]
        places = data.draw(st.lists(st.integers(0, len(others)), max_size=2))
        arriving = [first, *others]
        for place in places:
            arriving.insert(place + 1, arriving[min(place, len(arriving) - 1)])
        documents = [("stream_datum", self.stream_datum(run, resource, *found)) for found in arriving]
        documents.insert(data.draw(st.integers(0, len(documents))), ("stream_resource", known))
        for name, doc in documents:
            self.send(name, doc)
        announced = {number for start, stop in arriving for number in range(start, stop)}
        for number in range(max(announced) + 1):
            is_there = number in announced and number < len(written)
            self.expected[run, "hdf"].append(brights[number] / 100 if is_there else None)
        if announced != set(range(max(announced) + 1)):
            self.with_holes.add(run)

    def stream_datum(self, run, resource, start, stop):
        return {
            "uid": f"{resource}/{start}",
            "descriptor": self.descriptors[run],
            "stream_resource": resource,
            "indices": {"start": start, "stop": stop},
            "seq_nums": {"start": start + 1, "stop": stop + 1},
        }

    @rule(name=kinds, doc=nonsense)
    def something_else(self, name, doc):
        self.send(name, doc)

    @rule(run=open_runs, name=kinds, field=st.sampled_from(["descriptor", "run_start", "uid"]), doc=nonsense)
    def a_document_that_has_something_right(self, run, name, field, doc):
        if name in ("start", "stop", "descriptor"):
            return  # these would be right enough to change the run
        self.send(name, {field: self.descriptors[run] if field == "descriptor" else run, "data": doc})

    @rule(run=consumes(open_runs), status=st.sampled_from(["success", "abort", "fail"]))
    def stop_a_run(self, run, status):
        self.stop(run, status)

    def stop(self, run, status):
        self.stopped.add(run)
        self.send("stop", {"uid": str(uuid.uuid4()), "run_start": run, "time": 3.0, "exit_status": status})

    @rule()
    def wait_a_while(self):
        assert self.live.wait(10)

    def teardown(self):
        if not hasattr(self, "live"):
            return
        try:
            for run in self.with_holes - self.stopped:
                self.stop(run, "success")
            assert self.live.wait(10)
            self.live.close(10)
            self.check()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def check(self):
        """Every frame has exactly one row, in order, with its score or a reason; stopped runs have their summary."""
        starts = {doc["uid"]: doc for doc in self.recorder.of("start")}
        run_of = {doc["uid"]: starts[doc["run_start"]] for doc in self.recorder.of("descriptor")}
        rows = defaultdict(list)
        for doc in self.recorder.of("event"):
            analysis = run_of[doc["descriptor"]]["analysis"]
            rows[analysis["parent"], analysis["data_key"]].append(doc["data"])
        assert set(rows) == {where for where, frames in self.expected.items() if frames}
        for where, frames in self.expected.items():
            assert [row["frame"] for row in rows[where]] == list(range(len(frames)))
            for row, score in zip(rows[where], frames, strict=True):
                dropped = row["status"] == "dropped"
                assert not (dropped and self.policy == "block")
                if row["status"] == OK:
                    assert row["rings"] == pytest.approx(score)
                else:
                    assert row["reason"]
                    assert score is None or dropped, row["reason"]
        for name, doc in self.recorder.documents:
            event_model.schema_validators[event_model.DocumentNames[name]].validate(doc)
        ended = {starts[doc["run_start"]]["analysis"]["parent"]: doc for doc in self.recorder.of("stop")}
        with_frames = {run for (run, _), frames in self.expected.items() if frames}
        assert set(ended) == self.stopped & with_frames
        for doc in self.recorder.of("stop"):
            analysis = starts[doc["run_start"]]["analysis"]
            found = rows[analysis["parent"], analysis["data_key"]]
            assert doc["summary"]["frames"] == len(found)
            assert doc["summary"]["failed"] == sum(row["status"] == "failed" for row in found)
        stats = self.live.stats()
        assert stats.frames == sum(map(len, self.expected.values()))
        assert stats.worker.queued_frames == stats.reader.waiting == stats.writer.lost_rows == 0


@pytest.fixture(autouse=True)
def silence():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


Promises.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
)
TestPromises = Promises.TestCase
