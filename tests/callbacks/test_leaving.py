"""Leaving: the block, the process, a sink that asks to, the handler of a signal."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiled.client.utils import TILED_RETRY_TIMEOUT

from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.callbacks import live as module

PATIENCE = 10.0


@pytest.fixture
def settings(geometry):
    return {"detectors": {"image": geometry}, "policy": "block", "max_wait": 0.0}


def send(live, documents):
    for document in documents:
        live(*document)


def test_a_late_file_and_a_server_that_is_tried_again_have_the_time_they_take():
    late_file = inspect.signature(LiveAnnotator).parameters["patience"].default
    assert late_file == 30
    assert max(late_file, TILED_RETRY_TIMEOUT) < module.SECONDS_WITHOUT_A_ROW <= 2 * late_file


def test_who_leaves_a_block_leaves_though_a_sink_hangs(annotator, settings, raw_documents, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_WITHOUT_A_ROW", 0.1)
    monkeypatch.setattr(module, "SECONDS_AT_EXIT", 0.1)
    go_on = threading.Event()
    with LiveAnnotator(annotator, sinks=[lambda name, doc: go_on.wait(PATIENCE)], **settings) as live:
        send(live, raw_documents().whole(1, 2, 3))
    assert not go_on.is_set()
    assert live.stats().writer.lost_rows == 2  # and one is with the sink
    assert not live.wait()
    go_on.set()


def test_who_leaves_a_block_has_all_rows_however_long_they_take(
    annotator, settings, recorder, raw_documents, monkeypatch
):
    monkeypatch.setattr(module, "SECONDS_WITHOUT_A_ROW", 0.02)
    pause = threading.Event()

    def slow(name, doc):
        pause.wait(0.005)  # eight rows take twice as long as the silence that is allowed

    with LiveAnnotator(annotator, sinks=[slow, recorder], **settings) as live:
        send(live, raw_documents().whole(*range(8)))
    assert len(recorder.rows()) == 8
    assert len(recorder.of("stop")) == 1


def test_after_an_exception_nobody_waits_for_rows_for_long(annotator, settings, raw_documents, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_WITHOUT_A_ROW", PATIENCE)
    monkeypatch.setattr(module, "SECONDS_AT_EXIT", 0.1)
    go_on = threading.Event()

    def interrupted():
        with LiveAnnotator(annotator, sinks=[lambda name, doc: go_on.wait(60)], **settings) as live:
            send(live, raw_documents().whole(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not go_on.is_set()
    go_on.set()


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_sink_that_closes_gets_the_rows_under_way_and_the_next_call_ends_the_threads(
    annotator, settings, recorder, raw_documents, timeout
):
    answers = []

    def asks(name, doc):
        if name == "event" and not answers:
            answers.append(live.wait(timeout))
            live.close(timeout)

    live = LiveAnnotator(annotator, sinks=[asks, recorder], **settings)
    raw = raw_documents()
    send(live, [raw.start(), raw.descriptor(), raw.frame(1)])
    assert live.wait(PATIENCE)
    assert answers == [False]
    send(live, [raw.frame(2), raw.stop()])
    live.close(PATIENCE)
    assert len(recorder.rows()) == 1
    assert live.stats().frames == 1


def test_a_process_that_is_forked_off_closes_nothing_and_waits_for_nothing(
    annotator, settings, recorder, raw_documents
):
    go_on = threading.Event()
    live = LiveAnnotator(annotator, sinks=[lambda name, doc: go_on.wait(PATIENCE), recorder], **settings)
    send(live, raw_documents().whole(1, 2))
    child = os.fork()
    if child == 0:
        with live:
            waited = live.wait()
        os._exit(3 if waited else 4)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 4
    go_on.set()
    live.close(PATIENCE)
    assert len(recorder.rows()) == 2


def test_the_end_of_a_process_takes_ten_seconds_and_not_ten_for_each_that_is_stuck():
    script = f"""
import sys, threading, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import SHAPE, BrightnessAnnotator, RawDocuments
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.frames import Geometry
from dvfb_stream.worker import shutdown

shutdown.SECONDS_AT_EXIT, shutdown.SECONDS_TO_REST = 1.0, 0.5
detectors = {{"image": Geometry(shape=SHAPE, center_x=0, center_y=0)}}
reached = threading.Event()

class Hangs(BrightnessAnnotator):
    def annotate(self, frames):
        reached.set()
        threading.Event().wait()

lives = [LiveAnnotator(Hangs(), sinks=[], detectors=detectors) for _ in range(5)]
for live in lives:
    reached.clear()
    for name, doc in RawDocuments().whole(10, 90):
        live(name, doc)
    assert reached.wait(10)

def last():
    print(time.monotonic() - began < 2.5, flush=True)

began = time.monotonic()
from dvfb_stream.worker.worker import _rest_all
import atexit
atexit.unregister(_rest_all)  # to come after what says how long it took
atexit._run_exitfuncs()
_rest_all()
last()
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout.strip() == "True", ended.stderr
