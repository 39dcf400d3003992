"""Where a model annotates, a process of its own or a thread of this one, makes no difference to the rows."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.plans import count
from ophyd.sim import SynSignal

from dvfb_stream import Annotator
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.isolation import AnnotatorProcess
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.labels import LABELS

PATIENCE = 60.0
GEOMETRY = Geometry(shape=(64, 64), center_x=31.5, center_y=31.5)
EXPOSURES = np.random.default_rng(0).poisson(20.0, (6, 64, 64)).astype(np.uint16)


@pytest.fixture
def RE():
    return RunEngine({})


@pytest.fixture
def camera():
    exposures = iter([EXPOSURES[0], *EXPOSURES])  # the signal asks for one when it is made
    return SynSignal(func=lambda: next(exposures), name="image")


@pytest.fixture
def processes(monkeypatch):
    """The processes that were started to annotate."""
    started = []
    load = AnnotatorProcess.load

    def remembered(*args, **settings):
        started.append(load(*args, **settings))
        return started[-1]

    monkeypatch.setattr(AnnotatorProcess, "load", remembered)
    return started


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def live_with(bundle, sink, **settings):
    return LiveAnnotator(
        bundle, sinks=[sink], detectors={"image": GEOMETRY}, device="cpu", policy="block", **settings
    )


@pytest.mark.parametrize("where", [{}, {"annotate_in": "process"}, {"annotate_in": "thread"}])
def test_rows_are_those_of_the_annotator_in_this_process(RE, camera, recorder, tiny_bundle, processes, where):
    with live_with(tiny_bundle, recorder, **where) as live:
        RE.subscribe(live)
        RE(count([camera], len(EXPOSURES)))
        assert live.wait(PATIENCE)
        pids = [process.pid for process in processes]
        assert len(pids) == (where.get("annotate_in") != "thread")
    assert not any(map(is_alive, pids))
    expected = Annotator.load(tiny_bundle, device="cpu").annotate(
        [Frame(exposure, GEOMETRY) for exposure in EXPOSURES]
    )
    rows = recorder.rows()
    assert len(rows) == len(EXPOSURES)
    for row, annotation in zip(rows, expected, strict=True):
        assert row["status"] == annotation.status == "ok"
        assert row["labels"] == ",".join(annotation.labels)
        for label in LABELS:
            np.testing.assert_allclose(row[label], annotation.scores[label], rtol=1e-5)
        # Frames of a batch share the steps of the estimate, and batches are others here.
        np.testing.assert_allclose(row["fit_residual"], annotation.fit_residual, rtol=1e-4)
        np.testing.assert_allclose(row["novelty"], annotation.novelty, rtol=1e-4)


def test_the_process_that_reads_files_starts_with_the_callback_and_not_in_a_scan(annotator, monkeypatch):
    started, start = [], FilesProcess.start
    monkeypatch.setattr(FilesProcess, "start", lambda files: (start(files), started.append(files)))
    with LiveAnnotator(annotator, detectors={"image": GEOMETRY}):
        (files,) = started
        assert is_alive(files.pid)
        pid = files.pid
    assert not is_alive(pid)


def test_a_process_that_is_killed_costs_no_plan_and_no_row(RE, camera, recorder, tiny_bundle, processes):
    with live_with(tiny_bundle, recorder, max_wait=0.0) as live:
        RE.subscribe(live)
        first = processes[0].pid

        @bpp.run_decorator()
        def plan():
            for point in range(len(EXPOSURES)):
                if point == 3:
                    os.kill(first, signal.SIGKILL)
                yield from bps.trigger_and_read([camera])

        (uid,) = RE(plan())
        assert live.wait(PATIENCE)
    assert recorder.of("start")[0]["analysis"]["parent"] == uid
    assert [row["frame"] for row in recorder.rows()] == list(range(len(EXPOSURES)))
    assert recorder.rows()[-1]["status"] == "ok"
    for row in recorder.rows():
        assert row["status"] == "ok" or "process" in row["reason"]
    assert len(recorder.of("stop")) == 1


def test_a_model_that_cannot_be_loaded_leaves_no_process_and_no_thread(processes):
    before = set(threading.enumerate())
    with pytest.raises(BundleError, match="no-such-model"):
        LiveAnnotator("no-such-model")
    assert processes == []
    assert set(threading.enumerate()) <= before


def test_settings_that_are_refused_leave_no_process(tiny_bundle, processes):
    with pytest.raises(SettingsError, match="max_frames"):
        LiveAnnotator(tiny_bundle, device="cpu", max_frames=0)
    assert processes == []


@pytest.mark.parametrize("model", ["default", object()])
def test_a_place_that_does_not_exist_is_an_error_at_once(model):
    with pytest.raises(SettingsError, match="annotate_in must be 'process' or 'thread', not 'fork'"):
        LiveAnnotator(model, annotate_in="fork")
