from __future__ import annotations

import math
from typing import Any

import pytest
from bluesky_tiled_plugins import TiledWriter

from dvfb_stream.catalog import TiledSink, read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.labels import FURTHER_LABELS
from dvfb_stream.rows import COLUMNS, to_dataframe

PATIENCE = 120.0
SCORES = (0.1, 0.9, None, 0.8, 0.7, 0.2, 0.6)


def send(sink: Any, documents: list[tuple[str, dict[str, Any]]]) -> None:
    """Give documents to a sink, and wait until they are stored."""
    for name, doc in documents:
        sink(name, doc)
    assert not isinstance(sink, TiledSink) or sink.wait(PATIENCE)


def run_of(client: Any, uid: str) -> Any:
    return find_place(client)[uid]


def stored_frames(client: Any, uid: str) -> list[int]:
    """Frames as Bluesky's client reads them."""
    return run_of(client, uid)["annotations"]["frame"].read().tolist()


EACH_ONCE = list(range(len(SCORES)))


def test_a_run_is_stored_with_its_rows_and_its_summary(client, analysis_documents):
    documents = analysis_documents(*SCORES)
    send(TiledSink(client, batch_size=3), documents)

    run = run_of(client, documents[0][1]["uid"])
    assert run.metadata["start"]["analysis"]["parent"] == "raw-1"
    assert run.metadata["stop"]["summary"] == documents[-1][1]["summary"]
    rows = read_annotations(client, "raw-1")
    assert [row["frame"] for row in rows] == list(range(7))
    assert [row["labels"] for row in rows] == ["", "rings", "", "rings", "rings", "", "rings"]
    assert [row["rings"] for row in rows if row["status"] == "ok"] == [s for s in SCORES if s is not None]
    failed = rows[2]
    assert failed["reason"] == "nothing is visible"
    assert math.isnan(failed["rings"])
    assert math.isnan(failed["fit_residual"])
    assert [row["doubtful"] for row in rows] == [""] * 7
    assert [row["measured_order"] for row in rows] == [0, 2, 0, 2, 2, 0, 2]
    assert [row["measured_contrast"] for row in rows if row["status"] == "ok"] == [
        s / 2 for s in SCORES if s is not None
    ]
    assert math.isnan(failed["measured_contrast"])


def test_a_doubtful_label_is_stored_beside_the_accepted_ones(client, analysis_documents):
    send(TiledSink(client), analysis_documents(0.9, 0.4))
    rows = read_annotations(client, "raw-1")
    assert [(row["labels"], row["doubtful"]) for row in rows] == [("rings", ""), ("", "rings")]


