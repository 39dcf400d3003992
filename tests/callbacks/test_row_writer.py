"""Every row has its fate and is in one count, whatever the sinks do."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.callbacks.row_writer import AnalysisWriter
from dvfb_stream.callbacks.run_progress import AnalysisProgress, RunProgress
from dvfb_stream.frames import Origin
from dvfb_stream.labels import LABELS
from dvfb_stream.metrics import Metrics

PATIENCE = 10.0
IDENTITY = ModelIdentity(name="m", version="1", sha256="0" * 64)
PROVENANCE = {"model": {"name": "m", "version": "1", "sha256": "0" * 64}, "labels": list(LABELS)}


def analysis_of(raw_uid, **provenance):
    run = RunProgress(raw_uid)
    analysis = AnalysisRun(
        {"uid": raw_uid},
        stream="primary",
        data_key="image",
        provenance=PROVENANCE | provenance,
        geometry=None,
        started=1.0,
        described=1.0,
    )
    run.analyses.append(AnalysisProgress(analysis, run))
    return run, run.analyses[0]


def row(index, **annotation):
    origin = Origin(run_uid="raw", stream="primary", data_key="image", index=index)
    settings = {"status": "ok", "model": IDENTITY, "origin": origin, **annotation}
    return Row(index=index, time=1.0, annotation=Annotation(**settings))


@pytest.fixture
def make_writer():
    made = []

    def make(*sinks, **settings):
        settings = {
            "max_rows": 100,
            "on_finished": lambda run: finished.append(run) or True,
            "on_stored": stored.append,
            "on_sink_failure": failures.append,
        } | settings
        made.append(AnalysisWriter(sinks, **settings))
        return made[-1]

    finished, stored, failures = [], [], []
    make.finished, make.stored, make.failures = finished, stored, failures
    yield make
    for writer in made:
        writer.close(0)


class Hangs:
    """A sink that hangs until it is let go; tells when it does."""

    def __init__(self):
        self.reached, self.go_on, self.names = threading.Event(), threading.Event(), []

    def __call__(self, name, doc):
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        self.names.append(name)


def accounted(writer):
    stats = writer.stats()
    return stats.rows + stats.pending_rows + stats.given_up_rows + stats.repeated_rows


def until(true):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.002)


class Panic(BaseException):
    """As pyo3's PanicException."""


@pytest.mark.parametrize("kind", [SystemExit, Panic, GeneratorExit])
def test_whatever_a_sink_raises_the_others_go_on(make_writer, recorder, kind):
    def broken(name, doc):
        raise kind("boom")

    writer = make_writer(broken, recorder)
    for raw in ("one", "two"):
        run, progress = analysis_of(raw)
        writer.put(progress, row(0), wait=True)
        writer.stop(run, {("primary", "image"): 1}, 2.0)
    assert writer.wait(PATIENCE)
    assert len(recorder.of("event")) == len(recorder.of("stop")) == 2
    assert (writer.stats().sink_failures, len(make_writer.failures), len(make_writer.finished)) == (2, 2, 2)


def test_an_annotation_that_cannot_be_written_down_costs_its_own_row(make_writer, recorder):
    writer = make_writer(recorder)
    run, progress = analysis_of("raw")
    for index in range(3):
        writer.put(progress, row(index, scores={"rings": None if index == 1 else 0.5}), wait=True)
    writer.stop(run, {("primary", "image"): 3}, 2.0)
    assert writer.wait(PATIENCE)
    assert [event["data"]["status"] for event in recorder.of("event")] == ["ok", "failed", "ok"]
    assert "cannot be written down: TypeError" in recorder.of("event")[1]["data"]["reason"]
    assert len(recorder.of("stop")) == 1
    assert not run.broken


def test_a_document_that_cannot_be_copied_is_no_sinks_fault(make_writer, recorder):
    writer = make_writer(recorder)
    run, progress = analysis_of("raw", software=threading.Lock())
    writer.put(progress, row(0), wait=True)
    writer.stop(run, {("primary", "image"): 1}, 2.0)
    assert not writer.wait(PATIENCE)
    assert recorder.documents == make_writer.failures == []
    assert make_writer.finished == [run]
    assert run.broken
    assert (writer.stats().lost_rows, writer.stats().sink_failures) == (1, 0)


