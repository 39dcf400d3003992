"""What is written as a shape in descriptors of the field, and which images it means."""

from __future__ import annotations

import pytest

from dvfb_stream.files.described_shape import DescribedShape, described_shape


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ([5, 7], DescribedShape(1, (5, 7))),
        ([1, 5, 7], DescribedShape(1, (5, 7))),
        ((3, 5, 7), DescribedShape(3, (5, 7))),
        ([2, 3, 5, 7], DescribedShape(2, is_coloured=True)),
        ([2, 4, 5, 7], DescribedShape(8, (5, 7))),
        ([7, 5, 0], DescribedShape(1, (5, 7))),
        ([0, 0, 0], DescribedShape(1, None)),
        ([300, 400, 3], DescribedShape(1, is_coloured=True)),
        ([2, 300, 400, 4], DescribedShape(2, is_coloured=True)),
        ([None, 5, 7], DescribedShape(1, (5, 7))),
        ([1, None, 7], DescribedShape(1, None)),
        ([], DescribedShape()),
        ([4], DescribedShape()),
        (None, DescribedShape()),
        ("57", DescribedShape()),
        ([5.0, 7.0], DescribedShape(1, None)),
    ],
)
def test_shapes_of_ophyd_ophyd_async_and_others(shape, said):
    assert described_shape(shape) == said
