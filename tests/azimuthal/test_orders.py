"""Order and contrast of patterns whose contrast is known, and none where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dvfb_stream.azimuthal.evidence import evidence
from dvfb_stream.azimuthal.harmonics import ORDERS, HarmonicFit
from dvfb_stream.azimuthal.orders import AzimuthalOrders
from dvfb_stream.azimuthal.polar_bins import PolarBins
from dvfb_stream.azimuthal.sectors import gather

SIZE = 256
AREA = 16.0
Y, X = np.indices((SIZE, SIZE))
ALL = np.ones((SIZE, SIZE), bool)
FOLD_OF = {2: "two_fold", 4: "four_fold", 6: "six_fold"}


def polar(x=127.5, y=127.5):
    return np.hypot(X - x, Y - y), np.arctan2(Y - y, X - x)


def counted(expected, seed=0):
    """What a counting detector gives of expected counts a detector pixel, averaged over those of a view pixel."""
    counts = np.random.default_rng(seed).poisson(np.asarray(expected) * AREA) / AREA
    return counts.astype(np.float32)


def harmonics_of(image, mask=ALL, x=127.5, y=127.5, *, verified=False):
    bins = PolarBins(mask, x, y)
    return HarmonicFit(bins, verified=verified).fit(gather(bins, image[None].astype(np.float32), AREA), AREA)


def measured(image, mask=ALL, x=127.5, y=127.5):
    (found,) = AzimuthalOrders(mask, x, y, AREA).measure(image[None].astype(np.float32))
    return found


def seen(image, mask=ALL, x=127.5, y=127.5):
    """Evidence of all sectors, verified or not."""
    _, harmonics = AzimuthalOrders(mask, x, y, AREA).harmonics(image[None].astype(np.float32))
    return evidence(harmonics)[0]


def gaps():
    mask = ALL.copy()
    mask[60:66] = mask[:, 170:174] = mask[150:152] = False
    mask[(X - 127.5) ** 2 + (Y - 127.5) ** 2 < 25] = False
    mask[120:135, :128] = False  # a holder
    return mask


def ring(radius, at=60.0, width=8.0, *, height=30.0, background=5.0):
    return background + height * np.exp(-(((radius - at) / width) ** 2) / 2)


@pytest.mark.parametrize("mask", [ALL, gaps()], ids=["whole", "gaps"])
@pytest.mark.parametrize("order", ORDERS)
def test_a_known_contrast_is_measured_with_its_direction(order, mask):
    _, azimuth = polar()
    image = 40 * (1 + 0.3 * np.cos(order * (azimuth - 0.4)))
    found = harmonics_of(image, mask)
    rings = found.known[0] & (found.radii > 20)  # nearer, sectors are of a pixel or two
    assert rings.sum() > 40
    amplitude = found.amplitude[0, rings]
    k = ORDERS.index(order)
    np.testing.assert_allclose(np.abs(amplitude[:, k]), 0.3, atol=0.02)
    assert np.abs(amplitude[:, k]).mean() == pytest.approx(0.3, abs=0.002)
    np.testing.assert_allclose(np.angle(amplitude[:, k] * np.exp(-0.4j * order)), 0, atol=0.05)
    np.testing.assert_allclose(np.abs(np.delete(amplitude, k, axis=1)), 0, atol=0.02)
    np.testing.assert_allclose(found.mean[0, rings], 40, rtol=0.02)


def test_a_contrast_is_measured_in_a_corner_but_not_verified_there():
    _, azimuth = polar(3.0, 5.0)
    image = 40 * (1 + 0.3 * np.cos(2 * azimuth))
    # A quarter of a circle is half a period: too little for twofold.
    assert not harmonics_of(image, x=3.0, y=5.0).known[0, 20:].any()
    _, azimuth = polar(127.5, 5.0)  # half a circle, a whole period
    image = 40 * (1 + 0.3 * np.cos(2 * azimuth))
    seen = harmonics_of(image, x=127.5, y=5.0)
    rings = seen.known[0] & (seen.radii > 20) & (seen.radii < 110)
    assert rings.sum() > 40
    np.testing.assert_allclose(np.abs(seen.amplitude[0, rings, 0]), 0.3, atol=0.01)
    assert not harmonics_of(image, x=127.5, y=5.0, verified=True).known[0, 10:].any()


@pytest.mark.parametrize("counts", [0.05, 2.0, 40.0])
@pytest.mark.parametrize(
    ("x", "y", "mask"), [(127.5, 127.5, ALL), (100.0, 140.3, gaps())], ids=["whole", "gaps"]
)
def test_significance_is_standard_normal_where_only_noise_varies(counts, x, y, mask):
    radius, _ = polar(x, y)
    expected = counts * (1 + 20 * np.exp(-radius / 20))
    images = np.stack([counted(expected, seed) for seed in range(8)])
    bins = PolarBins(mask, x, y)
    found = HarmonicFit(bins, verified=False).fit(gather(bins, images, AREA), AREA)
    deviates = found.significance[found.known].ravel()
    assert len(deviates) > 1500
    assert deviates.std() == pytest.approx(1, abs=0.06)
    assert deviates.mean() == pytest.approx(0, abs=0.08)
    assert stats.kstest(deviates, "norm").pvalue > 1e-3
    # The deviation, too, is that of the amplitudes: twice its square is their mean square.
    amplitude = np.abs(found.amplitude[found.known]) / found.deviation[found.known]
    assert (amplitude**2).mean() == pytest.approx(2, rel=0.08)


def test_a_photons_worth_is_found_and_the_unit_of_counts_changes_nothing():
    radius, azimuth = polar()
    image = counted(ring(radius) * (1 + 0.3 * np.cos(2 * azimuth)))
    plain = measured(image)
    assert plain.worth == pytest.approx(1, abs=0.1)
    for unit in (1e-3, 7.0, 1e4):
        other = measured(image * unit)
        assert other.worth == pytest.approx(plain.worth * unit, rel=1e-3)
        assert other.verified.labels == pytest.approx(plain.verified.labels, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("order", [2, 4, 6])
@pytest.mark.parametrize(("width", "label"), [(2.5, "symmetry_rings"), (14.0, "symmetry_halo")])
def test_a_textured_ring_or_halo_has_its_order(order, width, label):
    radius, azimuth = polar(120.2, 131.0)
    image = counted(ring(radius, width=width) * (1 + 0.4 * np.cos(order * (azimuth - 1))))
    found = measured(image, gaps(), 120.2, 131.0).verified
    assert found.order == order
    # A wave of amplitude 0.4 has a standard deviation of 0.283; a little is taken off, and gaps cost precision.
    assert found.contrast == pytest.approx(0.27, rel=0.15)
    assert found.labels[FOLD_OF[order]] == pytest.approx(found.contrast / 0.06)
    assert all(found.labels[other] == 0 for other in set(FOLD_OF.values()) - {FOLD_OF[order]})
    assert found.labels[label] > 2
    assert found.labels[{"symmetry_rings": "symmetry_halo", "symmetry_halo": "symmetry_rings"}[label]] == 0


@pytest.mark.parametrize("order", [2, 4, 6])
def test_sharp_arcs_have_the_order_of_their_number(order):
    radius, azimuth = polar()
    h = 0.6  # the profile of docs/simulate.md, whose harmonics of all multiples are large
    arcs = (1 - h**2) / ((1 + h) ** 2 - 4 * h * np.cos(order * azimuth / 2) ** 2)
    found = measured(counted(5 + 40 * np.exp(-(((radius - 60) / 3) ** 2) / 2) * arcs)).verified
    assert found.order == order
    assert found.labels["symmetry_rings"] > 2


def test_an_eightfold_ring_is_anisotropic_and_has_no_fold():
    radius, azimuth = polar()
    found = measured(counted(ring(radius, width=3.0) * (1 + 0.5 * np.cos(8 * azimuth)))).verified
    assert found.order == 0
    assert found.labels["symmetry_rings"] > 2
    assert found.labels["four_fold"] == 0


@pytest.mark.parametrize("counts", [0.02, 0.5, 20.0, 1000.0])
def test_isotropic_frames_have_neither_fold_nor_symmetry(counts):
    for x, y, mask in ((127.5, 127.5, ALL), (90.0, 140.3, gaps()), (200.0, 20.0, gaps())):
        radius, _ = polar(x, y)
        expected = counts * (ring(radius, width=3.0) / 5 + 300 / (1 + (radius / 5) ** 4))
        for seed in range(4):
            image = counted(expected, seed)
            assert max(measured(image, mask, x, y).verified.labels.values()) < 0.7
            assert max(seen(image, mask, x, y).labels.values()) < 0.7


def test_a_ring_that_is_the_same_all_around_has_no_texture_over_a_twofold_background():
    radius, azimuth = polar()
    image = 20 * (1 + 0.4 * np.cos(2 * azimuth)) + 60 * np.exp(-(((radius - 60) / 3) ** 2) / 2)
    found = measured(counted(image)).verified
    assert found.order == 2
    assert found.labels["symmetry_rings"] < 0.5


@pytest.mark.parametrize("k", range(8))
def test_flips_and_quarter_turns_change_nothing(k):
    x, y, mask = 100.0, 140.5, gaps()
    radius, azimuth = polar(x, y)
    image = counted(
        ring(radius, width=3.0) * (1 + 0.2 * np.cos(2 * (azimuth - 0.3)) + 0.1 * np.cos(4 * azimuth))
    )
    before = measured(image, mask, x, y)
    if k >= 4:
        image, mask, x = image[:, ::-1], mask[:, ::-1], SIZE - 1 - x
    for _ in range(k % 4):
        image, mask, x, y = np.rot90(image), np.rot90(mask), y, SIZE - 1 - x
    after = measured(np.ascontiguousarray(image), np.ascontiguousarray(mask), x, y)
    assert after.verified.labels == pytest.approx(before.verified.labels, rel=1e-3, abs=1e-3)
    assert after.verified.order == before.verified.order


def test_turning_the_pattern_by_any_angle_changes_hardly_anything():
    radius, azimuth = polar()
    found = [
        measured(counted(ring(radius, width=3.0) * (1 + 0.3 * np.cos(2 * (azimuth - turn)))), gaps()).verified
        for turn in np.radians([0, 12, 33, 45, 77, 130])
    ]
    for label in ("two_fold", "symmetry_rings"):
        values = [one.labels[label] for one in found]
        assert np.ptp(values) < 0.1 * np.mean(values)


def test_a_wrong_centre_is_found_and_makes_no_fold():
    radius, _ = polar(127.5, 127.5)
    image = counted(20 * (ring(radius, width=6.0) / 5 + 300 / (1 + (radius / 8) ** 3)))
    for off_x, off_y in ((1.0, 0.0), (-0.7, 0.7), (0.0, -2.0)):
        found = measured(image, ALL, 127.5 + off_x, 127.5 + off_y)
        assert (found.shift_x, found.shift_y) == pytest.approx((-off_x, -off_y), abs=0.3)
        assert max(found.verified.labels.values()) < 1


def test_a_shadow_on_one_side_makes_no_fold():
    radius, azimuth = polar()
    image = ring(radius, width=14.0)
    arm = (np.abs((X - 127.5) - (Y - 127.5)) < 9) & (X > 127.5)
    found = measured(counted(np.where(arm, 0.1 * image, image)))
    assert max(found.verified.labels.values()) < 0.5
    # Darker on one half altogether: nothing is centrosymmetric.
    half = measured(counted(np.where(azimuth > 0, 0.5 * image, image)))
    assert max(half.verified.labels.values()) < 0.5


def test_a_windows_edge_that_is_seen_on_one_side_alone_is_not_verified():
    x, y = 127.5, 40.0
    outside = np.hypot(X - x, Y - y - 40) > 120  # a window that is not centred on the beam
    image = np.where(outside, 0.2, 20.0)
    image = counted(image)
    assert seen(image, ALL, x, y).labels["two_fold"] > 2
    assert measured(image, ALL, x, y).verified.labels["two_fold"] < 0.5


@pytest.mark.parametrize("ellipse", [0.005, 0.01])
def test_a_slightly_tilted_detector_makes_no_fold_where_intensity_falls_steeply(ellipse):
    stretched = np.hypot((X - 127.5) * (1 + ellipse / 2), (Y - 127.5) * (1 - ellipse / 2))
    image = 1e7 / np.maximum(stretched, 4) ** 4
    assert measured(counted(image)).verified.labels["two_fold"] < 0.5


def test_little_is_known_of_little():
    nothing = measured(np.zeros((SIZE, SIZE)))
    assert set(nothing.verified.labels.values()) == {0.0}
    assert (nothing.verified.order, nothing.verified.rings_known, nothing.worth) == (0, 0, 1.0)
    flat = measured(np.full((SIZE, SIZE), 3.0))  # without any noise
    assert (flat.verified.order, flat.verified.contrast, flat.worth) == (0, 0.0, 1.0)
    one = np.zeros_like(ALL)
    one[30, 40] = True
    found = measured(np.full((SIZE, SIZE), 9.0), one)
    assert set(found.verified.labels.values()) == set(found.seen.labels.values()) == {0.0}
    strip = measured(counted(np.full((SIZE, SIZE), 9.0)), ALL, -200.0, 120.0)  # 60 degrees at most
    assert strip.seen.rings_known == 0


def test_where_nothing_is_verified_all_that_is_seen_is_told_besides():
    _, azimuth = polar(127.5, 5.0)
    image = counted(40 * (1 + 0.3 * np.cos(2 * azimuth)))
    found = measured(image, ALL, 127.5, 5.0)
    assert found.verified.rings_known < 4
    assert found.seen == seen(image, ALL, 127.5, 5.0)
    assert found.seen.order == 2
    assert measured(image).seen is None


def test_frames_do_not_touch_one_another():
    radius, azimuth = polar()
    images = np.stack(
        [
            counted(ring(radius) * (1 + c * np.cos(2 * azimuth)), seed)
            for seed, c in enumerate((0, 0.1, 0.3, 0.6, 0))
        ]
    )
    orders = AzimuthalOrders(gaps(), 127.5, 127.5, AREA)
    together = orders.measure(images)
    assert [one.verified.order for one in together] == [0, 2, 2, 2, 0]
    for image, one in zip(images, together, strict=True):
        (alone,) = orders.measure(image[None])
        assert alone.verified.labels == pytest.approx(one.verified.labels, rel=1e-4, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    x=st.floats(-300, 600),
    y=st.floats(-300, 600),
    share=st.floats(0.001, 1),
    counts=st.sampled_from([1e-6, 0.01, 10.0, 1e7]),
)
def test_whatever_the_mask_and_the_centre_evidence_is_a_number(seed, x, y, share, counts):
    random = np.random.default_rng(seed)
    mask = random.random((64, 64)) < share
    mask[0, 0] = True
    image = (random.gamma(0.3, size=(2, 64, 64)) * counts).astype(np.float32)
    image[0, ::3] = 0
    for found in AzimuthalOrders(mask, x, y, 1.0).measure(image):
        labels = {**found.verified.labels, **({} if found.seen is None else found.seen.labels)}
        values = [*labels.values(), found.worth, found.shift_x]
        assert np.isfinite(values).all()
        assert min(values[:-1]) >= 0