def test_closing_counts_every_row_that_it_loses(make_writer):
    hangs = Hangs()
    writer = make_writer(hangs)
    _, progress = analysis_of("raw")
    _, other = analysis_of("other")
    for index in (0, 1, 2, 5, 6):  # 3 and 4 are late
        writer.put(progress, row(index), wait=False)
    writer.put(other, row(1), wait=False)
    assert hangs.reached.wait(PATIENCE)
    assert accounted(writer) == writer.stats().pending_rows == 6
    writer.close(timeout=0)
    writer.put(progress, row(3), wait=True)
    assert (writer.stats().pending_rows, writer.stats().lost_rows) == (1, 6)  # one is with the sink
    hangs.go_on.set()
    writer.close(PATIENCE)
    stats = writer.stats()
    assert (stats.rows, stats.pending_rows, stats.lost_rows) == (1, 0, 6)
    assert hangs.names == ["start", "descriptor", "event"]
    assert not writer.wait(0)


def test_closing_loses_rows_whose_predecessors_never_came_and_says_so(make_writer, recorder):
    writer = make_writer(recorder)
    _, progress = analysis_of("raw")
    for index in range(1, 6):
        writer.put(progress, row(index), wait=True)
    assert writer.wait(PATIENCE)  # all was offered that can be
    assert writer.stats().pending_rows == 5
    writer.close(PATIENCE)
    assert (writer.stats().pending_rows, writer.stats().lost_rows) == (0, 5)
    assert not writer.wait(PATIENCE)


def test_rows_that_come_again_are_counted_apart(make_writer, recorder):
    writer = make_writer(recorder)
    run, progress = analysis_of("raw")
    for _ in range(2):
        for index in range(3):
            writer.put(progress, row(index), wait=True)
    writer.stop(run, {("primary", "image"): 3}, 2.0)
    assert writer.wait(PATIENCE)
    stats = writer.stats()
    assert (stats.rows, stats.repeated_rows, stats.analysis_runs) == (3, 3, 1)


def test_stops_behind_a_sink_that_hangs_wait_once_a_run(make_writer):
    hangs = Hangs()
    writer = make_writer(hangs)
    run, progress = analysis_of("raw")
    writer.put(progress, row(0), wait=True)
    assert hangs.reached.wait(PATIENCE)
    for _ in range(1000):
        writer.stop(run, {("primary", "image"): 7}, 2.0)
    writer.stop(run, {("primary", "image"): 1}, 2.0)
    assert (len(writer._due), len(writer._to_end)) == (0, 1)
    hangs.go_on.set()
    assert writer.wait(PATIENCE)
    assert hangs.names == ["start", "descriptor", "event", "stop"]
    assert make_writer.finished == [run]


def test_runs_that_are_forgotten_leave_nothing_with_a_sink_that_hangs(make_writer):
    hangs = Hangs()
    writer = make_writer(hangs, max_rows=10)
    runs = [analysis_of(f"raw {number}") for number in range(50)]
    for run, progress in runs:
        writer.put(progress, row(0), wait=False)
        writer.stop(run, {("primary", "image"): 1}, 2.0)
    assert hangs.reached.wait(PATIENCE)
    for run, _ in runs[:-1]:
        writer.abandon(run)
    assert len(writer._due) <= 11
    assert len(writer._to_end) <= 11
    assert accounted(writer) == 50
    hangs.go_on.set()
    assert not writer.wait(PATIENCE)
    stats = writer.stats()
    assert (stats.pending_rows, stats.rows + stats.lost_rows) == (0, 50)
    assert runs[-1][0] in make_writer.finished


def test_a_run_that_is_forgotten_keeps_its_rows_where_the_sinks_keep_up(make_writer, recorder):
    writer = make_writer(recorder)
    run, progress = analysis_of("raw")
    writer.put(progress, row(0), wait=True)
    writer.abandon(run)
    writer.put(progress, row(1), wait=True)
    assert writer.wait(PATIENCE)
    assert len(recorder.of("event")) == 2


