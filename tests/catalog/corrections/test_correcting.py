"""What somebody says of a frame is stored once, beside everything that was there, and found again."""

from __future__ import annotations

import getpass
import json
import re
from typing import Any

import event_model
import httpx
import pytest
from tiled.client import from_uri
from tiled.queries import Key

from dvfb_stream.catalog import find_runs, read_annotations
from dvfb_stream.catalog.corrections import (
    CorrectionsRefusedError,
    WantedCorrection,
    by_frame,
    correct,
    correct_many,
    corrected_labels,
    corrections_of,
    pages,
    read_corrections,
    undo,
)
from dvfb_stream.catalog.corrections import documents as documents_module
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError
from dvfb_stream.errors import SettingsError

from ..test_place import take_runs, walk
from ..test_store import Cut
from .conftest import OTHER, RUN


def labels_of(client: Any, frame: int = 1, raw_uid: str = RUN) -> tuple[str, ...]:
    """What a frame of the newest analysis run has, as people have it."""
    rows = [row for row in read_annotations(client, raw_uid) if row["frame"] == frame]
    of_frame = [one for one in corrections_of(client, [raw_uid]) if one.origin.index == frame]
    return corrected_labels(rows[-1]["labels"].split(","), of_frame)


def test_a_correction_says_who_when_and_on_which_row(raw, annotate):
    analysis = annotate(raw, 0.9, 0.1)
    made = correct(raw, RUN, 0, add=["four_fold"], remove=["rings"], by="ann", note="seen by eye")
    (found,) = corrections_of(raw)
    assert found == made
    assert (found.by, found.note, found.origin.run_uid, found.origin.index) == ("ann", "seen by eye", RUN, 0)
    assert (found.add, found.remove, found.undone_by) == (("four_fold",), ("rings",), "")
    row = found.row
    assert (row.analysis_uid, row.model, row.model_sha256) == (analysis, "small", "0" * 64)
    assert (row.status, row.labels, row.doubtful) == ("ok", ("rings",), ())
    assert row.scores["rings"] == 0.9
    assert len(row.scores) == 10
    assert labels_of(raw, 0) == ("four_fold",)


def test_nothing_that_was_there_is_changed(raw, annotate):
    uid, _ = take_runs(raw, 7, 8)
    annotate(raw, 0.9, 0.9, raw_uid=uid)
    before, rows, place = walk(raw), read_annotations(raw, uid), list(find_place(raw))
    undo(raw, correct(raw, uid, 0, remove=["rings"], by="ann").uid, by="ann")
    assert walk(raw) == before
    assert str(read_annotations(raw, uid)) == str(rows)
    assert list(find_place(raw)) == place
    assert find_runs(raw, "rings") == [uid]


def test_documents_are_blueskys_and_open_with_its_client(raw, annotate):
    annotate(raw, 0.9)
    made = correct(raw, RUN, 0, remove=["rings"], by="ann")
    taken_back = undo(raw, made.uid, by="bob")
    beside = raw.parent[f"{raw.item['id']}_corrections"]
    assert type(beside).__name__ == "CatalogOfBlueskyRuns"
    assert {spec.name for spec in beside.specs} == {"DvfbCorrections", "CatalogOfBlueskyRuns"}
    assert list(beside) == [made.uid, taken_back.uid]
    for run in beside.values():
        event_model.schema_validators[event_model.DocumentNames.start].validate(dict(run.metadata["start"]))
        event_model.schema_validators[event_model.DocumentNames.stop].validate(dict(run.metadata["stop"]))
        assert list(run) == []
    assert beside[-1].metadata["start"]["correction"]["by"] == "bob"
    assert list(beside.search(Key("start.correction.by") == "ann")) == [made.uid]
    assert list(beside.search(Key("start.correction.undoes") == made.uid)) == [taken_back.uid]


def test_the_login_name_is_who_says_so_where_nobody_is_named(annotated):
    assert correct(annotated, RUN, 2, add=["halo"]).by == getpass.getuser()


@pytest.mark.parametrize("run", [RUN, RUN[:8], 7, "7"])
def test_runs_are_called_what_they_are_called_by_bluesky(annotated, run):
    assert correct(annotated, run, 2, add=["weak"], by="ann").origin.run_uid == RUN


