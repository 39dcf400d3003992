"""A frame of nothing gets no label, and its row says why."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.labels import LABELS
from dvfb_stream.models.decision import NOT_GATED
from dvfb_stream.remarks import too_little
from dvfb_stream.view import make_view


def refusal(pixels: np.ndarray, mask: np.ndarray | None = None, aspect: float = 1.0) -> str:
    shape = (pixels.shape[0], pixels.shape[1])
    geometry = Geometry(
        shape=shape, center_x=shape[1] / 2, center_y=shape[0] / 2, mask=mask, pixel_aspect=aspect
    )
    return too_little(make_view(Frame(pixels, geometry)), geometry)


@pytest.mark.parametrize(
    ("side", "too_few"), [(2, True), (16, True), (45, True), (46, False), (64, False), (300, False)]
)
def test_a_frame_needs_pixels(side: int, too_few: bool) -> None:
    assert ("valid pixels, fewer than 2048" in refusal(np.full((side, side), 100))) == too_few


@pytest.mark.parametrize(("side", "said"), [(1, "1 valid pixels"), (50, "1.0 % of the view"), (90, "")])
def test_a_frame_needs_pixels_that_are_valid(side: int, said: str) -> None:
    mask = np.zeros((500, 500), bool)
    mask[100 : 100 + side, 200 : 200 + side] = True
    assert (
        (said in refusal(np.full(mask.shape, 100), mask))
        if said
        else not refusal(np.full(mask.shape, 100), mask)
    )


@pytest.mark.parametrize("shape", [(1043, 981), (195, 487), (100, 100)])
@pytest.mark.parametrize(("counts", "too_few"), [(0, True), (950, True), (1050, False), (10**6, False)])
def test_a_frame_needs_counts(shape: tuple[int, int], counts: int, too_few: bool) -> None:
    pixels = np.zeros(shape, np.int32)
    rng = np.random.default_rng(0)
    np.add.at(pixels.reshape(-1), rng.integers(0, pixels.size, counts), 1)
    said = refusal(pixels)
    assert ("counts, fewer than 1000" in said) == too_few
    if too_few:
        assert int(said.split(" has ")[1].split()[0]) == counts


def test_a_row_of_nothing_has_no_label_and_says_why(tiny_bundle) -> None:
    annotator = Annotator.load(tiny_bundle, device="cpu")
    annotator.thresholds = dict.fromkeys(LABELS, 0.0)
    shape = (300, 260)
    geometry = Geometry(shape=shape, center_x=130.0, center_y=150.0)
    one = np.zeros(shape, bool)
    one[150, 130] = True
    small = Geometry(shape=(2, 2), center_x=0.5, center_y=0.5)
    something = np.random.default_rng(0).poisson(20, shape)
    frames = [
        Frame(np.ones((2, 2)), small),
        Frame(something, Geometry(shape=shape, center_x=130.0, center_y=150.0, mask=one)),
        Frame(np.zeros(shape), geometry),
        Frame(np.random.default_rng(0).poisson(1e-4, shape), geometry),
        Frame(something, geometry),
    ]
    *nothing, full = annotator.annotate(frames)
    for annotation in nothing:
        assert annotation.ok
        assert annotation.labels == ()
        assert annotation.remark.startswith("No label is accepted: the frame has")
        assert set(annotation.scores) == set(LABELS)
    assert "masked" in nothing[1].remark
    assert full.remark == ""
    assert full.labels == tuple(LABELS)


@pytest.mark.parametrize(("brighter", "is_even"), [(104.0, True), (106.0, False)])
def test_a_frame_of_one_brightness_has_labels_of_its_quality_alone(tiny_bundle, brighter, is_even) -> None:
    """One quadrant is brighter than the rest by 4 and by 6 %, without noise."""
    pixels = np.full((512, 512), 100.0, np.float32)
    pixels[:256, :256] = brighter
    annotator = Annotator.load(tiny_bundle, device="cpu")
    annotator.thresholds = dict.fromkeys(annotator.thresholds, 0.0)
    (annotation,) = annotator.annotate(
        [Frame(pixels, Geometry(shape=(512, 512), center_x=256, center_y=256))]
    )
    assert annotation.ok
    assert ("less than 5 %" in annotation.remark) == is_even
    assert bool(set(annotation.labels) - set(NOT_GATED)) != is_even
    assert len(annotation.scores) == len(annotator.labels)
