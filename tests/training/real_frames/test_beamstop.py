"""A beamstop's shadow is found where it ends and nowhere else, masked, and opened again without the gaps."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.training.real_frames.alterations import distances, settle
from dvfb_stream.training.real_frames.beamstop import shadow_edge, with_beamstop_otherwise

SIZE = 300
Y, X = np.indices((SIZE, SIZE)) - 150
RADIUS = np.hypot(X, Y)


def settled(expected, mask=None, *, x=150, y=150, dtype=np.int64):
    counts = np.random.default_rng(0).poisson(expected).astype(dtype)
    return settle(Frame(counts, Geometry(shape=counts.shape, center_x=x, center_y=y, mask=mask)))


def shadowed(stop=9.0, dark=1.0):
    """Intensity that falls from the beam outwards, behind a beamstop."""
    return np.where(stop > RADIUS, dark, 1000 / (1 + RADIUS / 10))


@pytest.mark.parametrize("stop", [4, 9, 20])
def test_a_beamstop_that_is_not_masked_becomes_so(stop):
    mask = np.ones((SIZE, SIZE), bool)
    mask[:, 40:45] = False  # a gap, far from the beam
    before = settled(shadowed(stop), mask)
    after = with_beamstop_otherwise(before)
    lost = before.frame.geometry.mask & ~after.geometry.mask
    assert lost[stop - 0.5 > RADIUS].all()
    assert not lost[stop + 3 < RADIUS].any()
    np.testing.assert_array_equal(after.pixels[after.geometry.mask], before.frame.pixels[after.geometry.mask])


def test_no_ring_and_no_hole_of_noise_is_taken_for_the_edge_of_a_beamstop():
    ring = 5 + 100 * np.exp(-(((RADIUS - 60) / 4) ** 2))
    assert with_beamstop_otherwise(settled(ring)) is None  # farther out than a beamstop reaches
    for seed in range(20):
        counts = np.random.default_rng(seed).poisson(0.3, (SIZE, SIZE))
        assert shadow_edge(counts, np.ones(counts.shape, bool), RADIUS) is None
    # The shadow ends at 12, within a ring of radius 30: the ring stays.
    within = np.where(RADIUS < 12, 0.5, 50 + 5000 * np.exp(-(((RADIUS - 30) / 3) ** 2)))
    lost = ~with_beamstop_otherwise(settled(within)).geometry.mask
    assert lost[RADIUS < 11].all()
    assert not lost[RADIUS > 16].any()


def test_a_beam_that_leaks_through_a_beamstop_does_not_hide_it():
    leaking = np.where(RADIUS < 2, 5000, shadowed(12))
    lost = ~with_beamstop_otherwise(settled(leaking)).geometry.mask
    assert lost[RADIUS < 11].all()
    assert not lost[RADIUS > 15].any()


def test_a_masked_beamstop_is_opened_with_what_was_recorded_there_but_gaps_stay():
    mask = np.ones((SIZE, SIZE), bool)
    mask[145:152], mask[:, 100:104] = False, False  # gaps that cross behind the beamstop and its holder
    stop = (RADIUS < 40) | ((abs(X) < 3) & (Y > 0))
    before = settled(shadowed(35), mask & ~stop)
    after = with_beamstop_otherwise(before)
    np.testing.assert_array_equal(after.geometry.mask, mask)
    behind = stop & mask
    np.testing.assert_array_equal(after.pixels[behind], before.unmasked.pixels[behind])
    assert after.pixels[behind].sum() > 0
    assert not before.frame.pixels[behind].any()


def test_what_is_no_count_stays_masked_when_a_beamstop_is_opened():
    counts = np.random.default_rng(0).poisson(shadowed(35)).astype(np.int32)
    counts[148:150, 148:150] = -1
    frame = Frame(counts, Geometry(shape=counts.shape, center_x=150, center_y=150, mask=RADIUS >= 40))
    after = with_beamstop_otherwise(settle(frame))
    assert (~after.geometry.mask).sum() == 4


def test_gaps_around_the_beam_are_no_beamstop():
    mask = np.ones((SIZE, SIZE), bool)
    mask[128:172] = False  # more than half of the surroundings
    assert with_beamstop_otherwise(settled(1000 / (1 + RADIUS / 10), mask)) is None


def test_a_beam_off_the_detector_or_without_a_shadow_has_no_beamstop():
    assert with_beamstop_otherwise(settled(shadowed(), x=-20, y=10)) is None
    assert with_beamstop_otherwise(settled(1000 / (1 + RADIUS / 10))) is None
    assert (
        shadow_edge(
            np.full((50, 50), 10),
            np.ones((50, 50), bool),
            distances(settled(shadowed()).frame.geometry)[:50, :50],
        )
        is None
    )
