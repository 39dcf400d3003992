"""The folded projection and the Gram matrix by moments, against the basis written out pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.fbt import FourierBessel
from dvfb_stream.fbt.basis import real_basis
from dvfb_stream.fbt.projection import PlainProjection, SymmetricProjection, WorkingGrid, gram_matrix

# Rounding of a plain product in each type, some ten times over; relative to the largest projection.
ROUNDING = {torch.float32: 2e-5, torch.float64: 1e-11}

geometries = st.fixed_dictionaries(
    {
        "rows": st.integers(5, 70),
        "columns": st.integers(5, 70),
        # The beam in units of the image: on it, off it, on pixels and half-pixels.
        "x": st.one_of(st.floats(-0.6, 1.6), st.sampled_from([0.0, 0.5, 1.0])),
        "y": st.one_of(st.floats(-0.6, 1.6), st.sampled_from([0.0, 0.5, 1.0])),
        "radius": st.floats(6.0, 120.0),
        "n_radial": st.integers(1, 14),
        "orders": st.lists(st.integers(0, 12), min_size=1, max_size=5, unique=True).map(tuple),
        "seed": st.integers(0, 10_000),
    }
)


def set_up(rows, columns, x, y, radius, n_radial, orders, seed):
    """Grid, extent of the basis, a map of seen pixels with random gaps, and U on them."""
    grid = WorkingGrid((rows, columns), x * (columns - 1), y * (rows - 1))
    extent = {"radius": radius, "n_radial": n_radial, "orders": orders}
    r, azimuth = grid.polar()
    rng = np.random.default_rng(seed)
    seen = (rng.random(grid.shape) > rng.random()) & (r < radius)
    seen[int(rng.integers(rows)) :: 9] = False
    return grid, extent, seen, (r[seen], azimuth[seen]), rng


@settings(max_examples=40, deadline=None)
@given(geometries, st.sampled_from([torch.float32, torch.float64]))
def test_the_fold_projects_like_the_basis(geometry, dtype):
    grid, extent, seen, points, rng = set_up(**geometry)
    basis = real_basis(*points, **extent)
    images = np.zeros((2, *grid.shape))
    images[:, seen] = rng.random((2, int(seen.sum()))) * 255
    expected = images[:, seen] @ basis

    fold = SymmetricProjection(grid, **extent, dtype=dtype, device=torch.device("cpu"))
    plain = PlainProjection(
        torch.from_numpy(basis).to(dtype), torch.from_numpy(np.flatnonzero(seen)), grid.shape
    )
    # Where next to nothing is projected, the images' size times what a function reaches on the disk is the scale.
    scale = max(np.abs(expected).max(initial=0.0), 255 / extent["radius"])
    for projection in (fold, plain):
        found = projection.project(torch.from_numpy(images).to(dtype)).double().numpy()
        np.testing.assert_allclose(found, expected, atol=ROUNDING[dtype] * scale, rtol=0)


@settings(max_examples=40, deadline=None)
@given(geometries, st.sampled_from([torch.float32, torch.float64]))
def test_the_fold_synthesises_like_the_basis_and_vanishes_outside_the_disk(geometry, dtype):
    grid, extent, _, _, rng = set_up(**geometry)
    r, azimuth = grid.polar()
    basis = real_basis(r.ravel(), azimuth.ravel(), **extent)
    unknowns = rng.normal(size=(2, basis.shape[1]))
    expected = (unknowns @ basis.T).reshape(2, *grid.shape)
    fold = SymmetricProjection(grid, **extent, dtype=dtype, device=torch.device("cpu"))
    found = fold.synthesise(torch.from_numpy(unknowns).to(dtype)).double().numpy()
    # A function reaches some 1 / a on the disk, even where the few pixels here see next to nothing of it.
    scale = np.abs(expected).max(initial=0.0) + 1 / extent["radius"]
    np.testing.assert_allclose(found, expected, atol=ROUNDING[dtype] * scale, rtol=0)
    assert not found[:, r >= extent["radius"]].any()


@settings(max_examples=40, deadline=None)
@given(geometries)
def test_moments_give_the_gram_matrix(geometry):
    _, extent, _, points, _ = set_up(**geometry)
    basis = real_basis(*points, **extent)
    expected = basis.T @ basis
    found = gram_matrix(*points, **extent)
    np.testing.assert_allclose(found, expected, atol=1e-12 * (np.abs(expected).max(initial=0.0) + 1e-3))
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("center", [(63.5, 63.5), (40.3, 71.2), (-6.0, -6.0), (-90.0, 30.3)])
def test_the_fold_is_as_exact_at_full_size_and_takes_fewer_multiplications(center):
    grid = WorkingGrid((128, 128), *center)
    extent = {"radius": 128.0, "n_radial": 40, "orders": tuple(range(0, 21, 2))}
    r, azimuth = grid.polar()
    # Every fifth pixel only, lest the reference take all the time; orders' cosines and sines alike.
    seen = (np.random.default_rng(0).random(grid.shape) < 0.2) & (r < 128)
    basis = real_basis(r[seen], azimuth[seen], **extent)
    image = np.zeros((1, 128, 128))
    image[:, seen] = np.random.default_rng(1).random(int(seen.sum())) * 255
    expected = image[:, seen] @ basis
    for dtype, accuracy in ((torch.float32, 5e-6), (torch.float64, 1e-12)):
        fold = SymmetricProjection(grid, **extent, dtype=dtype, device=torch.device("cpu"))
        found = fold.project(torch.from_numpy(image).to(dtype)).double().numpy()
        np.testing.assert_allclose(found, expected, atol=accuracy * np.abs(expected).max(), rtol=0)
        if dtype == torch.float32 and center[0] > -10:  # an estimator takes the product where that is less
            assert fold.products < np.count_nonzero(r < 128) * basis.shape[1] / 1.5
    gram = gram_matrix(r[seen], azimuth[seen], **extent)
    np.testing.assert_allclose(gram, basis.T @ basis, atol=1e-13 * np.abs(gram).max() + 1e-14)


def test_a_plan_projects_masked_images_whatever_it_chose():
    """The estimator picks fold or product by their cost; both meet blocks, mask and disk in the same way."""
    rng = np.random.default_rng(0)
    for shape, radius in (((9, 11), 20.0), ((64, 60), 40.0)):
        mask = rng.random(shape) > 0.2
        estimator = FourierBessel(shape, 4.2, 5.9, radius, mask, n_radial=6, orders=(0, 1, 4))
        images = rng.random((3, *shape)) * 100
        expected = estimator.working_pixels(images).numpy() @ estimator.basis().numpy()
        projections = estimator.project(images)
        np.testing.assert_allclose(projections.values, expected, atol=1e-11 * np.abs(expected).max())
        np.testing.assert_allclose(projections.energies, estimator.working_pixels(images).square().sum(1))
        assert projections.pixels == estimator.fitted_pixels.sum()


def test_the_transform_of_what_is_seen_is_the_sum_over_pixels():
    """Σ I Ψ*, with Ψ from SciPy, at one n and m."""
    from scipy.special import jn_zeros, jv

    estimator = FourierBessel((20, 30), 11.3, 7.1, radius=25.0, n_radial=3, orders=(0, 4), downsample=1)
    image = np.random.default_rng(0).random((1, 20, 30))
    y, x = np.mgrid[:20, :30]
    r, phi = np.hypot(y - 7.1, x - 11.3), np.arctan2(y - 7.1, x - 11.3)
    zero = jn_zeros(4, 2)[-1]
    psi = jv(4, zero * r / 25) / np.sqrt(25**2 * jv(5, zero) ** 2 / 2) * np.exp(4j * phi) / np.sqrt(2 * np.pi)
    expected = (image[0] * psi.conj())[estimator.fitted_pixels].sum()
    assert estimator.transform(image)[0, 1, 1].item() == pytest.approx(expected, abs=1e-12)
