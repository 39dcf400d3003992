"""What two processes tell one another of a batch is true as long as the batch is under way."""

import json

import numpy as np

from dvfb_stream.frames import Frame, Geometry, InvalidValues
from dvfb_stream.isolation.frame_memory import FrameMemory
from dvfb_stream.isolation.shared_batches import BatchReader, BatchWriter
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
