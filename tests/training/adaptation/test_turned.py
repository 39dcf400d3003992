"""Turned frames go through the whole pipeline as turned views do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dvfb_stream import Annotator, Frame, Geometry, InvalidValues
from dvfb_stream.examination import examine
from dvfb_stream.tilt import Tilt
from dvfb_stream.training.adaptation import copies_of, turned
from dvfb_stream.training.augmentation import SYMMETRIES, transform
from dvfb_stream.view import make_view


def lopsided(shape):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) > 0.02
    mask[: shape[0] // 4, 10:20] = False
    pixels = rng.poisson(20 + 500 * np.exp(-np.hypot(*np.indices(shape) - 20) / 30))
    return Frame(pixels, Geometry(shape=shape, center_x=31.25, center_y=60.5, mask=mask))


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_the_view_of_a_turned_frame_is_the_turned_view(symmetry):
    frame = lopsided((256, 256))
    before, after = make_view(frame), make_view(turned(frame, symmetry))
    images, masks, _ = transform(
        symmetry,
        torch.from_numpy(before.image)[None],
        torch.from_numpy(before.mask)[None],
        torch.zeros(1, 40, 11, dtype=torch.complex64),
        orders=tuple(range(0, 21, 2)),
    )
    np.testing.assert_allclose(after.image, images[0].numpy(), atol=1e-4)
    np.testing.assert_array_equal(after.mask, masks[0].numpy())


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_the_beam_stays_on_its_pixel(symmetry):
    frame = lopsided((100, 140))
    marked = np.zeros(frame.pixels.shape, dtype=int)
    marked[60, 31] = 1
    whole = Geometry(shape=(100, 140), center_x=31.0, center_y=60.0)
    found = turned(Frame(marked, whole), symmetry)
    assert found.geometry.shape == found.pixels.shape
    assert found.pixels[round(found.geometry.center_y), round(found.geometry.center_x)] == 1
    shape = turned(frame, symmetry).geometry.shape
    assert shape == ((140, 100) if symmetry % 2 else (100, 140))


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_what_is_known_of_the_pixels_goes_along(symmetry):
    invalid = InvalidValues(values=(7,))
    geometry = Geometry(
        shape=(6, 8), center_x=1, center_y=2, invalid_values=invalid, pixel_aspect=0.5, source="a"
    )
    found = turned(Frame(np.ones((6, 8)), geometry), symmetry).geometry
    assert (found.invalid_values, found.source) == (invalid, "a")
    assert found.pixel_aspect == (2 if symmetry % 2 else 0.5)


@pytest.mark.parametrize("symmetry", range(SYMMETRIES))
def test_pixels_of_a_tilted_detector_keep_their_scattering_angle(symmetry):
    pixels = np.arange(48.0).reshape(6, 8)
    tilt = Tilt(distance=20.0, right=0.2, down=-0.3)
    frame = Frame(pixels, Geometry(shape=(6, 8), center_x=1, center_y=2.5, pixel_aspect=0.5, tilt=tilt))

    def tangents(frame):
        geometry = frame.geometry
        rows, columns = np.indices(geometry.shape)
        across, down = columns - geometry.center_x, (rows - geometry.center_y) * geometry.pixel_aspect
        radius = np.hypot(*geometry.tilt.straightened(across, down)) / geometry.tilt.distance
        return radius.ravel()[np.argsort(frame.pixels, axis=None)]

    np.testing.assert_allclose(tangents(turned(frame, symmetry)), tangents(frame))


@pytest.mark.parametrize("symmetry", [1, 4, 6])
def test_coefficients_of_a_turned_frame_are_the_turned_coefficients(tiny_bundle, symmetry):
    """Through the annotator, beam off the middle: up to the outermost ring of the disk (8)."""
    annotator = Annotator.load(tiny_bundle, device="cpu")
    frame = lopsided((256, 256))
    before = examine(annotator, frame).coefficients
    after = examine(annotator, turned(frame, symmetry)).coefficients
    blank = torch.zeros(1, 256, 256)
    _, _, expected = transform(
        symmetry, blank, blank > 0, torch.from_numpy(before)[None], orders=tuple(range(0, 21, 2))
    )
    distance = np.linalg.norm(after - expected[0].numpy()) / np.linalg.norm(before)
    assert distance < 0.06


def test_many_frames_need_fewer_copies():
    assert copies_of(10) == (0, 4, 2, 6, 1, 5, 3, 7)
    assert copies_of(2000) == (0, 4)
    assert copies_of(100_000) == (0,)
