"""One layout: whoever writes a row, or reads one, has the same columns with the same values."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import event_model
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks.analysis_run import AnalysisRun
from dvfb_stream.callbacks.frame_sequence import Row
from dvfb_stream.frames import Geometry, Origin
from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS
from dvfb_stream.rows import COLUMNS, EVENT_COLUMNS, Kind, plain, row_of, to_dataframe

IDENTITY = ModelIdentity(name="m", version="1", sha256="0" * 64)
ORIGIN = Origin(run_uid="raw", stream="primary", data_key="image", index=3, event_uid="e")
GOOD = Annotation(
    status="ok",
    model=IDENTITY,
    origin=ORIGIN,
    scores=dict.fromkeys(LABELS, 0.25),
    labels=("halo", "rings"),
    doubtful=("four_fold",),
    measured_order=2,
    measured_contrast=0.375,
    fit_residual=0.125,
    novelty=0.5,
)
BAD = Annotation.failed("not finite", model=IDENTITY)


def test_a_row_is_flat_and_has_every_column_in_order():
    row = GOOD.as_row(file="a.tif", center_x=1.5)
    assert list(row) == [column.name for column in COLUMNS]
    assert len(set(row)) == len(COLUMNS)
    types = {Kind.NUMBER: float, Kind.INTEGER: int, Kind.TEXT: str}
    for some in (row, BAD.as_row()):
        assert [type(some[column.name]) for column in COLUMNS] == [types[column.kind] for column in COLUMNS]
    assert (row["file"], row["frame"], row["run_uid"], row["stream"], row["data_key"]) == (
        "a.tif",
        3,
        "raw",
        "primary",
        "image",
    )
    assert (row["labels"], row["status"], row["rings"], row["fit_residual"]) == (
        "halo,rings",
        "ok",
        0.25,
        0.125,
    )
    assert (row["doubtful"], row["measured_order"], row["measured_contrast"]) == ("four_fold", 2, 0.375)
    assert (row["center_x"], row["event_uid"]) == (1.5, "e")
    assert (row["model"], row["model_version"], row["model_sha256"]) == ("m", "1", "0" * 64)


def test_what_is_not_known_is_told_by_its_kind():
    row = BAD.as_row()
    assert (row["frame"], row["event_seq_num"], row["run_uid"], row["reason"]) == (-1, 0, "", "not finite")
    assert (row["doubtful"], row["measured_order"]) == ("", 0)
    assert all(math.isnan(row[name]) for name in (*ALL_LABELS, "measured_contrast"))
    assert plain(row)["rings"] is None
    assert json.loads(json.dumps(plain(row), allow_nan=False))["status"] == "failed"


def test_labels_come_in_their_order_then_what_is_concluded_from_them():
    names = [column.name for column in EVENT_COLUMNS]
    assert names[0] == "frame"
    assert names[1:19] == list(ALL_LABELS)
    assert names[19:25] == [
        "labels", "doubtful", "measured_order", "measured_contrast", "fit_residual", "novelty"
    ]  # fmt: skip


def test_labels_that_the_model_does_not_know_have_no_value():
    ten = GOOD.as_row()
    assert all(ten[label] == 0.25 for label in LABELS)
    assert all(math.isnan(ten[label]) for label in FURTHER_LABELS)
    assert plain(ten)["grazing"] is None
    eighteen = replace(GOOD, scores=dict.fromkeys(ALL_LABELS, 0.75), labels=("grazing",)).as_row()
    assert all(eighteen[label] == 0.75 for label in ALL_LABELS)
    assert eighteen["labels"] == "grazing"


def test_every_column_says_what_it_means():
    for column in COLUMNS:
        assert column.meaning.endswith(".")


def test_a_column_that_does_not_exist_is_refused_by_name():
    with pytest.raises(KeyError, match=r"centre_x.*center_x"):
        GOOD.as_row(centre_x=1.0)
    with pytest.raises(KeyError, match="score"):
        row_of({"score": 1.0})


def test_a_table_of_annotations_has_the_same_columns_even_where_there_are_none():
    table = to_dataframe([GOOD, BAD.as_row(frame=7)])
    assert list(table.columns) == list(to_dataframe([]).columns) == list(GOOD.as_row())
    assert list(table.dtypes) == list(to_dataframe([]).dtypes)
    assert table["frame"].tolist() == [3, 7]
    assert table["rings"].dtype == float
    assert table.loc[table["status"] == "ok", "rings"].tolist() == [0.25]


def test_an_event_of_an_analysis_run_is_the_row_but_for_what_its_start_says():
    analysis = AnalysisRun(
        {"uid": "raw"},
        stream="primary",
        data_key="image",
        provenance={"model": {"name": "m", "version": "1", "sha256": "0" * 64}},
        geometry=None,
        started=1.0,
        described=1.0,
    )
    geometry = Geometry(shape=(4, 6), center_x=2.5, center_y=1.5)
    row = Row(index=3, time=5.0, annotation=GOOD, event_uid="e", event_seq_num=4, geometry=geometry)
    descriptor, event = analysis.descriptor(), analysis.event(row)
    event_model.schema_validators[event_model.DocumentNames.event].validate(event)
    event_model.schema_validators[event_model.DocumentNames.descriptor].validate(descriptor)
    assert list(event["data"]) == list(descriptor["data_keys"]) == [column.name for column in EVENT_COLUMNS]
    whole = GOOD.as_row(event_seq_num=4, center_x=2.5, center_y=1.5)
    assert event["data"] == {name: whole[name] for name in event["data"]}
    for column in EVENT_COLUMNS:
        assert descriptor["data_keys"][column.name]["dtype"] == column.kind


def test_an_annotation_is_one_short_line_to_read():
    assert repr(GOOD) == "<Annotation ok: halo 0.25, rings 0.25, four_fold 0.25?, frame 3 of 'image'>"
    assert repr(BAD) == "<Annotation failed: not finite>"
    assert repr(Annotation(status="ok", model=IDENTITY)) == "<Annotation ok: no labels>"
    for annotation in (
        Annotation.failed("why " * 200, model=IDENTITY),
        Annotation.failed("w" * 900, model=IDENTITY),
    ):
        assert len(repr(annotation)) < 120
