"""Frames are measured about the centre that their own pattern has, at radii that no turn of the detector changes."""

import numpy as np
import pytest

from dvfb_stream import Frame, Geometry
from dvfb_stream.azimuthal.orders import GRID, AzimuthalOrders
from dvfb_stream.azimuthal.polar_bins import NARROW_WITHIN, PolarBins
from dvfb_stream.azimuthal.ring_statistics import CHANNELS, EDGES
from dvfb_stream.training.real_frames.alterations import rotated
from dvfb_stream.view import ViewResampler

SIDE, AREA, STEP = 512, 4.0, 0.5
Y, X = np.mgrid[:SIDE, :SIDE]
ALL = np.ones((SIDE, SIDE), bool)


def pattern(center_x: float, center_y: float, *, exposure: float = 1.0) -> np.ndarray:
    """Return expected counts: a narrow twofold ring at 40 units on a falling background."""
    radius = np.hypot(X - center_x, Y - center_y) * STEP
    azimuth = np.arctan2(Y - center_y, X - center_x)
    ring = np.exp(-(((radius - 40) / 1.2) ** 2)) * (1 + 0.5 * np.cos(2 * azimuth))
    return exposure * (300 * np.exp(-radius / 20) + 60 * ring + 2)


def counted(expected: np.ndarray, seed: int = 0) -> np.ndarray:
    counts = np.random.default_rng(seed).poisson(expected * AREA) / AREA
    return counts.astype(np.float32)


def orders(x: float = 250.0, y: float = 261.0) -> AzimuthalOrders:
    return AzimuthalOrders(ALL, x, y, AREA, step=STEP)


@pytest.mark.parametrize(("x", "y"), [(3.0, 0.0), (-2.0, 4.0), (0.0, -5.0)])
def test_a_frame_whose_centre_is_off_is_measured_as_if_it_were_right(x, y):
    frame = counted(pattern(250.0, 261.0))
    right, wrong = (found.examine(frame[None]) for found in (orders(), orders(250.0 + x, 261.0 + y)))
    (there,), (elsewhere,) = right[0], wrong[0]
    assert (elsewhere.shift_x, elsewhere.shift_y) == pytest.approx((-x * STEP, -y * STEP), abs=0.1)
    assert there.verified.labels["symmetry_rings"] > 1.5
    for label, evidence in there.verified.labels.items():
        assert elsewhere.verified.labels[label] == pytest.approx(evidence, abs=0.35), label
    at = np.searchsorted(EDGES, 40.0) - 1
    level = CHANNELS.index("level")
    np.testing.assert_allclose(
        right[1][0, level, at - 8 : at + 9], wrong[1][0, level, at - 8 : at + 9], atol=0.05
    )


def test_without_its_own_centre_the_narrow_ring_would_be_smeared(monkeypatch):
    monkeypatch.setattr("dvfb_stream.azimuthal.orders.GRID", 1e9)
    frame = counted(pattern(250.0, 261.0))
    (right,), (wrong,) = (found.measure(frame[None]) for found in (orders(), orders(253.0, 261.0)))
    assert wrong.verified.labels["symmetry_rings"] < 0.8 * right.verified.labels["symmetry_rings"]


def test_frames_of_one_batch_each_have_their_own_centre_and_stay_in_order():
    centres = [(250, 261), (254, 261), (250, 261), (250, 255), (254, 261)] * 3
    frames = np.stack([counted(pattern(*centre), seed) for seed, centre in enumerate(centres)])
    measured, statistics = orders().examine(frames)
    for (x, y), one in zip(centres, measured, strict=True):
        assert (one.shift_x, one.shift_y) == pytest.approx(((x - 250) * STEP, (y - 261) * STEP), abs=0.15)
    alone = [orders().examine(frame[None]) for frame in frames]
    for k, (one, rings) in enumerate(alone):
        np.testing.assert_allclose(statistics[k], rings[0], atol=1e-4)
        assert measured[k].verified.labels == pytest.approx(one[0].verified.labels, abs=1e-4)


def test_what_is_too_faint_to_have_a_centre_is_measured_about_the_stated_one():
    frames = np.stack([counted(pattern(252, 261, exposure=1e-4), seed) for seed in range(4)])
    found = orders()
    ((places, seen),) = found._some(frames)
    assert places.tolist() == [0, 1, 2, 3]
    assert not seen.sectors.told.any()
    np.testing.assert_array_equal(seen.shift, seen.sectors.shift)


def test_the_statistics_say_by_how_much_the_centre_is_off():
    frame = counted(pattern(250.0, 261.0))
    rings = orders(256.0, 261.0).statistics(frame[None])[0]
    seen = rings[CHANNELS.index("seen")] > 0
    assert rings[CHANNELS.index("shift"), seen] == pytest.approx(3.0 / 4.0, abs=0.03)


def test_rings_near_the_beam_are_narrow_where_pixels_are_fine():
    fine, coarse = PolarBins(ALL, 250, 261, step=0.5), PolarBins(ALL, 250, 261, step=1.0)
    for bins, narrow in ((fine, 1.0), (coarse, 2.0)):
        inside = bins.radii < NARROW_WITHIN
        assert set(bins.widths[inside]) == {narrow}
        assert set(bins.widths[~inside]) == {2.0}
        between = np.diff(bins.radii[(bins.radii > 5) & (bins.radii < 60)])
        assert between.mean() == pytest.approx(narrow, rel=0.02)
        assert bins.pixels.sum() == ALL.sum()


def test_a_turned_frame_has_its_rings_at_the_same_radii():
    side = 600
    y, x = np.mgrid[:side, :side]
    radius = np.hypot(x - 290.0, y - 310.0)
    pixels = np.random.default_rng(1).poisson(40 * np.exp(-(((radius - 120) / 4) ** 2)) + 5)
    frame = Frame(pixels, Geometry(shape=(side, side), center_x=290.0, center_y=310.0, counts_per_unit=1.0))
    brightest = []
    for one in (frame, rotated(frame, 37.0), rotated(frame, 45.0)):
        resampler = ViewResampler(one.geometry)
        view, raster = resampler.view(one.pixels), resampler.fine
        bins = PolarBins(view.fine.mask, raster.center_x, raster.center_y, step=raster.step)
        mean, _ = bins.means(view.fine.counts[None])
        brightest.append(bins.radii[mean[0].argmax()])
    assert brightest[0] == pytest.approx(120 * 256 / side, abs=0.5)
    assert brightest == pytest.approx([brightest[0]] * 3, abs=1.0)


def test_the_grid_is_finer_than_what_is_left_to_the_slope():
    assert GRID / 2 < 0.2