def as_before(name: str, doc: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a document as the first version wrote it: the ten labels, nothing measured, nothing in doubt."""
    later = {*FURTHER_LABELS, "doubtful", "measured_order", "measured_contrast"}

    def left(mapping: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in mapping.items() if key not in later}

    match name:
        case "descriptor":
            return name, doc | {"data_keys": left(doc["data_keys"])}
        case "event":
            return name, doc | {"data": left(doc["data"]), "timestamps": left(doc["timestamps"])}
    return name, doc


def test_rows_of_an_earlier_version_are_read_with_what_they_lack_unknown(client, analysis_documents):
    send(
        TiledWriter(client, normalizer=None),
        [as_before(*document) for document in analysis_documents(0.9, 0.4)],
    )
    one, two = rows = read_annotations(client, "raw-1")
    assert [list(row) for row in rows] == [[column.name for column in COLUMNS]] * 2
    assert (one["rings"], one["labels"], two["rings"]) == (0.9, "rings", 0.4)
    for row in rows:
        assert (row["doubtful"], row["measured_order"]) == ("", 0)
        assert all(math.isnan(row[name]) for name in (*FURTHER_LABELS, "measured_contrast"))
    assert list(to_dataframe(rows)["measured_order"]) == [0, 0]


@pytest.mark.parametrize("n_documents", [2, 4, 6])
def test_a_run_that_an_earlier_version_began_is_finished_with_the_columns_it_has(
    client, analysis_documents, n_documents, caplog
):
    """Updating the software between a kill and the next start must not make a run that is never stored."""
    documents = analysis_documents(*SCORES)
    uid = documents[0][1]["uid"]
    send(TiledSink(client, batch_size=2), [as_before(*document) for document in documents[:n_documents]])
    begun = n_documents > 2

    send(TiledSink(client, batch_size=2), documents)

    assert run_of(client, uid).metadata["stop"]["summary"]["frames"] == 7
    rows = read_annotations(client, "raw-1")
    assert [row["frame"] for row in rows] == list(range(7))
    assert [row["rings"] for row in rows if row["status"] == "ok"] == [s for s in SCORES if s is not None]
    assert [row["novelty"] for row in rows if row["status"] == "ok"] == [0.5] * 6
    assert [row["labels"] for row in rows] == ["", "rings", "", "rings", "rings", "", "rings"]
    # Where no row was stored, the table is made by this version.
    assert rows[-1]["measured_order"] == (0 if begun else 2)
    assert ("begun by another version" in caplog.text) is begun
    if begun:
        assert "without grazing, rings_isotropic" in caplog.text


def test_a_run_of_a_later_version_is_finished_too(client, analysis_documents, caplog):
    documents = analysis_documents(*SCORES)

    def later(name: str, doc: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if name != "event":
            return name, doc
        return name, doc | {
            "data": {"blobs": 0.5, **doc["data"]},
            "timestamps": {"blobs": doc["time"], **doc["timestamps"]},
        }

    send(TiledSink(client, batch_size=2), [later(*document) for document in documents[:4]])
    send(TiledSink(client, batch_size=2), documents)
    uid = documents[0][1]["uid"]
    assert stored_frames(client, uid) == EACH_ONCE
    assert run_of(client, uid).metadata["stop"]["summary"]["frames"] == 7
    assert [row["labels"] for row in read_annotations(client, "raw-1")][3:] == ["rings", "rings", "", "rings"]


def test_a_run_whose_first_frames_all_failed_keeps_the_numbers_of_the_later_ones(client, analysis_documents):
    send(TiledSink(client, batch_size=2), analysis_documents(None, None, 0.9))
    assert [row["rings"] for row in read_annotations(client, "raw-1")][2] == 0.9


def test_a_stored_run_is_left_alone(client, analysis_documents):
    documents = analysis_documents(*SCORES)
    sink = TiledSink(client)
    send(sink, documents)
    send(sink, documents)
    send(TiledSink(client), documents)
    assert stored_frames(client, documents[0][1]["uid"]) == EACH_ONCE


def test_a_stored_run_of_another_geometry_is_left_alone_and_said_so(client, analysis_documents, caplog):
    documents = analysis_documents(*SCORES)
    send(TiledSink(client), documents)
    send(TiledSink(client), documents)
    assert "another geometry" not in caplog.text

    start = documents[0][1]
    moved = start | {"analysis": start["analysis"] | {"geometry": {"center_x": 3.5}}}
    send(TiledSink(client), [("start", moved), *documents[1:]])
    assert stored_frames(client, start["uid"]) == EACH_ONCE
    assert "stored already, with another geometry" in caplog.text

    place = find_place(client)
    place.delete_contents([start["uid"]], recursive=True, external_only=False)
    send(TiledSink(client), [("start", moved), *documents[1:]])
    assert place[start["uid"]].metadata["start"]["analysis"]["geometry"] == {"center_x": 3.5}
    assert stored_frames(client, start["uid"]) == EACH_ONCE


def test_a_stored_run_with_failed_rows_is_left_alone_and_said_so(client, analysis_documents, caplog):
    documents = analysis_documents(0.5, None, 0.5)
    send(TiledSink(client), documents)
    assert "stored already" not in caplog.text
    send(TiledSink(client), documents)
    assert "stored already, with 1 of 3 rows failed" in caplog.text


def test_two_sinks_that_write_the_same_run_at_a_time_store_it_once(client, analysis_documents):
    documents = analysis_documents(*SCORES)
    first, second = TiledSink(client, batch_size=2), TiledSink(client, batch_size=3)
    for document in documents:
        send(first, [document])
        send(second, [document])
    assert run_of(client, documents[0][1]["uid"]).metadata["stop"]["summary"]["frames"] == len(SCORES)
    assert stored_frames(client, documents[0][1]["uid"]) == EACH_ONCE


# Up to the start alone, the descriptor, one batch, one batch and a half, all rows but no stop.
@pytest.mark.parametrize("n_documents", [1, 2, 4, 6, 9])
def test_a_run_cut_off_by_a_kill_gets_the_missing_rows_and_its_stop(client, analysis_documents, n_documents):
    documents = analysis_documents(*SCORES)
    send(TiledSink(client, batch_size=2), documents[:n_documents])

    send(TiledSink(client, batch_size=2), documents)

    uid = documents[0][1]["uid"]
    assert stored_frames(client, uid) == EACH_ONCE
    assert [row["frame"] for row in read_annotations(client, "raw-1")] == list(range(7))
    assert run_of(client, uid).metadata["stop"]["summary"]["frames"] == 7


def test_a_run_delivered_again_while_it_is_open_has_no_row_twice(client, analysis_documents):
    documents = analysis_documents(*SCORES)
    sink = TiledSink(client, batch_size=2)
    send(sink, documents[:5])  # the third row is not in a batch yet
    send(sink, documents)
    assert stored_frames(client, documents[0][1]["uid"]) == EACH_ONCE


def test_interleaved_runs_are_kept_apart(client, analysis_documents):
    one = analysis_documents(0.1, 0.2, raw_uid="raw-1")
    two = analysis_documents(0.7, 0.8, raw_uid="raw-2")
    sink = TiledSink(client)
    for pair in zip(one, two, strict=True):
        send(sink, list(pair))
    assert [row["rings"] for row in read_annotations(client, "raw-1")] == [0.1, 0.2]
    assert [row["rings"] for row in read_annotations(client, "raw-2")] == [0.7, 0.8]


def test_rows_can_be_read_before_the_run_has_ended(client, analysis_documents):
    documents = analysis_documents(*SCORES)
    send(TiledSink(client, batch_size=3), documents[:-1])
    assert [row["frame"] for row in read_annotations(client, "raw-1")] == list(range(7))


def test_documents_of_an_unknown_run_are_refused_aloud(client, analysis_documents):
    documents = analysis_documents(*SCORES)
    for name, doc in documents[1:]:
        with pytest.raises(DvfbError, match="not open in this spool"):
            TiledSink(client)(name, doc)


def test_a_run_that_could_not_be_written_gets_no_stop(client, analysis_documents, caplog):
    documents = analysis_documents(*SCORES)
    uid = documents[0][1]["uid"]
    sink = TiledSink(client, batch_size=2)
    send(sink, documents[:4])
    find_place(client).delete_contents([uid], recursive=True, external_only=False)
    with pytest.raises(AssertionError):
        send(sink, documents[4:])
    assert sink.stats().quarantined_runs == 1
    assert "5 rows stored of 7; give its events again" in caplog.text
    assert not run_of(client, uid).metadata.get("stop")
    send(sink, documents)
    assert stored_frames(client, uid) == EACH_ONCE


def test_runs_without_a_stop_do_not_fill_the_memory(client, analysis_documents):
    sink = TiledSink(client, max_open_runs=2)
    runs = [analysis_documents(0.9, raw_uid=f"raw-{n}") for n in range(3)]
    for documents in runs:
        send(sink, documents[:-1])
    with pytest.raises(DvfbError):
        sink(*runs[0][-1])
    send(sink, [runs[1][-1], runs[2][-1]])


@pytest.mark.parametrize("bound", ["batch_size", "max_open_runs", "max_spool_bytes"])
def test_a_bound_below_one_is_refused(client, bound):
    with pytest.raises(SettingsError, match=bound):
        TiledSink(client, **{bound: 0})
