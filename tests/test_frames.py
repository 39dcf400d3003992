"""Geometry and frames: frozen, hashable by content, and picky about masks."""

import numpy as np
import pytest

from dvfb_stream import Geometry
from dvfb_stream.errors import GeometryError


def test_equal_content_is_one_geometry():
    mask = np.ones((4, 6), dtype=bool)
    mask[1, 2] = False
    first = Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=mask)
    second = Geometry(shape=(4, 6), center_x=2.5, center_y=1.0, mask=mask.copy())
    assert first == second
    assert len({first, second}) == 1
    assert first != Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=None)
    assert first != Geometry(shape=(4, 6), center_x=2.6, center_y=1, mask=mask)


def test_the_mask_cannot_be_changed_afterwards():
    mask = np.ones((4, 6), dtype=bool)
    geometry = Geometry(shape=(4, 6), center_x=2.5, center_y=1, mask=mask)
    mask[:] = False
    assert geometry.mask.all()
    with pytest.raises(ValueError, match="read-only"):
        geometry.mask[0, 0] = False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (0, 5)}, "two positive integers"),
        ({"shape": (5,)}, "two positive integers"),
        ({"shape": 5}, "two positive integers"),
        ({"shape": (4.5, 6)}, "two positive integers"),
        ({"center_y": None}, "two numbers"),
        ({"center_x": "left"}, "two numbers"),
        ({"center_x": float("nan")}, "finite"),
        ({"mask": np.ones((4, 6), dtype=int)}, "boolean"),
        ({"mask": np.ones((6, 4), dtype=bool)}, r"\(6, 4\), but frames have shape \(4, 6\)"),
        ({"mask": np.zeros((4, 6), dtype=bool)}, "no valid pixel"),
    ],
)
def test_what_no_frame_can_have_is_refused(arguments, message):
    with pytest.raises(GeometryError, match=message):
        Geometry(**{"shape": (4, 6), "center_x": 1, "center_y": 1, **arguments})
