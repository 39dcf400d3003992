from __future__ import annotations

import io
import math
import uuid
from dataclasses import replace

import pytest
from rich.console import Console

from dvfb_stream.callbacks import AnnotationTable
from dvfb_stream.callbacks.annotation_table import MAX_OPEN_RUNS


@pytest.fixture
def printed(make_pipeline):
    """Return a function that annotates raw documents and returns what the table printed, line by line."""

    def annotate(*runs, **settings):
        paper = io.StringIO()
        pipeline = make_pipeline(sinks=[AnnotationTable(Console(file=paper, width=200))], **settings)
        for name, doc in (document for run in runs for document in run):
            pipeline(name, doc)
        assert pipeline.wait(10)
        assert pipeline.stats().writer.sink_failures == 0
        return [[cell.strip() for cell in line.split("|")] for line in paper.getvalue().splitlines()]

    return annotate


def test_there_is_a_line_per_frame_and_one_per_run(printed, raw_documents):
    raw = raw_documents()
    head, columns, *rows, total = printed(raw.whole(10, 90))
    assert head == [f"primary · image of run {raw.uid[:8]} · model brightness 1"]
    assert columns == ["scan", "frame", "residual", "novelty", "order", "status", "labels"]
    assert rows == [
        ["7", "0", "0.250", "0.500", "-", "ok", ""],
        ["7", "1", "0.250", "0.500", "4 0.90", "ok", "rings 0.90, halo 0.90?"],
    ]
    assert total == ["7", "2 frames: rings 1; doubtful: halo 1"]


def test_doubtful_labels_are_dim_and_stand_alone_where_none_is_accepted(
    make_pipeline, raw_documents, annotator
):
    annotate = annotator.annotate
    annotator.annotate = lambda frames: [replace(one, labels=()) for one in annotate(frames)]
    paper = io.StringIO()
    console = Console(file=paper, width=200, force_terminal=True, color_system="standard")
    pipeline = make_pipeline(sinks=[AnnotationTable(console)])
    for name, doc in raw_documents().whole(90):
        pipeline(name, doc)
    assert pipeline.wait(10)
    row, total = paper.getvalue().splitlines()[-2:]
    assert row.endswith("| ok      | \x1b[2mhalo 0.90?\x1b[0m")
    assert total.endswith("no labels\x1b[0m\x1b[2m; doubtful: halo 1\x1b[0m")


def test_a_failed_frame_shows_its_reason(printed, raw_documents):
    *_, row, total = printed(raw_documents().whole(math.nan))
    assert row == ["7", "0", "-", "-", "-", "failed", "pixels are not finite"]
    assert total == ["7", "1 frames, 1 failed: no labels"]


def test_reasons_and_names_are_printed_as_they_are(printed, raw_documents):
    raw = raw_documents(scan_id=8)
    *_, row, _ = printed([raw.start(), raw.descriptor(), raw.event(image="[red]x[/red]"), raw.stop()])
    assert "'[red]x[/red]'" in row[-1]


def test_rows_of_interleaved_runs_stand_under_their_heads(printed, raw_documents):
    one, two = raw_documents(scan_id=1), raw_documents(scan_id=2)
    order = [pair for pairs in zip(one.whole(10, 20), two.whole(30, 40), strict=True) for pair in pairs]
    lines = printed(order)
    heads = [line[0] for line in lines if "model brightness" in line[0]]
    assert {head.split("run ")[1][:8] for head in heads} == {one.uid[:8], two.uid[:8]}
    assert [line[:2] for line in lines if len(line) == 7 and line[0] == "2"] == [["2", "0"], ["2", "1"]]


def test_documents_of_raw_runs_are_left_alone(raw_documents):
    paper = io.StringIO()
    table = AnnotationTable(Console(file=paper))
    for name, doc in raw_documents().whole(10):
        table(name, doc)
    assert paper.getvalue() == ""


def test_a_reason_stays_on_its_line_and_tells_the_terminal_nothing(printed, raw_documents, annotator):
    def broken(frames):
        raise RuntimeError("kernel failed\nfor debugging pass X=1\x1b[2J\u202e")

    annotator.annotate = broken
    *_, row, _ = printed(raw_documents().whole(1))
    assert row[-1] == "RuntimeError: kernel failed for debugging pass X=1\ufffd[2J\ufffd"


@pytest.mark.parametrize("scan_id", [[1, 2], {"a": 1}, "line\nline", 1.5, b"x"])
def test_a_scan_id_may_be_anything(make_pipeline, recorder, raw_documents, scan_id):
    """As in analysis runs that others have written."""
    pipeline = make_pipeline()
    for name, doc in raw_documents().whole(10):
        pipeline(name, doc)
    assert pipeline.wait(10)
    paper = io.StringIO()
    table = AnnotationTable(Console(file=paper, width=200))
    for name, doc in recorder.documents:
        named = {"analysis": doc["analysis"] | {"raw": {"scan_id": scan_id}}} if name == "start" else {}
        table(name, doc | named)
    row, total = (line.split("|")[0].strip() for line in paper.getvalue().splitlines()[-2:])
    assert row == total == str(scan_id).replace("\n", r"\n")


def test_runs_that_never_stop_are_forgotten_in_time():
    paper = io.StringIO()
    table = AnnotationTable(Console(file=paper, width=200))
    analysis = {
        "stream": "primary",
        "data_key": "image",
        "parent": "raw",
        "model": {"name": "m", "version": "1"},
        "raw": {"scan_id": 7},
    }
    values = {"frame": 0, "fit_residual": 0.1, "novelty": 0.1, "status": "ok", "labels": "", "reason": ""}
    uids = [str(uuid.uuid4()) for _ in range(MAX_OPEN_RUNS + 1)]
    for uid in uids:
        table("start", {"uid": uid, "analysis": analysis})
        table("descriptor", {"uid": f"of {uid}", "run_start": uid})
    for uid in (uids[0], uids[1], uids[-1]):
        table("event", {"descriptor": f"of {uid}", "data": values})
    assert paper.getvalue().count("scan | ") == 2
