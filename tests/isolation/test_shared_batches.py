"""What two processes tell one another of a batch is true as long as the batch is under way."""

import json
import math
from dataclasses import fields

import numpy as np

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.frames import Frame, Geometry, InvalidValues, Origin
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.shared_batches import BatchReader, BatchWriter, annotation_from_json, as_json
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.tilt import Tilt


def test_masks_of_more_geometries_than_are_remembered_are_their_own():
    memory = FrameMemory()
    writer, reader = BatchWriter(memory), BatchReader(memory.file)
    frames = []
    for row in range(40):
        mask = np.ones((600, 600), dtype=bool)
        mask[row] = False
        geometry = Geometry(shape=mask.shape, center_x=1, center_y=1, mask=mask)
        frames.append(writer.placed(Frame(np.zeros(mask.shape, np.uint16), geometry)))
    told, held = writer.as_json(frames)
    found = reader.read(json.loads(json.dumps(told)))
    assert len(held) == 40
    assert [frame.geometry.digest for frame in found] == [frame.geometry.digest for frame in frames]


def test_an_annotation_arrives_whole_but_for_arrays_that_it_does_not_carry():
    model = ModelIdentity(name="m", version="1", sha256="0" * 64)
    origin = Origin(run_uid="raw", stream="primary", data_key="image", index=3, event_uid="e")
    sent = Annotation(
        status="ok",
        model=model,
        origin=origin,
        remark="Most of it is masked.",
        masked_pixels=5,
        scores=dict.fromkeys(ALL_LABELS, 0.5) | {"rings": 0.75},
        labels=("rings", "grazing"),
        doubtful=("two_fold", "empty"),
        measured_order=6,
        measured_contrast=0.125,
        fit_residual=0.25,
        novelty=0.5,
    )
    # None of these says nothing, or the test would not see that it is left out.
    unsent = {"reason", "coefficients", "features"}
    blank = Annotation(status="failed", model=model)
    told = {field.name for field in fields(Annotation)} - unsent - {"model"}
    assert not [name for name in told if getattr(sent, name) == getattr(blank, name)]
    arrived = annotation_from_json(json.loads(json.dumps(as_json(sent))), model=model, origin=origin)
    assert arrived == sent


def test_arrays_arrive_to_the_last_bit():
    model = ModelIdentity(name="m", version="1", sha256="0" * 64)
    rng = np.random.default_rng(0)
    coefficients = (rng.normal(size=(40, 11)) + 1j * rng.normal(size=(40, 11))).astype(np.complex64)
    features = rng.normal(size=(3, 64)).astype(np.float32)[:, ::2][1]
    features[0] = np.nan
    sent = Annotation(status="ok", model=model, coefficients=coefficients, features=features)
    arrived = annotation_from_json(json.loads(json.dumps(as_json(sent))), model=model, origin=None)
    assert (arrived.coefficients.dtype, arrived.features.dtype) == (np.complex64, np.float32)
    np.testing.assert_array_equal(arrived.coefficients, coefficients)
    np.testing.assert_array_equal(arrived.features, features)


def test_an_annotation_of_numpy_s_numbers_is_json():
    model = ModelIdentity(name="m", version="1", sha256="0" * 64)
    sent = Annotation(status="ok", model=model, measured_order=np.int64(4), measured_contrast=np.float32(0.5))
    arrived = annotation_from_json(json.loads(json.dumps(as_json(sent))), model=model, origin=None)
    assert (arrived.measured_order, arrived.measured_contrast) == (4, 0.5)
    nothing = annotation_from_json(
        json.loads(json.dumps(as_json(Annotation(status="ok", model=model)))), model=model, origin=None
    )
    assert math.isnan(nothing.measured_contrast)


def test_a_geometry_arrives_whole():
    memory = FrameMemory()
    geometry = Geometry(
        shape=(3, 5),
        center_x=1.5,
        center_y=-2,
        invalid_values=InvalidValues(values=(-1, -2), delta=0.5, above=65000),
        pixel_aspect=0.5,
        tilt=Tilt(distance=1000.0, right=0.1, down=-0.2),
        counts_per_unit=1e6,
        source="agbh.poni",
    )
    writer = BatchWriter(memory)
    told, _ = writer.as_json([writer.placed(Frame(np.zeros((3, 5), np.uint16), geometry))])
    (found,) = BatchReader(memory.file).read(json.loads(json.dumps(told)))
    assert found.geometry == geometry
    assert found.geometry.source == "agbh.poni"
