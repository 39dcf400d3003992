"""Every solver, reading and penalty against scikit-learn's converged elastic net and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings, PenaltyReading, Solver
from dvfb_stream.fbt.elastic_net import PenalisedFit, certify, solve

ORDERS = (0, 2, 3)


def an_estimator(seed, *, shape=(36, 40)):
    """A random geometry with gaps; the beam on the image or somewhat off it."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) > 0.1
    mask[int(rng.integers(shape[0])) :: 13] = False
    x, y = rng.uniform(-5, shape[1] + 5), rng.uniform(-5, shape[0] + 5)
    return FourierBessel(shape, x, y, 45.0, mask, n_radial=6, orders=ORDERS, downsample=1)


def images_of(estimator, count, *, seed=0):
    """Rings with noise about the beam, 0..255."""
    rng = np.random.default_rng(seed)
    r, phi = estimator.grid.polar()
    rings = [
        np.exp(-(((r - rng.uniform(5, 30)) / 4) ** 2)) * (1 + np.cos(2 * phi - rng.uniform(0, 3)))
        for _ in range(count)
    ]
    return 100 * np.stack(rings) + rng.normal(size=(count, *r.shape)) + 5


def scaled_problem(estimator, image, penalty, reading):
    """Columns, target, scikit-learn's alpha, and what turns unknowns of the problem into the estimator's."""
    basis, pixels = (
        estimator.basis().numpy(),
        estimator.working_pixels(image[None].astype(np.float64))[0].numpy(),
    )
    if reading is PenaltyReading.PER_SAMPLE:
        return basis, pixels, penalty, np.ones(basis.shape[1])
    norms, length = np.linalg.norm(basis, axis=0), np.linalg.norm(pixels)
    # ½‖·‖² + λ R is scikit-learn's 1/(2n)‖·‖² + (λ/n) R.
    return basis / norms, pixels / length, penalty / len(pixels), length / norms


def objective(columns, target, a, alpha, l1_ratio):
    """scikit-learn's, written out."""
    misfit = ((columns @ a - target) ** 2).sum() / (2 * len(target))
    return misfit + alpha * (l1_ratio * np.abs(a).sum() + 0.5 * (1 - l1_ratio) * (a**2).sum())


# 1e-10 may lie below what rounding leaves the reference, which then ends a little above the optimum.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    penalty=st.sampled_from([1e-5, 1e-4, 1e-3, 1e-1, 10.0]),
    l1_ratio=st.sampled_from([0.05, 0.5, 0.8, 1.0]),
    reading=st.sampled_from(PenaltyReading),
    solver=st.sampled_from(Solver),
    tolerance=st.sampled_from([1e-3, 1e-6, 1e-8]),
    double=st.booleans(),
)
def test_the_objective_is_never_above_the_converged_one_by_more_than_the_tolerance(
    seed, penalty, l1_ratio, reading, solver, tolerance, double
):
    estimator = an_estimator(seed)
    image = images_of(estimator, 1, seed=seed)[0].astype(np.float64 if double else np.float32)
    solution = estimator.solve(
        image[None],
        penalty,
        l1_ratio,
        reading=reading,
        solver=solver,
        tolerance=tolerance,
        max_iterations=100_000,
    )
    assert float(solution.gap) <= tolerance * float(solution.objective)

    columns, target, alpha, unit = scaled_problem(estimator, image, penalty, reading)
    reference = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, fit_intercept=False, max_iter=100_000, tol=1e-10)
    best = objective(columns, target, reference.fit(columns, target).coef_, alpha, l1_ratio)
    ours = objective(columns, target, solution.coefficients[0].double().numpy() / unit, alpha, l1_ratio)
    # float32 pixels and projections are themselves off by rounding, to first order in the objective.
    assert ours <= best * (1 + tolerance + (1e-10 if double else 1e-6))


@pytest.mark.parametrize("reading", PenaltyReading)
def test_solvers_agree(reading):
    estimator = an_estimator(3)
    images = images_of(estimator, 4)
    found = [
        estimator.solve(images, reading=reading, solver=solver, tolerance=1e-13, max_iterations=200_000)
        for solver in Solver
    ]
    scale = float(found[0].coefficients.abs().max())
    torch.testing.assert_close(found[0].coefficients, found[1].coefficients, atol=1e-5 * scale, rtol=0)


