import numpy as np
import pytest

from dvfb_stream.azimuthal.orders import AzimuthalOrders
from dvfb_stream.azimuthal.ring_statistics import BINS, CHANNELS, EDGES, PER_OCTAVE

SIDE = 256
Y, X = np.mgrid[:SIDE, :SIDE]


def pattern(center_x: float, center_y: float, scale: float = 1.0) -> np.ndarray:
    radius = np.hypot(X - center_x, Y - center_y) / scale
    azimuth = np.arctan2(Y - center_y, X - center_x)
    ring = np.exp(-(((radius - 50) / 4) ** 2)) * (1 + 0.6 * np.cos(2 * azimuth + 0.4))
    return (200 * np.exp(-radius / 25) + 80 * ring + 1).astype(np.float32)


def statistics(counts: np.ndarray, mask: np.ndarray, center_x: float, center_y: float) -> np.ndarray:
    return AzimuthalOrders(mask, center_x, center_y, 16.0).statistics(counts[None])[0]


def channel(values: np.ndarray, name: str) -> np.ndarray:
    return values[CHANNELS.index(name)]


@pytest.fixture
def frame() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    mask = np.ones((SIDE, SIDE), dtype=bool)
    mask[100:108] = False
    mask[:, 30:33] = False
    return rng.poisson(16 * pattern(120, 131)).astype(np.float32) / 16, mask


@pytest.mark.parametrize("symmetry", range(1, 8))
def test_no_turn_or_mirror_image_changes_them(symmetry, frame):
    counts, mask = frame
    whole = statistics(counts, mask, 120, 131)
    x, y = (SIDE - 1 - 120, 131) if symmetry >= 4 else (120, 131)
    if symmetry >= 4:
        counts, mask = counts[:, ::-1], mask[:, ::-1]
    for _ in range(symmetry % 4):
        counts, mask = np.rot90(counts), np.rot90(mask)
        x, y = y, SIDE - 1 - x
    turned = statistics(np.ascontiguousarray(counts), np.ascontiguousarray(mask), x, y)
    far = EDGES[:-1] >= 3  # nearer, rings have a dozen pixels
    np.testing.assert_allclose(turned[:, far], whole[:, far], atol=2e-4)
    np.testing.assert_allclose(turned, whole, atol=5e-3)


def test_another_scale_moves_them_along_the_radius():
    mask = np.ones((SIDE, SIDE), dtype=bool)
    near, far = (statistics(pattern(127, 127, scale), mask, 127, 127) for scale in (1.0, 1.5))
    bins = round(PER_OCTAVE * np.log2(1.5))
    level = channel(near, "level")
    inside = (EDGES[:-1] > 8) & (EDGES[1:] < 80)
    moved = np.roll(channel(far, "level"), -bins)
    np.testing.assert_allclose(moved[inside], level[inside], atol=0.12)  # moved by 23 bins for 23.4


def test_a_ring_has_its_contrast_where_it_is():
    mask = np.ones((SIDE, SIDE), dtype=bool)
    found = statistics(pattern(127, 127), mask, 127, 127)
    at = int(np.searchsorted(EDGES, 50)) - 1
    expected = 0.6 * 80 / (80 + 200 * np.exp(-2) + 1)
    assert channel(found, "contrast_2")[at] == pytest.approx(expected, rel=0.06)
    assert channel(found, "contrast_4")[at] < 0.02
    assert channel(found, "coverage")[at] == 1


def test_what_is_not_on_the_detector_is_not_seen():
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[60:196, 60:196] = True
    found = statistics(pattern(127, 127), mask, 127, 127)
    assert found.shape == (len(CHANNELS), BINS)
    seen = channel(found, "seen")
    assert np.all(seen[EDGES[:-1] > 100] == 0)
    assert np.all(seen[(EDGES[:-1] > 4) & (EDGES[1:] < 66)] > 0.9)
    assert np.all(found[:, seen == 0] == 0)


@pytest.mark.parametrize("counts", [np.zeros, np.ones])
def test_a_frame_of_nothing_has_finite_statistics(counts):
    mask = np.ones((SIDE, SIDE), dtype=bool)
    assert np.isfinite(statistics(counts((SIDE, SIDE), dtype=np.float32), mask, 127, 127)).all()


def test_measuring_and_statistics_together_are_what_each_alone_is(frame):
    counts, mask = frame
    orders = AzimuthalOrders(mask, 120, 131, 16.0)
    several = np.stack([counts, counts.T, counts / 3])
    measured, found = orders.examine(several)
    np.testing.assert_array_equal(found, orders.statistics(several))
    assert measured == orders.measure(several)
