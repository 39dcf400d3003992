"""Who waits for an annotation gets that of the frames that were taken last, whatever others do."""

from __future__ import annotations

import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.callbacks.latest_annotations import LatestAnnotations
from dvfb_stream.frames import Origin

IDENTITY = ModelIdentity(name="m", version="1", sha256="0" * 64)


def origin(index, run="run", data_key="image"):
    return Origin(run_uid=run, stream="primary", data_key=data_key, index=index)


def annotation(index, *labels, **where):
    return Annotation(status="ok", model=IDENTITY, origin=origin(index, **where), labels=labels)


@pytest.fixture
def annotations():
    return LatestAnnotations()


def test_a_future_that_is_cancelled_takes_nothing_from_others(annotations):
    annotations.seen(origin(0))
    mine, theirs = annotations.of_newest("image"), annotations.of_newest("image")
    assert theirs.cancel()
    annotations.annotated(annotation(0, "rings"))
    assert mine.result(0).labels == ("rings",)


def test_what_is_there_already_needs_no_waiting(annotations):
    annotations.seen(origin(0))
    annotations.annotated(annotation(0, "rings"))
    assert annotations.of_newest("image").result(0).labels == ("rings",)
    assert annotations.labels_of_newest("image").result(0) == {"rings"}


def test_labels_of_a_document_are_those_of_all_its_frames_once_all_are_annotated(annotations):
    annotations.seen(origin(4), count=3)
    labels, last = annotations.labels_of_newest("image"), annotations.of_newest("image")
    for index, label in ((6, "halo"), (4, "rings")):
        annotations.annotated(annotation(index, label))
        assert not labels.done()
    assert last.result(0).origin.index == 6
    annotations.annotated(annotation(7, "two_fold"))  # of no frame of the document
    annotations.annotated(annotation(5, "two_fold", run="another"))
    assert not labels.done()
    annotations.annotated(annotation(5))
    assert labels.result(0) == {"rings", "halo"}


def test_who_waits_for_a_frame_gets_it_though_others_were_taken_since(annotations):
    annotations.seen(origin(0))
    first = annotations.of_newest("image")
    for index in range(1, 100):
        annotations.seen(origin(index))
    assert len(annotations._announced["image"]) == 2  # nobody waits for those between
    annotations.annotated(annotation(0, "rings"))
    assert first.result(0).origin.index == 0
    annotations.seen(origin(100))
    assert len(annotations._announced["image"]) == 1


def test_frames_seen_before_a_mark_do_not_count_after_it(annotations):
    annotations.seen(origin(0))
    mark = annotations.mark()
    annotations.seen(origin(0, data_key="other"))
    for ask in (annotations.of_newest, annotations.labels_of_newest):
        with pytest.raises(LookupError, match="no new frame of 'image'"):
            ask("image", after=mark)
    annotations.seen(origin(1))
    assert not annotations.of_newest("image", after=mark).done()


def test_a_data_key_that_was_never_seen_is_named_with_those_that_were(annotations):
    annotations.seen(origin(0))
    with pytest.raises(
        LookupError, match="no frame of 'imgae' was seen, only of 'image'; see that the callback"
    ):
        annotations.of_newest("imgae")


def test_what_is_annotated_last_stays_the_latest(annotations):
    for index in (0, 2, 1):
        annotations.annotated(annotation(index))
    assert annotations.latest("image").origin.index == 2
    annotations.annotated(annotation(0, run="next"))
    assert annotations.latest("image").origin.run_uid == "next"


def test_an_annotation_that_comes_twice_changes_nothing(annotations):
    annotations.seen(origin(0), count=2)
    for _ in range(2):
        annotations.annotated(annotation(1, "rings"))
    assert annotations.of_newest("image").result(0).labels == ("rings",)
