"""Whoever takes an annotator takes a plain object as well, and finds in it all that a `FrameAnnotator` has."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.errors import SettingsError
from dvfb_stream.frame_annotator import FrameAnnotator, as_frame_annotator
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.labels import LABELS
from dvfb_stream.metrics import Stage

IDENTITY = ModelIdentity(name="plain", version="1", sha256="0" * 64)
FRAME = Frame(np.ones((2, 3)), Geometry(shape=(2, 3), center_x=0, center_y=0))


class Plain:
    """What a script has."""

    identity = IDENTITY

    def annotate(self, frames):
        return [Annotation(status="ok", model=IDENTITY, scores={"rings": 1.0}) for _ in frames]


class Whole(Plain):
    """All that there is, and what was called."""

    prepares_ahead = True

    def __init__(self):
        self.called = []

    def provenance(self):
        return {"labels": ["rings"], "sample": 7}

    def prepare(self, frame):
        return ("prepared", frame)

    def annotate_prepared(self, prepared):
        return self.annotate([frame for _, frame in prepared])

    def fall_back(self):
        return "cpu"

    def report_stages(self, report):
        self.called.append(report)

    def copy_ahead(self):
        self.called.append("copy_ahead")

    def close(self):
        self.called.append("close")


def test_a_plain_object_has_the_defaults():
    annotator = as_frame_annotator(Plain())
    assert annotator.identity == IDENTITY
    assert [one.ok for one in annotator.annotate([FRAME, FRAME])] == [True, True]
    assert annotator.prepares_ahead is False
    assert annotator.prepare(FRAME) is FRAME
    assert len(annotator.annotate_prepared([FRAME])) == 1
    assert annotator.fall_back() is None
    annotator.report_stages(None)
    annotator.copy_ahead()
    assert annotator.arrays == {}
    annotator.keep_arrays(["features"])
    annotator.close()
    assert annotator.provenance() == {
        "model": {"name": "plain", "version": "1", "sha256": "0" * 64},
        "labels": list(LABELS),
        "thresholds": {},
        "fbt": {},
        "software": {"dvfb-stream": metadata.version("dvfb-stream")},
    }


def test_what_an_object_has_besides_is_used():
    plain = Whole()
    annotator = as_frame_annotator(plain)
    assert annotator.prepares_ahead
    assert annotator.prepare(FRAME) == ("prepared", FRAME)
    assert [one.ok for one in annotator.annotate_prepared([("prepared", FRAME)])] == [True]
    assert annotator.fall_back() == "cpu"

    def report(stage: Stage, seconds: float) -> None: ...

    annotator.report_stages(report)
    annotator.copy_ahead()
    annotator.close()
    assert plain.called == [report, "copy_ahead", "close"]
    said = annotator.provenance()
    assert (said["labels"], said["sample"], said["model"]["name"]) == (["rings"], 7, "plain")


def test_half_of_preparing_is_none():
    plain = Plain()
    plain.prepare = lambda frame: 1 / 0  # type: ignore[attr-defined]
    annotator = as_frame_annotator(plain)
    assert annotator.prepare(FRAME) is FRAME
    assert [one.ok for one in annotator.annotate_prepared([FRAME])] == [True]


def test_arrays_of_an_object_that_cannot_be_asked_for_them_are_none():
    plain = Plain()
    plain.arrays = {"features": (2,)}  # type: ignore[attr-defined]
    assert as_frame_annotator(plain).arrays == {}
    asked: list[str] = []
    plain.keep_arrays = asked.extend  # type: ignore[attr-defined]
    annotator = as_frame_annotator(plain)
    assert annotator.arrays == {"features": (2,)}
    annotator.keep_arrays(["features"])
    assert asked == ["features"]


def test_a_frame_annotator_stays_itself():
    annotator = as_frame_annotator(Plain())
    assert as_frame_annotator(annotator) is annotator
    assert isinstance(annotator, FrameAnnotator)


@pytest.mark.parametrize("wrong", [None, "default", object(), type("Half", (), {"identity": IDENTITY})()])
def test_what_cannot_annotate_is_refused_with_what_to_give(wrong):
    with pytest.raises(SettingsError, match=r"`identity` and `annotate\(frames\)`.*Annotator\.load"):
        as_frame_annotator(wrong)
