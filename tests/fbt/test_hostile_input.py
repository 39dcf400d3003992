"""What nobody should hand over, and what hardly shows: answers that are right, or errors that say what is wrong."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.fbt import FourierBessel, log_scale, log_unscale
from dvfb_stream.reproduction.encoders import LinearEncoder

ORDERS = (0, 2, 4)


def small_window(radius, *, lost=None):
    """An estimator that sees r < `radius` of a 64 x 64 view, and an image of rings."""
    y, x = np.mgrid[:64, :64] - 31.0
    r = np.hypot(x, y)
    mask = r < radius
    image = 200 / (1 + r / 5) + 20 * np.cos(r) + np.random.default_rng(0).normal(size=r.shape)
    estimator = FourierBessel((64, 64), 31.0, 31.0, 64.0, mask, n_radial=12, orders=ORDERS, downsample=1)
    return estimator if lost is None else estimator.without(lost & mask), image


def scikit_learn_in_unit_norm(estimator, image):
    """Objective of a converged reference, and what turns coefficients into the problem's own."""
    basis, pixels = estimator.basis().numpy(), image[estimator.fitted_pixels]
    norms, length = np.linalg.norm(basis, axis=0), np.linalg.norm(pixels)
    columns = np.divide(basis, norms, out=np.zeros_like(basis), where=norms > 1e-6 * norms.max())
    alpha = 1e-4 / len(pixels)
    solver = ElasticNet(alpha=alpha, l1_ratio=0.8, fit_intercept=False, max_iter=300_000, tol=1e-9)
    solver.fit(columns, pixels / length)

    def objective(a):
        misfit = 0.5 * ((columns @ a - pixels / length) ** 2).sum()
        return misfit + 1e-4 * (0.8 * np.abs(a).sum() + 0.1 * (a**2).sum())

    return objective, objective(solver.coef_), norms / length


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("radius", [8, 14, 20])
def test_functions_that_hardly_show_do_not_fool_the_unit_norm_reading_in_float32(radius):
    estimator, image = small_window(radius)
    solution = estimator.solve(image[None].astype(np.float32), reading="unit_norm", tolerance=1e-6)
    objective, best, scale = scikit_learn_in_unit_norm(estimator, image.astype(np.float32).astype(float))
    assert solution.coefficients.dtype == torch.float32
    assert float(solution.gap) <= 1e-6 * float(solution.objective)
    assert objective(solution.coefficients[0].double().numpy() * scale) <= best * (1 + 1e-4)
    assert float(solution.objective) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("reading", ["per_sample", "unit_norm"])
def test_a_plan_that_loses_nearly_all_that_some_functions_saw(reading):
    lost = np.zeros((64, 64), dtype=bool)
    lost[33:45] = True
    lost[:, 33:45] = True
    derived, image = small_window(14, lost=lost)
    afresh = FourierBessel(
        (64, 64),
        31.0,
        31.0,
        64.0,
        (np.hypot(*(np.mgrid[:64, :64] - 31.0)) < 14) & ~lost,
        n_radial=12,
        orders=ORDERS,
        downsample=1,
    )
    found, expected = (
        estimator.solve(image[None], reading=reading, tolerance=1e-9) for estimator in (derived, afresh)
    )
    torch.testing.assert_close(found.objective, expected.objective, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_start_that_is_not_finite_is_refused(value):
    estimator, image = small_window(20)
    with pytest.raises(SettingsError, match="not finite"):
        estimator.estimate(image[None], start=np.full((1, 12, 3), value))


def test_masked_arrays_and_ragged_lists_are_refused():
    estimator, image = small_window(20)
    with pytest.raises(FrameError, match="masked arrays"):
        estimator.estimate(np.ma.masked_greater(image[None], 100))
    with pytest.raises(FrameError, match="one array of shape"):
        estimator.estimate([image, image[:10]])
    with pytest.raises(SettingsError, match=r"integer of at least 1, not 2\.5"):
        estimator.solve(image[None], max_iterations=2.5)


def test_autocast_around_the_estimate_changes_nothing():
    estimator, image = small_window(20)
    images = image[None].astype(np.float32)
    expected, encoded = estimator.estimate(images), LinearEncoder(estimator).estimate(images)
    recovered = estimator.reconstruct(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(estimator.estimate(images), expected)
        torch.testing.assert_close(LinearEncoder(estimator).estimate(images), encoded)
        torch.testing.assert_close(estimator.reconstruct(expected), recovered)


def test_coefficients_may_be_of_any_number_type_and_byte_order():
    estimator, _ = small_window(20)
    coefficients = np.random.default_rng(0).normal(size=(2, 12, 3))
    expected = estimator.reconstruct(coefficients)
    for kind in (">c16", "<c8", ">f8", np.float32, np.clongdouble):
        torch.testing.assert_close(
            estimator.reconstruct(coefficients.astype(kind)).double(), expected, atol=1e-4, rtol=1e-4
        )
    with pytest.raises(SettingsError, match="must be numbers"):
        estimator.reconstruct(coefficients.astype(object))


def test_conjugated_coefficients_are_scaled_like_others():
    values = torch.tensor([1.0 + 2.0j, -3.0 + 0.5j])
    torch.testing.assert_close(log_scale(values.conj()), log_scale(values).conj().resolve_conj())
    torch.testing.assert_close(log_unscale(log_scale(values.conj())), values.conj().resolve_conj())


def test_dim_images_are_not_taken_for_blank_ones():
    estimator, image = small_window(20)
    bright, dim = (
        estimator.estimate((image * scale)[None].astype(np.float32), reading="unit_norm")
        for scale in (1, 1e-25)
    )
    torch.testing.assert_close(dim * 1e25, bright, atol=1e-3 * float(bright.abs().max()), rtol=0)