@pytest.mark.parametrize("frames", [40, 1])
def test_a_run_that_is_abandoned_takes_nothing_more_and_comes_to_its_end(make_writer, frames):
    hangs = Hangs()
    writer = make_writer(hangs, max_rows=2)
    run, progress = analysis_of("raw")
    writer.put(progress, row(0), wait=False)
    assert hangs.reached.wait(PATIENCE)
    for index in range(1, 40):
        writer.put(progress, row(index), wait=False)
    assert progress.abandoned
    assert writer.stats().pending_rows <= 1
    assert accounted(writer) == 40
    writer.stop(run, {("primary", "image"): frames}, 2.0)
    hangs.go_on.set()
    assert not writer.wait(PATIENCE)
    assert make_writer.finished == [run]
    assert "stop" not in hangs.names


def test_rows_of_several_runs_are_written_as_they_come(make_writer, recorder):
    hangs = Hangs()
    writer = make_writer(hangs, recorder)
    _, first = analysis_of("first")
    _, second = analysis_of("second")
    for progress, index in ((first, 0), (second, 0), (second, 1), (first, 1), (second, 2), (first, 2)):
        writer.put(progress, row(index), wait=True)
    hangs.go_on.set()
    assert writer.wait(PATIENCE)
    names = {doc["uid"]: doc["analysis"]["parent"] for doc in recorder.of("start")}
    run_of = {doc["uid"]: names[doc["run_start"]] for doc in recorder.of("descriptor")}
    order = [run_of[doc["descriptor"]] for doc in recorder.of("event")]
    assert order == ["first", "second", "second", "first", "second", "first"]


def test_of_a_run_that_is_forgotten_no_more_is_kept_than_of_one_that_waits(make_writer):
    hangs = Hangs()
    writer = make_writer(hangs, max_rows=2)
    run, progress = analysis_of("raw")
    writer.put(progress, row(0), wait=False)
    assert hangs.reached.wait(PATIENCE)
    writer.abandon(run)  # the sinks are not behind yet
    for index in (1, 2):
        writer.put(progress, row(index), wait=False)
    assert not progress.abandoned
    writer.put(progress, row(3), wait=False)
    assert progress.abandoned
    assert accounted(writer) == 4
    hangs.go_on.set()


def test_a_row_lost_after_the_writer_was_closed_is_counted_once(make_writer):
    hangs = Hangs()
    writer = make_writer(hangs)
    _, progress = analysis_of("raw")

    def broken():
        raise RuntimeError("no descriptor")

    progress.analysis.descriptor = broken
    for index in (0, 5):
        writer.put(progress, row(index), wait=False)
    assert hangs.reached.wait(PATIENCE)
    writer.close(timeout=0)
    hangs.go_on.set()
    writer._thread.join(PATIENCE)
    assert (writer.stats().lost_rows, writer.stats().pending_rows) == (2, 0)


class Keeps:
    """A storing sink that stores what it took when it is told to."""

    is_waited_for = False

    def __init__(self):
        self.taken, self.told, self.stored, self.lost = [], [], threading.Event(), 0
        self.metrics = None

    def __call__(self, name, doc):
        self.taken.append(name)

    def wait(self, timeout=None):
        return self.stored.wait(timeout)

    def tell_when_stored(self, uid, told):
        assert "stop" not in self.taken
        self.told.append((uid, told))

    def stats(self):
        rows = self.taken.count("event")
        stored = self.stored.is_set()
        return SimpleNamespace(
            stored_rows=rows if stored else 0,
            spooled_rows=0 if stored else rows,
            quarantined_rows=0,
            lost_rows=self.lost,
        )

    def report_to(self, metrics):
        self.metrics = metrics


def one_run(writer, frames=2):
    run, progress = analysis_of("raw")
    for index in range(frames):
        writer.put(progress, row(index), wait=True)
    writer.stop(run, {("primary", "image"): frames}, 2.0)
    return run


