"""Frames at grazing incidence: where horizon, specular beam and rods must lie."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.reproduction.independent_sets import grazing_incidence
from dvfb_stream.reproduction.independent_sets.films import FILMS, GOLD, Reach
from dvfb_stream.reproduction.independent_sets.grazing_incidence import (
    FRAMES_PER_SETUP,
    Incidence,
    exit_angles,
    grazing_frames,
    scattered,
    turned_geometry,
)
from dvfb_stream.reproduction.independent_sets.setup import Pose, build

pytest.importorskip("pyFAI", reason="pyFAI is not installed; the extra `evaluate` brings it")
ba = pytest.importorskip("bornagain", reason="BornAgain is not installed; the extra `grazing` brings it")

ANGLE = math.radians(0.3)


@pytest.fixture(scope="module")
def setup():
    return build(Pose(detector="pilatus1m", center=(0.5, 0.85), distance=4.0, wavelength=1.0))


def test_a_frame_follows_from_seed_and_number_alone():
    together = list(grazing_frames(4, 3, 7))
    for number, frame in zip(range(3, 7), together, strict=True):
        alone = next(grazing_frames(4, number, number + 1))
        assert np.array_equal(alone.pixels, frame.pixels)
        assert alone.geometry == frame.geometry
    assert [frame.setup for frame in together] == [number // FRAMES_PER_SETUP for number in range(3, 7)]
    assert not np.array_equal(together[0].pixels, next(grazing_frames(5, 3, 4)).pixels)


def test_frames_are_counts_of_their_geometry():
    for frame in grazing_frames(1, 0, 12):
        assert frame.pixels.dtype == np.int32
        assert frame.pixels.shape == frame.geometry.shape
        assert frame.pixels.min() >= 0
        assert not frame.pixels[~frame.geometry.mask].any()
        assert frame.film in FILMS


def test_the_unscattered_beam_goes_as_far_below_the_horizon_as_the_angle_of_incidence(setup):
    across, up = exit_angles(setup, ANGLE)
    row, column = round(setup.geometry.center_y), round(setup.geometry.center_x)
    pixel = setup.pixel / setup.pose.distance
    assert across[row, column] == pytest.approx(0.0, abs=pixel)
    assert up[row, column] == pytest.approx(-ANGLE, abs=pixel)
    # 100 pixels up and aside, by the tangent.
    assert up[row - 100, column] + ANGLE == pytest.approx(100 * pixel, rel=0.02)
    assert across[row, column + 100] == pytest.approx(100 * pixel, rel=0.02)


@pytest.mark.parametrize("film", list(FILMS))
def test_nothing_is_scattered_below_the_horizon_and_much_at_the_critical_angle(setup, film):
    signal = scattered(setup, Incidence(angle=ANGLE, quarter_turns=0), film, np.random.default_rng(2))
    _, up = exit_angles(setup, ANGLE)
    assert not signal[up <= 0].any()
    assert np.isfinite(signal).all()
    # Yoneda's: brighter there than twice as high above it and at the horizon itself.
    line = signal.sum(axis=1)
    of_row = up.mean(axis=1)
    critical = math.radians(0.17)
    near = line[(of_row > 0.4 * critical) & (of_row < 1.6 * critical)].max()
    assert near > line[(of_row > 0) & (of_row < 0.15 * critical)].mean()


def test_rods_of_a_grating_lie_at_its_orders(setup, monkeypatch):
    def grating(reach, rng):
        ridge = ba.Particle(
            ba.RefractiveMaterial("gold", (0.5, 0.5, 0.5), *GOLD[1:]), ba.Box(2000.0, 15.0, 10.0)
        )
        chains = ba.Paracrystal1D(ridge, 40.0, math.pi / 2.0, 1e-4, 4000.0)
        chains.setProbabilityDistribution(ba.Profile1DGauss(1.0))
        above, sample = ba.Layer(ba.Vacuum()), ba.Sample()
        above.deposit2D(chains)
        sample.addLayer(above)
        sample.addLayer(ba.Layer(ba.RefractiveMaterial("silicon", (0.5, 0.5, 0.5), 7e-6, 1e-7)))
        return sample

    monkeypatch.setitem(grazing_incidence.FILMS, "grating", grating)
    signal = scattered(setup, Incidence(angle=ANGLE, quarter_turns=0), "grating", np.random.default_rng(1))
    profile = signal.sum(axis=0)
    pixel = setup.pixel / setup.pose.distance
    for order in (-2, -1, 1, 2):
        # 40 nm at a wavelength of 0.1 nm.
        place = setup.geometry.center_x + math.tan(math.asin(order * 0.1 / 40.0)) / pixel
        near = np.arange(round(place) - 5, round(place) + 6)
        assert near[np.argmax(profile[near])] == pytest.approx(place, abs=2.0)


def test_every_detector_sees_most_of_what_is_above_the_horizon():
    for seed in range(40):
        setup, incidence = grazing_incidence._draw_setup(np.random.default_rng(seed))
        _, up = exit_angles(setup, incidence.angle)
        assert 0 < incidence.angle < up.max()
        assert up.max() >= 0.59 * (up.max() + incidence.angle)


@pytest.mark.parametrize("turns", range(4))
def test_a_turned_geometry_goes_with_the_turned_frame(turns):
    pixels = np.zeros((7, 12), dtype=np.int32)
    pixels[2, 9] = 1
    mask = np.ones((7, 12), dtype=bool)
    mask[5, 1] = False
    geometry = turned_geometry(Geometry(shape=(7, 12), center_x=9.0, center_y=2.0, mask=mask), turns)
    turned = np.rot90(pixels, turns)
    assert geometry.shape == turned.shape
    assert turned[int(geometry.center_y), int(geometry.center_x)] == 1
    assert np.array_equal(geometry.mask, np.rot90(mask, turns))


def test_lengths_follow_from_what_the_detector_reaches():
    reach = Reach(wavelength=0.1, across=0.02, up=0.03, incidence=0.005)
    # 2 theta of 0.01 and a wavelength of 0.1 nm belong to 10 nm.
    assert reach.length(0.5) == pytest.approx(10.0, rel=1e-3)
    assert replace(reach, wavelength=0.2).length(0.5) == pytest.approx(20.0, rel=1e-3)


@pytest.mark.parametrize(("seed", "start"), [(-1, 0), (0, -1)])
def test_what_is_not_numbered_is_refused(seed, start):
    with pytest.raises(SettingsError, match="-1"):
        next(grazing_frames(seed, start, start + 1))