@pytest.mark.parametrize("reading", PenaltyReading)
@pytest.mark.parametrize("solver", Solver)
def test_frames_of_a_batch_do_not_touch_each_other(reading, solver):
    """Frames leave the batch as they are certified; each gets what it would get alone."""
    estimator = an_estimator(5)
    images = images_of(estimator, 5)
    images[2] = 0.0
    images[3] *= 1e-6
    together = estimator.solve(images, reading=reading, solver=solver, tolerance=1e-9, max_iterations=100_000)
    for i, image in enumerate(images):
        alone = estimator.solve(
            image[None], reading=reading, solver=solver, tolerance=1e-9, max_iterations=100_000
        )
        scale = float(alone.coefficients.abs().max()) + 1e-12
        torch.testing.assert_close(together.coefficients[i], alone.coefficients[0], atol=2e-3 * scale, rtol=0)
        assert float(together.gap[i]) <= 1e-9 * float(together.objective[i])
        assert float(together.unexplained[i]) == pytest.approx(float(alone.unexplained), abs=1e-6)


@pytest.mark.parametrize("solver", Solver)
@pytest.mark.parametrize("reading", PenaltyReading)
def test_a_warm_start_changes_the_way_and_not_the_result(reading, solver):
    estimator = an_estimator(7)
    images = images_of(estimator, 3)
    how = {"reading": reading, "solver": solver, "tolerance": 1e-9, "max_iterations": 100_000}
    cold = estimator.solve(images, **how)
    result = estimator.estimate(images, **how)
    warm = estimator.solve(images + 1e-3, start=result, **how)
    assert warm.iterations < cold.iterations
    scale = float(cold.coefficients.abs().max())
    torch.testing.assert_close(warm.coefficients, cold.coefficients, atol=3e-3 * scale, rtol=0)
    # One start may serve all frames.
    estimator.solve(images, start=result[:1], **how)
    with pytest.raises(SettingsError, match="start holds 2 sets of coefficients for 3 images"):
        estimator.solve(images, start=result[:2], **how)
    with pytest.raises(SettingsError, match=r"\(B, 6, 3\), not \(6, 3\)"):
        estimator.solve(images, start=result[0], **how)


def test_without_a_penalty_it_is_least_squares_of_least_norm():
    """Fewer pixels than unknowns: NumPy's pseudo-inverse."""
    mask = np.zeros((36, 40), dtype=bool)
    mask[10:13, 5:12] = True
    estimator = FourierBessel((36, 40), 20.2, 15.1, 45.0, mask, n_radial=6, orders=ORDERS, downsample=1)
    image = images_of(estimator, 1)
    pixels = estimator.working_pixels(image)[0].numpy()
    assert len(pixels) < estimator.unknowns
    expected = np.linalg.lstsq(estimator.basis().numpy(), pixels, rcond=1e-5)[0]
    solution = estimator.solve(image, penalty=0.0)
    fitted = estimator.basis().numpy() @ solution.coefficients[0].numpy()
    np.testing.assert_allclose(fitted, estimator.basis().numpy() @ expected, atol=2e-2 * np.abs(pixels).max())
    assert float(solution.gap) <= 1e-8 * float(solution.objective) + 1e-9


def test_a_ridge_alone_is_solved_in_closed_form():
    estimator = an_estimator(9)
    image = images_of(estimator, 1)
    basis, pixels = estimator.basis().numpy(), estimator.working_pixels(image)[0].numpy()
    expected = np.linalg.solve(
        basis.T @ basis + 1e-3 * len(pixels) * np.eye(basis.shape[1]), basis.T @ pixels
    )
    solution = estimator.solve(image, penalty=1e-3, l1_ratio=0.0)
    np.testing.assert_allclose(solution.coefficients[0], expected, atol=1e-9 * np.abs(expected).max())
    assert solution.iterations == 0


