"""Views are copied to a GPU while it computes; what comes of them is the same."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream import Annotator, Frame, Geometry


def frames(count: int) -> list[Frame]:
    rng = np.random.default_rng(0)
    geometry = Geometry(shape=(180, 200), center_x=90.3, center_y=70.1)
    return [Frame(rng.poisson(20, (180, 200)).astype(np.uint16), geometry) for _ in range(count)]


def test_on_a_cpu_nothing_is_copied_ahead(tiny_bundle):
    annotator = Annotator.load(tiny_bundle, device="cpu")
    annotator.copy_ahead()
    assert [annotator.prepare(frame).transfer for frame in frames(2)] == [None, None]


@pytest.mark.gpu
def test_annotations_of_views_copied_ahead_are_those_of_views_copied_in_turn(tiny_bundle):
    in_turn, ahead = (Annotator.load(tiny_bundle, device="cuda") for _ in range(2))
    ahead.copy_ahead()
    prepared = [ahead.prepare(frame) for frame in frames(40)]
    assert all(one.transfer is not None and one.transfer.image.device.type == "cuda" for one in prepared)
    for found, expected in zip(ahead.annotate_prepared(prepared), in_turn.annotate(frames(40)), strict=True):
        assert found.scores == pytest.approx(expected.scores, abs=1e-6)
