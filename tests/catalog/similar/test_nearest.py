"""The nearest points are found exactly, however few numbers rule the others out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

from dvfb_stream.catalog.similar_frames.nearest import OUTLINE, Outlines, nearest


def points_of(kind: str, count: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    match kind:
        case "gaussian":
            points = rng.normal(size=(count, width))
        case "few directions":
            points = rng.normal(size=(count, 5)) @ rng.normal(size=(5, width))
        case "far from their centre":
            points = 1000 + rng.normal(size=(count, width))
        case "two far groups":
            # Bounds are small differences of large squares.
            points = 0.01 * rng.normal(size=(count, 5)) @ rng.normal(size=(5, width))
            points[:, 0] = rng.choice((-1000, 1000), count)
        case "equal":
            points = np.repeat(rng.normal(size=(7, width)), -(-count // 7), axis=0)[:count]
        case "zero":
            points = np.zeros((count, width))
    return points.astype(np.float16)


def expected(points: np.ndarray, query: np.ndarray, n: int) -> np.ndarray:
    return np.sort(cdist(points.astype(np.float64), query[None].astype(np.float64))[:, 0])[:n]


@pytest.mark.parametrize(
    "kind", ["gaussian", "few directions", "far from their centre", "two far groups", "equal", "zero"]
)
@pytest.mark.parametrize(("count", "width"), [(1, 64), (9, 3), (500, 64), (9_000, 256)])
def test_it_is_what_a_comparison_with_all_finds(kind, count, width):
    points = points_of(kind, count, width)
    to_outlines = Outlines.fitted(points[: count // 3 + 1])
    outlines = to_outlines.of(points)
    rng = np.random.default_rng(1)
    for query in (points[0], points[-1], rng.normal(size=width)):
        for n in (1, 10, count + 5):
            found, distances = nearest(points, outlines, to_outlines, query.astype(np.float32), n)
            assert len(set(found.tolist())) == len(found) == min(n, count)
            wanted = expected(points, np.asarray(query, np.float32), n)
            assert_allclose(distances, wanted, rtol=1e-4, atol=1e-4)
            assert_allclose(cdist(points[found].astype(float), query[None].astype(np.float32))[:, 0], wanted,
                            rtol=1e-4, atol=1e-4)  # fmt: skip


def test_axes_that_fit_other_points_cost_no_neighbour():
    points = points_of("gaussian", 3_000, 40)
    to_outlines = Outlines.fitted(points_of("few directions", 100, 40))
    query = points[5].astype(np.float32)
    _, distances = nearest(points, to_outlines.of(points), to_outlines, query, 25)
    assert_allclose(distances, expected(points, query, 25), rtol=1e-4)


@given(
    arrays(np.float16, (40, 35), elements=st.floats(-60, 60, width=16)),
    st.integers(0, 39),
    st.integers(1, 40),
)
def test_no_point_is_nearer_than_its_outline_says(points, k, n):
    to_outlines = Outlines.fitted(points[:5])
    outlines = to_outlines.of(points)
    assert outlines.shape == (40, OUTLINE)
    apart = np.linalg.norm(outlines[:, :-1].astype(np.float64) - outlines[k, :-1], axis=1)
    exact = cdist(points.astype(np.float64), points[k : k + 1].astype(np.float64))[:, 0]
    size = np.linalg.norm(points.astype(np.float64), axis=1).max()
    assert (apart <= exact + 1e-5 * size).all()
    _, distances = nearest(points, outlines, to_outlines, points[k].astype(np.float32), n)
    assert_allclose(distances, np.sort(exact)[:n], rtol=1e-3, atol=1e-3)


def test_excluded_points_are_not_found():
    points = points_of("few directions", 1_000, 64)
    to_outlines = Outlines.fitted(points)
    found, _ = nearest(
        points, to_outlines.of(points), to_outlines, points[0].astype(np.float32), 995,
        excluded=[slice(0, 3), slice(500, 501), slice(990, 1_000)],
    )  # fmt: skip
    assert sorted(found.tolist()) == [*range(3, 500), *range(501, 990)]


def test_of_equal_points_the_first_is_found_first():
    points = points_of("equal", 700, 64)
    to_outlines = Outlines.fitted(points)
    found, _ = nearest(points, to_outlines.of(points), to_outlines, points[0].astype(np.float32), 4)
    assert found.tolist() == [0, 1, 2, 3]