@pytest.mark.parametrize("run", [-1, "-1", 8, OTHER[:5]])
def test_the_last_run_is_minus_one(annotated, run):
    assert correct(annotated, run, 0, add=["weak"], by="ann").origin.run_uid == OTHER


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        ("nope", "'nope' names no run: give its uid or the first 5"),
        ("99999999", "no raw run with the uid '99999999'"),
        ("33333333-aaaa-4bbb-8ccc-000000000003", "no raw run with the uid '33333333-"),
        ("1111%", "'1111%' names no run"),
        (99, "no raw run has the scan number 99"),
        ("99", "no raw run has the scan number 99"),
        (-5, "there is no run -5: the catalog has 2 raw runs"),
        (True, "not by True"),
        ([RUN], "not by \\['1111"),
        (1.0, "not by 1.0"),
    ],
)
def test_a_run_that_is_not_there_is_named(annotated, run, reason):
    with pytest.raises(SettingsError, match=reason):
        correct(annotated, run, 0, add=["rings"], by="ann")


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"frame": 4}, "has no row of frame 4 of 'image'; it has those of frames 0 to 3"),
        ({"frame": -1}, "frame is -1; frames are counted 0, 1, 2"),
        ({"frame": "0"}, "frame is '0'"),
        ({"frame": True}, "frame is True"),
        ({"frame": 2**70}, "frame is 1180"),
        ({"add": ["four-fold"]}, "unknown label 'four-fold'; did you mean four_fold"),
        ({"add": ["?"]}, "unknown label '\\?'; the labels are diffuse_low_q"),
        ({"add": "rings"}, "add is a list of labels, not the text 'rings'; give \\['rings'\\]"),
        ({"add": ["halo"], "remove": ["halo"]}, "halo is both added and removed"),
        ({"add": ["symmetry_halo"], "remove": ["halo"]}, "has halo by definition"),
        ({"add": []}, "no label is added or removed; to confirm"),
        ({"by": ""}, "by is the name of who says so, not ''"),
        ({"by": "  "}, "by is the name"),
        ({"by": "x" * 201}, "by has 201 characters; 200 at most"),
        ({"note": "x" * 2001}, "note has 2001 characters"),
        ({"note": 5}, "note is a text, not 5"),
        ({"data_key": "saxs"}, "no annotations of data_key 'saxs'; it has primary/image by small"),
        ({"stream": "baseline"}, "no annotations of stream 'baseline'"),
        ({"model": "large"}, "no annotations of model 'large'; it has primary/image by small \\(000000"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_value_and_the_cure(annotated, how, reason):
    before = len(corrections_of(annotated))
    with pytest.raises(SettingsError, match=reason):
        correct(annotated, RUN, **({"frame": 0, "add": ["rings"], "by": "ann"} | how))
    assert len(corrections_of(annotated)) == before


def test_a_run_without_annotations_is_named(raw, annotate):
    take_runs(raw, 7)
    with pytest.raises(SettingsError, match="has no annotations; make them first: dvfb annotate"):
        correct(raw, -1, 0, add=["rings"], by="ann")
    assert corrections_of(raw) == []


def test_a_client_that_is_no_container_is_refused(annotated):
    for call in (
        lambda: correct("http://localhost", RUN, 0, add=["rings"]),
        lambda: corrections_of("http://localhost"),
        lambda: undo("http://localhost", "12345"),
    ):
        with pytest.raises(SettingsError, match="must be a Tiled client"):
            call()
    with pytest.raises(SettingsError, match="raw_uids is a list"):
        corrections_of(annotated, RUN)


def test_a_frame_without_probabilities_can_be_labelled(annotated):
    made = correct(annotated, RUN, 3, add=["saturated"], by="ann")
    assert (made.row.status, made.row.labels, dict(made.row.scores)) == ("failed", (), {})
    assert made in corrections_of(annotated, [RUN])


def test_of_several_detectors_one_is_named(raw, annotate):
    annotate(raw, 0.9, data_key="saxs")
    waxs = annotate(raw, 0.1, data_key="waxs")
    with pytest.raises(
        SettingsError, match=r"several detectors: primary/saxs by small .*primary/waxs.*by data_key"
    ):
        correct(raw, RUN, 0, add=["rings"], by="ann")
    assert correct(raw, RUN, 0, add=["rings"], by="ann", data_key="waxs").row.analysis_uid == waxs
    assert [one.origin.data_key for one in corrections_of(raw)] == ["waxs"]


def test_a_newer_model_does_not_overrule_people_and_the_row_they_saw_is_told(raw, annotate):
    old = annotate(raw, 0.9, 0.9)
    correct(raw, RUN, 1, add=["four_fold"], remove=["rings"], by="ann")
    new = annotate(raw, 0.9, 0.9, model="large")
    assert labels_of(raw, 1) == ("four_fold",)
    (found,) = corrections_of(raw, [RUN])
    assert (found.row.analysis_uid, found.row.model) == (old, "small")
    by_default = correct(raw, RUN, 0, add=["weak"], by="ann")
    assert (by_default.row.analysis_uid, by_default.row.model) == (new, "large")
    for name in ("small", "small@1"):
        assert correct(raw, RUN, 0, add=["weak"], by="ann", model=name).row.analysis_uid == old


def test_two_people_contradict_each_other(raw, annotate):
    annotate(raw, 0.9, 0.1)
    correct(raw, RUN, 1, add=["four_fold"], by="ann")
    assert labels_of(raw) == ("four_fold",)
    bob = correct(raw, RUN, 1, remove=["four_fold"], by="bob")
    assert labels_of(raw) == ()
    assert [one.by for one in corrections_of(raw)] == ["ann", "bob"]
    undo(raw, bob.uid[:8], by="ann", note="look again")
    assert labels_of(raw) == ("four_fold",)
    assert [(one.by, bool(one.undone_by)) for one in corrections_of(raw)] == [("ann", False), ("bob", True)]


def test_a_slow_clock_does_not_make_a_person_go_unheard(raw, annotate, monkeypatch):
    annotate(raw, 0.9, 0.1)
    ann = correct(raw, RUN, 1, add=["four_fold"], by="ann")
    monkeypatch.setattr("time.time", lambda: ann.time - 3600)
    bob = correct(raw, RUN, 1, remove=["four_fold"], by="bob")
    assert ann.time < bob.time < ann.time + 1e-3
    assert labels_of(raw) == ()


def test_an_undo_is_undone(raw, annotate):
    annotate(raw, 0.9, 0.1)
    made = correct(raw, RUN, 1, add=["four_fold"], by="ann")
    first = undo(raw, made.uid, by="bob")
    assert labels_of(raw) == ()
    with pytest.raises(SettingsError, match=f"is undone already, by {first.uid}; undo that"):
        undo(raw, made.uid, by="bob")
    second = undo(raw, first.uid[:6], by="ann", note="it was right")
    assert labels_of(raw) == ("four_fold",)
    undo(raw, second.uid, by="bob")
    assert labels_of(raw) == ()
    assert [one.by for one in read_corrections(raw, [RUN]).undos] == ["bob", "ann", "bob"]


@pytest.mark.parametrize("uid", ["", "1234", "99999999", 5])
def test_what_is_not_there_cannot_be_undone(annotated, uid):
    with pytest.raises(SettingsError, match=r"no correction or undo|named by its uid"):
        undo(annotated, uid, by="ann")


def wanted(count: int, run: str = RUN, **how: Any) -> list[WantedCorrection]:
    how = {"add": ["four_fold"]} | how
    return [WantedCorrection(run=run, frame=frame, line=frame + 2, **how) for frame in range(count)]


def test_many_frames_of_many_runs_count_at_once(raw, annotate, monkeypatch):
    monkeypatch.setattr(documents_module, "FRAMES_OF_A_RUN", 3)
    annotate(raw, *[0.9] * 5)
    annotate(raw, *[0.1] * 3, raw_uid=OTHER, scan_id=8)
    steps: list[tuple[str, int, int]] = []
    made = correct_many(
        raw,
        [*wanted(5), *wanted(3, "8", note="of its own")],
        by="ann",
        on_progress=lambda *step: steps.append(step),
    )
    found = corrections_of(raw)
    assert {one.uid: one for one in found} == {one.uid: one for one in made}
    assert len({one.uid for one in found}) == 8
    assert {one.call for one in found} == {made[0].call}
    assert [one.note for one in made] == [""] * 5 + ["of its own"] * 3
    assert steps[-1] == ("storing", 4, 4)
    assert {what for what, *_ in steps} == {"looking for runs", "reading rows", "storing"}
    assert {one.origin.index for one in corrections_of(raw, [OTHER])} == {0, 1, 2}
    assert len(by_frame(found)) == 8
    undo(raw, made[0].call, by="ann")
    assert all(one.undone_by for one in corrections_of(raw, [OTHER]))


def test_one_frame_of_many_is_taken_back(raw, annotate):
    annotate(raw, *[0.9] * 3)
    made = correct_many(raw, wanted(3), by="ann")
    undo(raw, made[1].uid, by="ann")
    assert [bool(one.undone_by) for one in sorted(corrections_of(raw), key=lambda one: one.origin.index)] == [
        False,
        True,
        False,
    ]


def test_each_wrong_line_is_named_and_nothing_is_stored(raw, annotate):
    annotate(raw, *[0.9] * 3)
    lines = [
        *wanted(3),
        WantedCorrection(run=RUN, frame=0, add=["rings"], line=5),
        WantedCorrection(run=RUN, frame=7, add=["rings"], line=6),
        WantedCorrection(run="nope", frame=0, add=["rings"], line=7),
        WantedCorrection(run=RUN, frame=0, add=["ring"], line=8),
    ]
    with pytest.raises(
        CorrectionsRefusedError, match=r"line 5: .*\(and 3 more\); nothing was stored"
    ) as refused:
        correct_many(raw, lines, by="ann")
    assert [line for line, _ in refused.value.problems] == [5, 6, 7, 8]
    reasons = " | ".join(reason for _, reason in refused.value.problems)
    for part in (
        "frame 0 of run 1111.* is in line 2, too",
        "no row of frame 7",
        "'nope'",
        "did you mean rings",
    ):
        assert re.search(part, reasons), part
    assert corrections_of(raw) == []


def test_what_was_killed_between_the_parts_of_a_call_does_not_count(raw, annotate, monkeypatch):
    monkeypatch.setattr(documents_module, "FRAMES_OF_A_RUN", 2)
    annotate(raw, *[0.9] * 5)

    class Killed(BaseException):
        pass

    def tell(what: str, done: int, total: int) -> None:
        if (what, done) == ("storing", 3):
            raise Killed

    with pytest.raises(Killed):
        correct_many(raw, wanted(5), by="ann", on_progress=tell)
    assert len(raw.parent[f"{raw.item['id']}_corrections"]) == 3
    assert corrections_of(raw) == corrections_of(raw, [RUN]) == []
    assert len(correct_many(raw, wanted(5), by="ann")) == len(corrections_of(raw)) == 5


@pytest.mark.parametrize("answered", [False, True])
def test_whatever_request_or_answer_is_lost_a_correction_is_there_once_or_the_call_fails(
    raw, annotate, answered
):
    annotate(raw, 0.9)
    correct(raw, RUN, 0, add=["weak"], by="ann")
    failed = 0
    for number in range(1, 40):
        before = len(corrections_of(raw))
        with Cut(raw) as cut:
            cut.answered, cut.left = answered, number
            try:
                correct(raw, RUN, 0, add=["halo"], by="ann")
            except StoreUnavailableError:
                failed += 1
                expected = 0
            else:
                expected = 1
            is_beyond_the_last = cut.left > 0
        assert len(corrections_of(raw)) == before + expected, number
        if is_beyond_the_last:
            break
    assert is_beyond_the_last
    assert failed


def test_an_answer_that_does_not_come_at_all_is_an_error_and_says_which_correction_is_in_doubt(
    raw, annotate, monkeypatch
):
    annotate(raw, 0.9)
    http = raw.context.http_client
    send = http.send

    def away(request: httpx.Request, **how: Any) -> httpx.Response:
        if request.method == "POST" and "_corrections" in str(request.url):
            send(request, **how)
            monkeypatch.setattr(http, "send", gone)
            raise httpx.ReadTimeout("no answer", request=request)
        return send(request, **how)

    def gone(request: httpx.Request, **_: Any) -> httpx.Response:
        raise httpx.ConnectError("gone", request=request)

    monkeypatch.setattr(http, "send", away)
    with pytest.raises(StoreUnavailableError, match=r"storing the correction [0-9a-f-]{36} failed"):
        correct(raw, RUN, 0, add=["halo"], by="ann")
    monkeypatch.setattr(http, "send", send)


def test_what_was_not_there_when_it_was_read_back_does_not_count(raw, annotate, monkeypatch):
    annotate(raw, 0.9)
    correct(raw, RUN, 0, add=["halo"], by="ann")
    http = raw.context.http_client
    send = http.send
    lost = 0

    def losing(request: httpx.Request, **how: Any) -> httpx.Response:
        nonlocal lost
        response = send(request, **how)
        if request.method == "POST":
            lost += 1
            node = httpx.Request(
                "DELETE", f"{request.url}/{json.loads(request.content)['id']}", headers=request.headers
            )
            del node.headers["content-length"]
            assert send(node).is_success
        return response

    monkeypatch.setattr(http, "send", losing)
    with pytest.raises(StoreUnavailableError, match="was not there when it was read back"):
        correct(raw, RUN, 0, add=["rings"], by="ann")
    assert lost == 3
    monkeypatch.setattr(http, "send", send)
    assert [one.add for one in corrections_of(raw)] == [("halo",)]


def test_many_calls_are_read_in_few_requests(raw, annotate, monkeypatch):
    annotate(raw, 0.9)
    made = [correct(raw, RUN, 0, add=["halo"], by="ann") for _ in range(5)]
    sent = []
    http = raw.context.http_client
    send = http.send
    monkeypatch.setattr(http, "send", lambda request, **how: sent.append(request) or send(request, **how))
    assert corrections_of(raw, [RUN]) == corrections_of(raw) == made
    assert len(sent) == 2
    monkeypatch.setattr(pages, "_PAGE", 2)
    sent.clear()
    assert corrections_of(raw, [RUN]) == made
    assert len(sent) == 3


def test_a_key_that_may_not_write_is_named(raw, annotate):
    annotate(raw, 0.9)
    correct(raw, RUN, 0, add=["halo"], by="ann")
    stranger = from_uri(raw.uri, api_key=raw.context.api_key)
    try:
        refuse_posts(stranger)
        with pytest.raises(
            StoreRefusedError, match=r"403.*TILED_API_KEY a key that may read and create in"
        ) as refused:
            correct(stranger, RUN, 0, add=["rings"], by="ann")
        assert refused.value.everything
        assert len(corrections_of(stranger)) == 1
    finally:
        stranger.context.close()


def refuse_posts(client: Any) -> None:
    send = client.context.http_client.send

    def answer(request: httpx.Request, **how: Any) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(403, request=request, json={"detail": "Not enough permissions."})
        return send(request, **how)

    client.context.http_client.send = answer


def test_corrections_are_read_through_whatever_client_is_at_hand(raw, annotate):
    annotate(raw, 0.9)
    made = correct(raw, RUN, 0, add=["halo"], by="ann")
    beside = raw.parent[f"{raw.item['id']}_corrections"]
    for client in (raw, find_place(raw), beside):
        assert corrections_of(client) == [made]
    assert made in corrections_of(raw.parent)
    assert correct(find_place(raw), RUN, 0, add=["weak"], by="ann") in corrections_of(raw, [RUN])
    assert corrections_of(raw, []) == []
    assert corrections_of(raw, [OTHER]) == []
    assert len(corrections_of(raw, [RUN, OTHER])) == 2


def test_what_is_no_correction_is_left_out_with_a_warning(raw, annotate, caplog):
    annotate(raw, 0.9)
    made = correct(raw, RUN, 0, add=["halo"], by="ann")
    beside = raw.parent[f"{raw.item['id']}_corrections"]
    start = {"uid": "odd", "time": 1.0, "correction": {"kind": "dvfb-correction", "frames": [{}]}}
    beside.create_container("odd", metadata={"start": start})
    beside.create_container("empty")
    beside.create_container(
        "later", metadata={"start": {"uid": "later", "correction": {"kind": "something new"}}}
    )
    assert corrections_of(raw) == [made]
    assert "the run odd beside the annotations is no correction" in caplog.text
