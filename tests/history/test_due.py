"""Another geometry makes another analysis, beside the first; what has no geometry is mended where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from dvfb_stream.annotations import Status
from dvfb_stream.callbacks.analysis_run import analysis_uid
from dvfb_stream.catalog.newest import newest, superseded_by
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreUnavailableError
from dvfb_stream.errors import GeometryError
from dvfb_stream.files.moving_centre import MovingGeometry
from dvfb_stream.frames import Geometry
from dvfb_stream.history.due import Again

from .conftest import DETECTORS, SHAPES, Recorded
from .test_annotating import annotate

ALL = Again(frozenset(Status))
FAILED = Again(frozenset({Status.FAILED, Status.DROPPED}))
KEY = "cam_image"
"""Of the only detector of `Recorded.other`, which has two frames."""
ELSEWHERE = Geometry(shape=SHAPES[KEY], center_x=1.0, center_y=1.0)
MODEL: Mapping[str, Any] = {"name": "mean", "sha256": "0" * 64}


class Told:
    """What a beamline says of a detector's geometry: this, or that it does not know."""

    def __init__(self, said: Geometry | MovingGeometry | None) -> None:
        self._said = said

    def geometry_in(self, *_: Any) -> Geometry | MovingGeometry:
        if self._said is None:
            raise GeometryError("nobody said where the beam is")
        return self._said


def uids(recorded: Recorded) -> tuple[str, str]:
    """Of the analysis with the first geometry, and of that with the other."""
    first = analysis_uid(recorded.other, "primary", KEY, MODEL)
    return first, analysis_uid(recorded.other, "primary", KEY, MODEL, geometry=ELSEWHERE.digest)


def centres(raw: Any) -> dict[str, list[float]]:
    return {uid: run["annotations"]["center_x"].read().tolist() for uid, run in find_place(raw).items()}


def test_all_rows_again_with_another_geometry_are_an_analysis_beside_the_first(raw, recorded: Recorded):
    first, beside = uids(recorded)
    annotate(raw, [recorded.other])
    report = annotate(raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=ALL)
    assert (report.annotated, report.beside, report.replaced, report.failures) == (1, 1, 0, [])
    assert centres(raw) == {first: [2.5, 2.5], beside: [1.0, 1.0]}
    place = find_place(raw)
    assert list(newest(place)) == [beside]
    assert place[beside].metadata["start"]["analysis"]["geometry"]["sha256"] == ELSEWHERE.digest
    for again in (None, ALL, FAILED):
        report = annotate(raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=again)
        assert (report.skipped, report.other_geometry, report.made_newest) == (1, 0, 0), again


def test_who_goes_back_to_a_geometry_finds_its_analysis_again(raw, recorded: Recorded):
    first, beside = uids(recorded)
    annotate(raw, [recorded.other])
    annotate(raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=ALL)
    report = annotate(raw, [recorded.other], again=ALL)
    assert (report.replaced, report.beside) == (2, 0)
    assert list(newest(find_place(raw))) == [first]
    report = annotate(raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=ALL)
    assert (report.skipped, report.made_newest, report.rows) == (1, 1, Counter())
    assert list(newest(find_place(raw))) == [beside]
    assert superseded_by(find_place(raw)[first]) == beside


def test_an_analysis_beside_that_was_begun_and_not_ended_is_completed(
    raw, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
):
    first, beside = uids(recorded)
    annotate(raw, [recorded.other])
    monkeypatch.setattr("dvfb_stream.history.replacing_sink._ROWS_A_CALL", 1)

    def cut(*_: object) -> None:
        raise StoreUnavailableError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(AnnotationStore, "finish", cut)
        report = annotate(raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=ALL)
    assert report.failures == [f"run {recorded.other}: cut off"]
    place = find_place(raw)
    assert (place[beside].metadata.get("stop"), list(newest(place))) == (None, [first, beside])
    report = annotate(raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=ALL)
    assert (report.annotated, report.beside) == (1, 1)
    assert centres(raw) == {first: [2.5, 2.5], beside: [1.0, 1.0]}
    assert list(newest(find_place(raw))) == [beside]


def test_of_several_detectors_each_goes_its_own_way(raw, recorded: Recorded):
    annotate(raw, [recorded.uid])
    report = annotate(raw, [recorded.uid], detectors=DETECTORS | {KEY: ELSEWHERE}, again=ALL)
    assert (report.beside, report.replaced, report.rows) == (1, 6, Counter(ok=9))
    assert sorted(centres(raw).values()) == [[1.0] * 3, *[[2.5] * 3] * 3]
    place = find_place(raw)
    keys = [run.metadata["start"]["analysis"]["data_key"] for run in newest(place).values()]
    assert sorted(keys) == sorted(DETECTORS)


@pytest.mark.parametrize(
    ("before", "again"),
    [(Told(None), FAILED), (Geometry(shape=(9, 9), center_x=2.5, center_y=1.5), ALL)],
    ids=["no geometry", "that of another detector"],
)
def test_rows_that_failed_for_want_of_a_geometry_are_mended_where_they_are(
    raw, recorded: Recorded, before, again
):
    first, _ = uids(recorded)
    assert annotate(raw, [recorded.other], detectors={KEY: before}).rows == Counter(failed=2)
    report = annotate(raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=again)
    assert (report.replaced, report.beside, report.other_geometry) == (2, 0, 0)
    assert centres(raw) == {first: [1.0, 1.0]}
    start = find_place(raw)[first].metadata["start"]
    assert start["analysis"]["geometry"]["sha256"] == ELSEWHERE.digest


def test_some_rows_are_not_mended_with_another_geometry(raw, recorded: Recorded):
    annotate(raw, [recorded.other])
    report = annotate(
        raw, [recorded.other], detectors={KEY: ELSEWHERE}, again=Again(frozenset({Status.OK, Status.FAILED}))
    )
    assert (report.skipped, report.other_geometry, report.rows) == (1, 1, Counter())


def test_a_geometry_that_moved_is_another_than_one_that_does_not(raw, recorded: Recorded):
    first, beside = uids(recorded)
    moving = MovingGeometry(read=lambda _: (3.0, 1.5), near=lambda _: DETECTORS[KEY])
    annotate(raw, [recorded.other], detectors={KEY: Told(moving)})
    assert find_place(raw)[first].metadata["start"]["analysis"]["geometry"] is None
    report = annotate(raw, [recorded.other], detectors={KEY: Told(moving)}, again=ALL)
    assert (report.replaced, report.beside) == (2, 0), "nothing tells one that moves from another"
    report = annotate(raw, [recorded.other], detectors={KEY: Told(ELSEWHERE)}, again=ALL)
    assert (report.replaced, report.beside) == (0, 1)
    assert centres(raw) == {first: [3.0, 3.0], beside: [1.0, 1.0]}


def test_the_uid_of_the_first_analysis_is_that_of_the_contract():
    from uuid import uuid5

    from dvfb_stream.callbacks.analysis_run import NAMESPACE

    text = f"raw:primary:image:mean@{'0' * 64}"
    assert analysis_uid("raw", "primary", "image", MODEL) == str(uuid5(NAMESPACE, text))
    assert analysis_uid("raw", "primary", "image", MODEL, geometry="d") == str(uuid5(NAMESPACE, f"{text}:d"))
