"""Doubtful labels and what was measured, in the forms in which ``dvfb annotate`` writes rows."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.cli.annotate.frames import AnnotatedFrame
from dvfb_stream.cli.annotate.row_forms import row_writer
from dvfb_stream.labels import ALL_LABELS, LABELS, TITLES
from dvfb_stream.rows import COLUMNS

MODEL = ModelIdentity(name="m", version="1", sha256="0" * 64)
SURE = Annotation(
    status="ok",
    model=MODEL,
    scores=dict.fromkeys(ALL_LABELS, 0.25) | {"rings": 0.9, "grazing": 0.8, "two_fold": 0.6},
    labels=("rings", "grazing"),
    doubtful=("two_fold",),
    measured_order=4,
    measured_contrast=0.3125,
    fit_residual=0.125,
    novelty=0.5,
)
OLD = Annotation(
    status="ok",
    model=MODEL,
    scores=dict.fromkeys(LABELS, 0.25) | {"rings": 0.9},
    labels=("rings",),
    fit_residual=0.125,
    novelty=0.5,
)
"""As a model says it that knows ten labels, and measures nothing."""


def written(form: str, *annotations: Annotation) -> str:
    stream = io.StringIO()
    writer = row_writer(form, stream)
    for index, annotation in enumerate(annotations):
        writer.write(
            AnnotatedFrame(
                number=index,
                position=0,
                file="a.tif",
                index=index,
                count=len(annotations),
                annotation=annotation,
                frame=None,
            )
        )
    writer.finish()
    return stream.getvalue()


def line_of(text: str, title: str) -> list[str]:
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(title)]
    return line.removeprefix(title).split()


def test_a_doubtful_label_has_a_question_mark_where_an_accepted_one_has_its_dot() -> None:
    table = written("table", SURE)
    assert line_of(table, "Rings") == ["━" * 11, "0.900", "●"]
    assert line_of(table, "2-fold symmetry") == ["━" * 7, "0.600", "?"]
    assert line_of(table, "Halo") == ["━" * 3, "0.250"]
    assert line_of(table, "Grazing incidence") == ["━" * 10, "0.800", "●"]
    assert "fit residual 0.125 · novelty 0.50 · measured order 4, contrast 0.31 · model m 1" in table


def test_an_order_that_does_not_stand_out_is_told_from_one_that_nobody_measured() -> None:
    nothing = replace(SURE, measured_order=0, measured_contrast=0.01)
    assert "novelty 0.50 · no order measured · model" in written("table", nothing)
    table = written("table", OLD)
    assert "novelty 0.50 · model" in table
    assert all(TITLES[label] not in table for label in ALL_LABELS if label not in LABELS)


def test_a_stack_has_columns_for_doubtful_labels_and_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    head, _, first, second, failed = written(
        "table", SURE, OLD, Annotation.failed("no pixel", model=MODEL)
    ).splitlines()[2:7]
    assert head.split() == [
        "frame", "accepted", "labels", "and", "their", "probabilities", "doubtful", "order", "fit", "residual",
        "novelty",
    ]  # fmt: skip
    assert first.split("  ")[0].strip() == "0"
    assert "Rings 0.90, Grazing incidence 0.80" in first
    assert "2-fold symmetry 0.60?" in first
    assert "4 (0.31)" in first
    assert "?" not in second
    assert "failed: no pixel" in failed


def test_a_stack_of_a_model_that_doubts_nothing_has_no_empty_columns() -> None:
    table = written("table", OLD, OLD)
    assert "doubtful" not in table
    assert "order" not in table


def test_doubtful_labels_are_dim_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    row = next(line for line in written("table", SURE, OLD).splitlines() if "2-fold symmetry" in line)
    before, _, after = row.partition("2-fold symmetry 0.60?")
    assert before.endswith("\x1b[2m")
    assert "\x1b[0m" in after


def test_json_and_csv_have_every_column_and_nothing_for_what_is_not_known() -> None:
    rows: list[dict[str, Any]] = [json.loads(line) for line in written("json", SURE, OLD).splitlines()]
    assert [list(row) for row in rows] == [[column.name for column in COLUMNS]] * 2
    sure, old = rows
    assert (sure["labels"], sure["doubtful"]) == ("rings,grazing", "two_fold")
    assert (sure["measured_order"], sure["measured_contrast"], sure["grazing"]) == (4, 0.3125, 0.8)
    assert (old["doubtful"], old["measured_order"], old["measured_contrast"], old["grazing"]) == (
        "",
        0,
        None,
        None,
    )
    lines = list(csv.DictReader(io.StringIO(written("csv", SURE, OLD))))
    assert lines == [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in rows
    ]