def test_what_a_storing_sink_took_counts_when_it_is_stored_and_not_before(make_writer, recorder):
    sink = Keeps()
    writer = make_writer(sink, recorder)
    run = one_run(writer)
    until(lambda: make_writer.finished)
    assert not writer.wait(0.01)
    assert make_writer.stored == []
    stats = writer.stats()
    assert (stats.rows, stats.stored_rows, stats.spooled_rows, stats.lost_rows) == (2, 0, 2, 0)
    sink.stored.set()
    ((uid, told),) = sink.told
    assert uid == run.analyses[0].analysis.uid
    told(uid)
    assert make_writer.stored == [run]
    assert writer.wait(PATIENCE)
    stats = writer.stats()
    assert (stats.rows, stats.stored_rows, stats.spooled_rows) == (2, 2, 0)


def test_a_run_is_stored_once_all_storing_sinks_have_it(make_writer):
    sinks = Keeps(), Keeps()
    writer = make_writer(*sinks)
    run = one_run(writer)
    until(lambda: make_writer.finished)
    for sink in sinks:
        assert make_writer.stored == []
        ((uid, told),) = sink.told
        told(uid)
    assert make_writer.stored == [run]


def test_a_run_that_was_stored_before_the_writer_has_looked_is_told_once(make_writer):
    class Quick(Keeps):
        def __call__(self, name, doc):
            super().__call__(name, doc)
            if name == "stop":
                ((uid, told),) = self.told
                told(uid)

    writer = make_writer(Quick())
    run = one_run(writer)
    until(lambda: make_writer.stored)
    assert make_writer.stored == [run]


def test_what_another_sink_refused_is_never_stored(make_writer):
    def broken(name, doc):
        raise ValueError("boom")

    sink = Keeps()
    writer = make_writer(sink, broken)
    one_run(writer)
    until(lambda: make_writer.finished)
    ((uid, told),) = sink.told
    told(uid)
    assert make_writer.stored == []


def test_rows_that_a_storing_sink_lost_are_lost_and_the_record_is_its_own_too(make_writer):
    sink, metrics = Keeps(), Metrics()
    writer = make_writer(sink, metrics=metrics)
    sink.lost = 3
    assert writer.stats().lost_rows == 3
    assert writer.stats().given_up_rows == 0
    assert sink.metrics is metrics


def test_of_a_sink_that_does_not_say_what_it_took_counts(make_writer, recorder):
    writer = make_writer(recorder)
    run = one_run(writer)
    assert writer.wait(PATIENCE)
    assert make_writer.stored == [run]
    assert (writer.stats().stored_rows, writer.stats().spooled_rows) == (2, 0)


def test_lost_rows_are_in_the_metrics(make_writer):
    metrics = Metrics()
    writer = make_writer(metrics=metrics)
    writer.close(0)
    _, progress = analysis_of("raw")
    writer.put(progress, row(0), wait=False)
    assert metrics.snapshot()["dvfb_lost_rows"]["values"][0]["value"] == writer.stats().lost_rows == 1


def test_who_catches_up_waits_for_the_rows_that_are_due_and_for_what_is_told_of_each(make_writer):
    sink, told = Hangs(), []
    writer = make_writer(sink, on_row=lambda progress: told.append(progress.written))
    _, progress = analysis_of("raw")
    for index in (0, 1, 5):  # the last one waits for others, and nobody for it
        writer.put(progress, row(index), wait=False)
    assert sink.reached.wait(PATIENCE)
    caught_up = []
    waiting = threading.Thread(target=lambda: caught_up.append(writer.catch_up()))
    waiting.start()
    sink.go_on.set()
    waiting.join(PATIENCE)
    assert caught_up == [True]
    assert told == [1, 2]
    assert writer.stats().pending_rows == 1


@pytest.mark.parametrize("end", ["closed", "abandoned"])
def test_nobody_waits_to_catch_up_with_a_sink_that_hangs_in_the_end(make_writer, end):
    sink = Hangs()
    writer = make_writer(sink, max_rows=1)
    _, progress = analysis_of("raw")
    other_run, other = analysis_of("other")
    writer.put(progress, row(0), wait=False)
    assert sink.reached.wait(PATIENCE)
    writer.put(other, row(0), wait=False)
    caught_up = []
    waiting = threading.Thread(target=lambda: caught_up.append(writer.catch_up()))
    waiting.start()
    if end == "closed":
        writer.close(0)
    else:
        writer.abandon(other_run)
        sink.go_on.set()
    waiting.join(PATIENCE)
    assert caught_up == [end != "closed"]
    sink.go_on.set()
