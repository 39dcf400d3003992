"""What is noted as in hand while frames are prepared and annotated, and who is handled alone."""

from contextlib import contextmanager

import numpy as np
import pytest

from dvfb_stream.frame_annotator import FrameAnnotator
from dvfb_stream.frames import Frame, Geometry, Origin
from dvfb_stream.kafka.watched_annotator import WatchedAnnotator
from tests.kafka.conftest import BrightnessAnnotator

GEOMETRY = Geometry(shape=(4, 4), center_x=1.5, center_y=1.5)


class Notes:
    """Remembers what was held, as `InHand`; one item may be suspicious."""

    def __init__(self, suspicious=None):
        self.suspicious, self.held, self.now = suspicious, [], ()

    def suspicion(self, item):
        return Suspicion() if item[-1] == self.suspicious else None

    @contextmanager
    def holding(self, items):
        self.now = tuple(item[-1] for item in items)
        self.held.append(self.now)
        yield
        self.now = ()


class Suspicion:
    convicts = False


class Prepares(FrameAnnotator):
    """Notes what was held when it was asked to prepare."""

    identity = BrightnessAnnotator.identity

    def __init__(self, notes):
        self.notes, self.prepared = notes, []

    def annotate(self, frames):
        return BrightnessAnnotator().annotate(frames)

    def prepare(self, frame):
        self.prepared.append((frame.origin.index, self.notes.now))
        return frame


@pytest.mark.parametrize("suspicious", [None, 1])
def test_frames_are_prepared_together_and_one_by_one_where_one_of_them_may_kill(suspicious):
    notes = Notes(suspicious)
    annotator = Prepares(notes)
    watched = WatchedAnnotator(annotator, notes, lambda *_: None)
    frames = [
        Frame(
            np.full((4, 4), n), GEOMETRY, Origin(run_uid="run", stream="primary", data_key="image", index=n)
        )
        for n in range(3)
    ]
    prepared = watched.prepare_all(frames)
    alone = suspicious is not None
    assert annotator.prepared == [(n, (n,) if alone else (0, 1, 2)) for n in range(3)]
    annotations = watched.annotate_prepared(prepared)
    assert [annotation.origin.index for annotation in annotations] == [0, 1, 2]
    assert notes.held[-2:] == ([(1,), (0, 2)] if alone else [(0, 1, 2), (0, 1, 2)])
