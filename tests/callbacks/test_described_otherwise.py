"""Files and events that are not what the documents say: annotated with a remark where they fit, else told why not."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.frames import Geometry
from dvfb_stream.isolation.files_process import FilesProcess

PIXELS = np.arange(2 * 3 * 5, dtype=np.uint16).reshape(2, 3, 5)


@pytest.fixture(params=[FrameFiles, FilesProcess], ids=["thread", "process"])
def annotated(request, make_pipeline, recorder, raw_documents, tmp_path):
    """Annotate the frames of a file that a descriptor announces, and return their rows."""

    opened = []

    def annotate(stored, geometry, **described):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["d"] = stored
        opened.append(request.param())
        pipeline = make_pipeline(files=opened[-1], detectors={"image": geometry}, patience=0.5)
        raw = raw_documents()
        described = {"external": "STREAM:", **described}
        start, (_, descriptor) = raw.start(), raw.descriptor(**described)
        resource = {
            "uid": "r", "run_start": raw.uid, "data_key": "image", "mimetype": "application/x-hdf5",
            "uri": f"file://localhost{tmp_path}/a.h5", "parameters": {"dataset": "d"},
        }  # fmt: skip
        count = len(stored)
        ranges = {"indices": {"start": 0, "stop": count}, "seq_nums": {"start": 1, "stop": count + 1}}
        datum = {"uid": "r/0", "stream_resource": "r", "descriptor": descriptor["uid"], **ranges}
        for name, doc in (
            start, ("descriptor", descriptor), ("stream_resource", resource), ("stream_datum", datum), raw.stop(),
        ):  # fmt: skip
            pipeline(name, doc)
        assert pipeline.wait(30)
        return recorder.rows()

    yield annotate
    for files in opened:
        files.close()


def geometry(*shape):
    return Geometry(shape=shape, center_x=1.0, center_y=1.0)


def test_a_file_with_a_region_of_what_the_descriptor_says_is_annotated_with_its_own_geometry(annotated):
    rows = annotated(PIXELS, geometry(3, 5), shape=[1, 10, 20], dtype_numpy="<u2")
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert [row["remark"] for row in rows] == [
        "The pixels have the shape (3, 5), where the descriptor says (10, 20)."
    ] * 2
    np.testing.assert_allclose([row["rings"] for row in rows], PIXELS.mean((1, 2)) / 100)


def test_a_region_that_the_geometry_does_not_know_is_told_with_the_cure(annotated):
    rows = annotated(PIXELS, geometry(10, 20), shape=[1, 10, 20])
    assert [row["status"] for row in rows] == ["failed"] * 2
    for said in ("shape (3, 5)", "geometry says (10, 20)", "descriptor says (10, 20)", "beam centre counted"):
        assert said in rows[0]["reason"]


def test_a_bit_depth_that_changed_after_priming_is_remarked(annotated):
    rows = annotated(PIXELS.astype(np.uint32), geometry(3, 5), shape=[1, 3, 5], dtype_numpy="<u2")
    assert [row["remark"] for row in rows] == [
        "The pixels have the type uint32, where the descriptor says uint16."
    ] * 2


def test_nothing_is_remarked_where_file_and_descriptor_agree(annotated):
    rows = annotated(PIXELS.astype(">u2"), geometry(3, 5), shape=[1, 3, 5], dtype_numpy="<u2")
    assert [(row["status"], row["remark"]) for row in rows] == [("ok", "")] * 2


def test_the_first_of_several_images_of_a_point_is_annotated_with_a_remark(annotated):
    stored = np.stack([PIXELS, PIXELS + 50], axis=1)
    rows = annotated(stored, geometry(3, 5), shape=[1, 3, 5])
    np.testing.assert_allclose([row["rings"] for row in rows], PIXELS.mean((1, 2)) / 100)
    assert all("has 2 images, where the documents say 1" in row["remark"] for row in rows)


def test_points_of_another_number_of_images_are_not_guessed(annotated):
    rows = annotated(np.stack([PIXELS] * 3, axis=1), geometry(3, 5), shape=[2, 3, 5])
    assert len(rows) == 4
    assert all("each point has 3 images, where the documents say 2" in row["reason"] for row in rows)


def test_a_stack_of_pictures_in_colours_has_one_failed_row_a_picture(annotated):
    stored = np.zeros((2, 30, 40, 3), np.uint8)
    for shape in ([30, 40, 3], [1, 3, 30, 40]):
        rows = annotated(stored, geometry(30, 40), shape=shape)[-2:]
        assert [row["frame"] for row in rows] == [0, 1]
        assert all("is a picture in colours: one frame" in row["reason"] for row in rows)


@pytest.mark.parametrize("colours", [3, 4])
def test_a_picture_in_colours_in_an_event_is_one_failed_row(make_pipeline, recorder, raw_documents, colours):
    pipeline, raw = make_pipeline(), raw_documents()
    picture = np.zeros((30, 40, colours), np.uint8)
    for name, doc in (raw.start(), raw.descriptor(), raw.event(image=picture), raw.frame(80), raw.stop()):
        pipeline(name, doc)
    assert pipeline.wait(10)
    assert [row["status"] for row in recorder.rows()] == ["failed", "ok"]
    assert f"of shape (30, 40, {colours}) is a picture in colours" in recorder.rows()[0]["reason"]


def test_an_image_in_an_event_of_another_shape_than_described_is_remarked_or_told(
    make_pipeline, recorder, raw_documents
):
    pipeline, raw = make_pipeline(), raw_documents()
    for name, doc in (
        raw.start(), raw.descriptor(shape=[40, 60]), raw.frame(80), raw.event(image=np.zeros((2, 2))), raw.stop(),
    ):  # fmt: skip
        pipeline(name, doc)
    assert pipeline.wait(10)
    fits, does_not = recorder.rows()
    assert fits["status"] == "ok"
    assert "(4, 6), where the descriptor says (40, 60)" in fits["remark"]
    assert "the frame has shape (2, 2), but its geometry says (4, 6)" in does_not["reason"]