def test_fewer_valid_pixels_than_unknowns_are_solved_to_the_certificate():
    mask = np.zeros((36, 40), dtype=bool)
    mask[10, 5:9] = True
    estimator = FourierBessel((36, 40), 20.2, 15.1, 45.0, mask, n_radial=6, orders=ORDERS, downsample=1)
    for kind in (np.float32, np.float64):
        for reading in PenaltyReading:
            solution = estimator.solve(images_of(estimator, 2).astype(kind), reading=reading, tolerance=1e-6)
            assert (solution.gap <= 1e-6 * solution.objective).all()
            assert solution.coefficients.isfinite().all()


def test_a_constant_image_has_order_zero_alone_about_a_centred_beam():
    estimator = FourierBessel((40, 40), 19.5, 19.5, 30.0, n_radial=6, orders=(0, 2, 6), downsample=1)
    coefficients = estimator.estimate(np.full((1, 40, 40), 7.0))[0]
    assert coefficients[:, 0].abs().max() > 1
    # The square's corners are cut by the disk at a = 30: what is left has the square's symmetry, hence no m = 2.
    assert float(coefficients[:, 1].abs().max()) < 1e-9
    assert float(coefficients[:, 2].abs().max()) < 1e-9


def test_a_pixel_that_no_function_sees_gives_zero():
    """On the beam every order above zero vanishes: nothing to fit with, and no error."""
    mask = np.zeros((21, 21), dtype=bool)
    mask[10, 10] = True
    estimator = FourierBessel((21, 21), 10.0, 10.0, 15.0, mask, n_radial=3, orders=(2, 4), downsample=1)
    for reading in PenaltyReading:
        solution = estimator.solve(np.full((1, 21, 21), 9.0), reading=reading)
        assert not solution.coefficients.any()
        assert float(solution.unexplained) == pytest.approx(1.0)


def test_max_iterations_ends_the_solver_with_the_gap_that_is_left():
    estimator = an_estimator(11)
    images = images_of(estimator, 3)
    short = estimator.solve(images, reading="unit_norm", tolerance=1e-12, max_iterations=5)
    assert short.iterations == 5
    assert (short.gap > 1e-12 * short.objective).any()
    with pytest.raises(SettingsError, match="max_iterations must be an integer of at least 1, not 0"):
        estimator.solve(images, max_iterations=0)


def test_the_paper_preset_converges():
    """At the paper's size, in float32: stiff, and certified all the same."""
    mask = np.ones((256, 256), dtype=bool)
    mask[100:110] = False
    settings = FourierBesselSettings.preset("paper")
    estimator = FourierBessel.from_settings(settings, center_x=80.3, center_y=141.2, mask=mask)
    r, phi = np.mgrid[:256, :256][0] - 141.0, np.mgrid[:256, :256][1] - 80.0
    image = 255 / (1 + np.hypot(r, phi) / 20) + np.random.default_rng(0).normal(size=(256, 256))
    solution = estimator.solve(image[None].astype(np.float32))
    assert float(solution.gap) <= 1e-6 * float(solution.objective)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    reading=st.sampled_from(PenaltyReading),
    steps=st.integers(1, 25),
)
def test_a_float32_certificate_is_never_below_the_truth(seed, scale, reading, steps):
    """The bound that float32 computes, rounding allowed for, against the minimum found in float64."""
    estimator = an_estimator(seed)
    images = (images_of(estimator, 3, seed=seed) * scale).astype(np.float32)
    projections = estimator.project(images)
    fit = PenalisedFit(estimator.gram, estimator.fitted_count, estimator.settings.changed(reading=reading))
    q, lengths = fit.scaled(projections)
    energies = projections.energies / lengths[:, 0].double().square()
    exact = certify(
        solve(
            fit.quadratic, q.double(), energies, solver=Solver.ADMM, tolerance=1e-13, max_iterations=20_000
        ).coefficients,
        fit.quadratic,
        q.double(),
        energies,
    )
    early = solve(fit.quadratic, q, energies, solver=Solver.FISTA, tolerance=1e-15, max_iterations=steps)
    bound = certify(early.coefficients, fit.quadratic, q, energies)
    truth = certify(early.coefficients.double(), fit.quadratic, q.double(), energies)
    assert (bound.gap >= truth.objective - exact.objective - 1e-13 * energies).all()
    assert (bound.floor > 0).all()
