"""An annotator that waits for the rows of each batch before it annotates another."""

import numpy as np
import pytest

from dvfb_stream.annotations import Status
from dvfb_stream.frame_annotator import AnnotatorAround, as_frame_annotator
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.kafka.in_step import CLOSED, InStep
from tests.kafka.conftest import BrightnessAnnotator

GEOMETRY = Geometry(shape=(4, 4), center_x=1.5, center_y=1.5)


class Prepares(AnnotatorAround):
    """Notes what is called."""

    def __init__(self, annotator, calls):
        super().__init__(annotator)
        self.calls = calls

    def prepare_all(self, frames):
        self.calls.append("prepare")
        return super().prepare_all(frames)

    def annotate_prepared(self, prepared):
        self.calls.append("annotate")
        return self.annotate(prepared)


@pytest.mark.parametrize("are_taken", [True, False])
def test_frames_are_prepared_while_rows_are_waited_for_and_annotated_where_rows_are_taken(are_taken):
    calls = []

    def catch_up():
        calls.append("catch up")
        return are_taken

    annotator = InStep(Prepares(as_frame_annotator(BrightnessAnnotator()), calls), catch_up)
    frames = [Frame(np.full((4, 4), level), GEOMETRY) for level in (100, 200)]
    annotations = annotator.annotate(frames)
    if are_taken:
        assert calls == ["prepare", "catch up", "annotate"]
        assert [annotation.scores["rings"] for annotation in annotations] == [0.1, 0.2]
    else:
        assert calls == ["prepare", "catch up"]
        assert [annotation.status for annotation in annotations] == [Status.FAILED] * 2
        assert {annotation.reason for annotation in annotations} == {CLOSED}
