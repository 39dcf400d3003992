"""The estimate against scikit-learn's converged elastic net, and against what the mathematics says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet

from dvfb_stream.errors import FrameError, GeometryError, SettingsError
from dvfb_stream.fbt import FourierBessel, PenaltyReading, rotate


def rings(shape, center_x, center_y, *, seed=0):
    """Log intensities, 0..255, of a plausible pattern with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    r, phi = np.hypot(x - center_x, y - center_y), np.arctan2(y - center_y, x - center_x)
    counts = 300 / (1 + (r / 6) ** 2) + 80 * np.exp(-(((r - 25) / 4) ** 2)) * (1 + 0.8 * np.cos(4 * phi)) + 1
    return 255 * np.log1p(rng.poisson(counts)) / np.log(65536)


def gaps(shape, seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) > 0.05
    row = int(rng.integers(0, shape[0]))
    mask[row : row + 5] = False
    return mask


def objective(basis, pixels, a, penalty, l1_ratio):
    """scikit-learn's, written out."""
    misfit = ((basis @ a - pixels) ** 2).sum() / (2 * len(pixels))
    return misfit + penalty * (l1_ratio * np.abs(a).sum() + 0.5 * (1 - l1_ratio) * (a**2).sum())


def real_unknowns(coefficients, orders):
    """Invert the documented convention independently of the package: A = (a_cos - i a_sin)/√2."""
    parts = []
    for column, order in enumerate(orders):
        values = np.asarray(coefficients)[:, column]
        parts += [values.real] if order == 0 else [np.sqrt(2) * values.real, -np.sqrt(2) * values.imag]
    return np.concatenate(parts)


# 1e-10 may lie below what rounding leaves the reference, which then ends a little above the optimum.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(40, 80),
    width=st.integers(40, 80),
    x=st.floats(-0.3, 1.3),
    y=st.floats(-0.3, 1.3),
    seed=st.integers(0, 1000),
    double=st.booleans(),
)
def test_objective_is_scikit_learns_converged_one(height, width, x, y, seed, double):
    shape = (height, width)
    mask = gaps(shape, seed)
    estimator = FourierBessel(
        shape, x * width, y * height, radius=90.0, mask=mask, n_radial=10, orders=(0, 2, 4), downsample=1
    )
    image = rings(shape, x * width, y * height, seed=seed).astype(np.float64 if double else np.float32)
    coefficients = estimator.estimate(image[None], penalty=1e-4, l1_ratio=0.8)[0].numpy()

    basis, pixels = estimator.basis().numpy(), image[estimator.fitted_pixels].astype(np.float64)
    reference = ElasticNet(alpha=1e-4, l1_ratio=0.8, fit_intercept=False, max_iter=100_000, tol=1e-10)
    reference.fit(basis, pixels)
    best = objective(basis, pixels, reference.coef_, 1e-4, 0.8)
    ours = objective(basis, pixels, real_unknowns(coefficients, (0, 2, 4)), 1e-4, 0.8)
    assert ours <= best * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_unit_norm_reading_reaches_scikit_learns_converged_objective(seed):
    rng = np.random.default_rng(seed)
    shape, (x, y) = (64, 64), rng.uniform(0, 64, 2)
    estimator = FourierBessel(
        shape, x, y, radius=64.0, mask=gaps(shape, seed), n_radial=20, orders=(0, 2, 4, 6), downsample=1
    )
    image = rings(shape, x, y, seed=seed)
    solution = estimator.solve(image[None], 1e-4, 0.8, reading=PenaltyReading.UNIT_NORM, tolerance=1e-6)

    basis, pixels = estimator.basis().numpy(), image[estimator.fitted_pixels]
    norms = np.linalg.norm(basis, axis=0)
    seen = norms > 1e-12
    columns, target = basis[:, seen] / norms[seen], pixels / np.linalg.norm(pixels)
    # ½‖·‖² + λ R is scikit-learn's 1/(2n)‖·‖² + (λ/n) R.
    penalty = 1e-4 / len(target)
    reference = ElasticNet(alpha=penalty, l1_ratio=0.8, fit_intercept=False, max_iter=200_000, tol=1e-12)
    reference.fit(columns, target)
    best = objective(columns, target, reference.coef_, penalty, 0.8)
    scaled = solution.coefficients[0].numpy()[seen] * norms[seen] / np.linalg.norm(pixels)
    assert objective(columns, target, scaled, penalty, 0.8) <= best * (1 + 1e-6)


def test_the_certificate_bounds_the_distance_from_the_minimum():
    estimator = FourierBessel((64, 64), 30.0, 35.0, radius=64.0, n_radial=20, orders=(0, 2, 4), downsample=1)
    image = rings((64, 64), 30.0, 35.0)[None]
    best = estimator.solve(image, tolerance=1e-12).objective
    for steps in (1, 3, 10):
        early = estimator.solve(image, tolerance=1e-15, max_iterations=steps)
        assert (early.objective - early.gap <= best * (1 + 1e-12)).all()
        assert (early.objective >= best * (1 - 1e-12)).all()


def test_the_paper_size_reaches_the_reference_in_float32():
    """128 x 128 working pixels, 840 unknowns, gaps, off-centre: the objective of scikit-learn within 1e-6."""
    mask = gaps((256, 256))
    estimator = FourierBessel(center_x=80.3, center_y=141.2, mask=mask)
    image = rings((256, 256), 80.3, 141.2).astype(np.float32)
    coefficients = estimator.estimate(image[None])[0].numpy()
    assert coefficients.shape == (40, 11)
    basis, pixels = (
        estimator.basis().numpy(),
        estimator.working_pixels(image[None].astype(np.float64))[0].numpy(),
    )
    reference = ElasticNet(alpha=1e-4, l1_ratio=0.8, fit_intercept=False, max_iter=1000, tol=1e-8).fit(
        basis, pixels
    )
    best = objective(basis, pixels, reference.coef_, 1e-4, 0.8)
    ours = objective(basis, pixels, real_unknowns(coefficients, range(0, 21, 2)).astype(float), 1e-4, 0.8)
    assert ours == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_the_image_multiplies_coefficients_by_the_phase(turns):
    """rot90 from columns to rows turns the pattern towards larger azimuth; (5) then gives exp(-i m π/2)."""
    image = rings((64, 64), 31.5, 31.5, seed=3)
    image[10:14] += 30  # no symmetry of its own
    orders = (0, 1, 2, 3, 4)
    estimator = FourierBessel((64, 64), 31.5, 31.5, radius=48.0, n_radial=8, orders=orders, downsample=1)
    turned = np.rot90(image, turns, axes=(1, 0)).copy()
    before, after = estimator.estimate(np.stack([image, turned]), tolerance=1e-13)
    phases = np.exp(-1j * np.array(orders) * turns * np.pi / 2)
    np.testing.assert_allclose(after.numpy(), before.numpy() * phases, atol=1e-6 * float(before.abs().max()))
    np.testing.assert_allclose(
        rotate(before, turns * np.pi / 2, orders=orders).numpy(), before.numpy() * phases, rtol=1e-12
    )


def test_a_band_limited_image_is_recovered_behind_gaps_and_off_centre():
    rng = np.random.default_rng(1)
    orders = (0, 2, 4)
    estimator = FourierBessel(
        (96, 96), 40.2, 52.9, radius=60.0, n_radial=12, orders=orders, mask=gaps((96, 96)), downsample=1
    )
    truth = rng.normal(size=(1, 12, 3)) + 1j * rng.normal(size=(1, 12, 3))
    truth[:, :, 0] = truth[:, :, 0].real
    image = estimator.reconstruct(1000 * truth).numpy()
    recovered = estimator.reconstruct(estimator.estimate(image, penalty=1e-9)).numpy()
    np.testing.assert_allclose(
        recovered[:, estimator.fitted_pixels],
        image[:, estimator.fitted_pixels],
        atol=1e-3 * np.abs(image).max(),
    )


def test_reconstruction_is_the_inverse_as_documented():
    """Σ A_n0 Ψ_n0 + 2 Re Σ A_nm Ψ_nm, with Ψ evaluated by SciPy at one pixel."""
    from scipy.special import jn_zeros, jv

    estimator = FourierBessel((20, 30), 11.3, 7.1, radius=25.0, n_radial=2, orders=(0, 4), downsample=1)
    coefficients = np.array([[[0.7, 1.5 - 0.4j], [-2.0, 0.3 + 1.1j]]])
    row, column = 15, 22
    r, phi = np.hypot(row - 7.1, column - 11.3), np.arctan2(row - 7.1, column - 11.3)
    expected = 0.0
    for n in (1, 2):
        for k, m in enumerate((0, 4)):
            zero = jn_zeros(m, n)[-1]
            norm = np.sqrt(25.0**2 * jv(m + 1, zero) ** 2 / 2)
            psi = jv(m, zero * r / 25.0) / norm * np.exp(1j * m * phi) / np.sqrt(2 * np.pi)
            expected += (1 if m == 0 else 2) * (coefficients[0, n - 1, k] * psi).real
    assert estimator.reconstruct(coefficients)[0, row, column].item() == pytest.approx(expected, abs=1e-8)


def test_downsampling_averages_valid_pixels_of_each_block():
    mask = np.ones((6, 8), dtype=bool)
    mask[0, 0] = mask[2:4, 2:4] = False
    image = np.arange(48.0).reshape(6, 8)
    image[~mask] = np.nan  # what lies under the mask must not matter
    estimator = FourierBessel((6, 8), 3.5, 2.5, radius=40.0, mask=mask, n_radial=2, orders=(0,), downsample=2)
    averages = np.full((3, 4), np.nan)
    for i in range(3):
        for j in range(4):
            block, valid = (
                image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2],
                mask[2 * i : 2 * i + 2, 2 * j : 2 * j + 2],
            )
            averages[i, j] = block[valid].mean() if valid.any() else np.nan
    assert not estimator.fitted_pixels[1, 1]
    np.testing.assert_allclose(
        estimator.working_pixels(image[None])[0].numpy(), averages[estimator.fitted_pixels], rtol=1e-14
    )


def test_the_disk_reaches_the_farthest_edge():
    """Equation (8): ‖p - O'‖ < max(x, W - x, y, H - y), intersected with r < a."""
    estimator = FourierBessel((50, 70), 10.0, 20.0, radius=45.0, n_radial=3, orders=(0,), downsample=1)
    y, x = np.mgrid[:50, :70]
    r = np.hypot(x - 10.0, y - 20.0)
    np.testing.assert_array_equal(estimator.fitted_pixels, (r < 60.0) & (r < 45.0))


def test_pixels_beyond_the_farthest_edge_are_not_fitted():
    """(8): the disk ends at the farthest edge, 22 pixels from this beam, although the basis reaches the corners."""
    estimator = FourierBessel((32, 28), 12.0, 10.0, radius=64.0, n_radial=4, downsample=1)
    y, x = np.ogrid[:32, :28]
    r = np.hypot(y - 10.0, x - 12.0)
    assert r.max() > 25.0
    np.testing.assert_array_equal(estimator.fitted_pixels, r < 22.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, ">i4"])
def test_all_numeric_types_give_the_same_coefficients(dtype):
    image = np.random.default_rng(0).integers(0, 200, (1, 32, 32))
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=5, downsample=1)
    reference = estimator.estimate(image.astype(np.float64), tolerance=1e-12).numpy()
    estimated = estimator.estimate(image.astype(dtype), tolerance=1e-12).numpy()
    np.testing.assert_allclose(estimated, reference, atol=1e-5 * np.abs(reference).max())


def test_torch_tensors_need_not_be_contiguous():
    image = torch.rand(32, 32, 2, dtype=torch.float64).permute(2, 0, 1)
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=5, downsample=1)
    np.testing.assert_allclose(
        estimator.estimate(image).numpy(), estimator.estimate(image.contiguous()).numpy()
    )


def test_an_empty_batch_and_a_blank_image_give_empty_and_zero_coefficients():
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=5, downsample=1)
    assert estimator.estimate(np.zeros((0, 32, 32))).shape == (0, 5, 11)
    for reading in PenaltyReading:
        assert not estimator.estimate(np.zeros((1, 32, 32)), reading=reading).abs().any()


def test_not_finite_outside_the_mask_names_the_pixel():
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=5, downsample=1)
    images = np.zeros((2, 32, 32))
    images[1, 3, 4] = np.inf
    with pytest.raises(
        FrameError, match="image 1 has 1 valid pixels that are not finite, the first at row 3, column 4"
    ):
        estimator.estimate(images)


def test_a_centre_too_far_off_is_refused():
    with pytest.raises(GeometryError, match="x=9000"):
        FourierBessel((32, 32), 9000.0, 15.5, radius=32.0)


def test_wrong_shapes_and_settings_are_refused():
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=5, downsample=1)
    with pytest.raises(FrameError, match=r"\(B, 32, 32\)"):
        estimator.estimate(np.zeros((1, 32, 31)))
    with pytest.raises(SettingsError, match="l1_ratio"):
        estimator.estimate(np.zeros((1, 32, 32)), l1_ratio=1.5)
    with pytest.raises(SettingsError, match="orders"):
        FourierBessel((32, 32), 15.5, 15.5, orders=(2, 2))
    with pytest.raises(GeometryError, match=r"the mask has shape \(32, 31\)"):
        FourierBessel((32, 32), 15.5, 15.5, mask=np.ones((32, 31), dtype=bool))
    with pytest.raises(GeometryError, match="mask must be boolean"):
        FourierBessel((32, 32), 15.5, 15.5, mask=np.ones((32, 32), dtype=int))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_radial": 2.5}, "must be integers"),
        ({"downsample": 1.5}, "must be integers"),
        ({"orders": [0.5]}, "must be integers"),
        ({"orders": 4}, "must be integers"),
        ({"orders": []}, "orders must be distinct"),
        ({"orders": [-2]}, "orders must be distinct"),
        ({"radius": float("inf")}, "radius must be positive and finite"),
        ({"radius": "256"}, "radius must be a number"),
    ],
)
def test_settings_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        FourierBessel((32, 32), 15.5, 15.5, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"penalty": float("inf")}, "penalty must be from 0 to"),
        ({"penalty": "weak"}, "penalty must be a number"),
        ({"reading": "loud"}, "reading must be one of per_sample, unit_norm"),
    ],
)
def test_penalties_that_mean_nothing_are_refused(arguments, message):
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=2, orders=(0,))
    with pytest.raises(SettingsError, match=message):
        estimator.estimate(np.zeros((1, 32, 32)), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (32, 32, 3)}, "two positive integers"),
        ({"shape": (0, 32)}, "two positive integers"),
        ({"center_x": float("nan")}, "must be finite"),
        ({"mask": np.zeros((32, 32), dtype=bool)}, "leaves no valid pixel"),
    ],
)
def test_geometries_that_no_image_has_are_refused(arguments, message):
    with pytest.raises(GeometryError, match=message):
        FourierBessel(**{"shape": (32, 32), "center_x": 15.5, "center_y": 15.5, **arguments})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_whose_squares_overflow_are_refused_and_not_made_nan(dtype):
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=2, orders=(0, 2))
    images = np.zeros((2, 32, 32), dtype=dtype)
    images[1] = np.finfo(dtype).max
    with pytest.raises(FrameError, match=r"image 1 (holds values too large|has .* not finite)"):
        estimator.estimate(images)


def test_reconstruction_takes_any_array_of_the_right_shape():
    estimator = FourierBessel((20, 20), 9.5, 9.5, radius=20.0, n_radial=3, orders=(0, 2))
    coefficients = np.random.default_rng(0).normal(size=(2, 3, 2))
    expected = estimator.reconstruct(coefficients.astype(complex)).numpy()
    np.testing.assert_allclose(estimator.reconstruct(coefficients).numpy(), expected)
    np.testing.assert_allclose(estimator.reconstruct(coefficients[::-1]).numpy(), expected[::-1])
    with pytest.raises(SettingsError, match=r"\(B, 3, 2\), not \(3, 2\)"):
        estimator.reconstruct(coefficients[0])


def test_an_unknown_device_is_refused():
    with pytest.raises(SettingsError, match="nope"):
        FourierBessel((32, 32), 15.5, 15.5, device="nope")


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 1000), downsample=st.integers(1, 3), share=st.floats(0.001, 0.4), double=st.booleans()
)
def test_a_plan_without_lost_pixels_is_the_plan_of_what_is_left(seed, downsample, share, double):
    """Taken out of the Gram matrix or never put in: the same coefficients, in both readings."""
    rng = np.random.default_rng(seed)
    shape, mask = (45, 52), gaps((45, 52), seed)
    lost = rng.random(shape) < share
    lost[10 : 10 + 2 * downsample, 20 : 20 + 2 * downsample] = True
    image = rings(shape, 20.0, 25.0, seed=seed).astype(np.float64 if double else np.float32)[None]
    image[:, lost] = np.nan

    def estimator(valid):
        return FourierBessel(
            shape, 20.0, 25.0, radius=60.0, mask=valid, n_radial=8, orders=(0, 2), downsample=downsample
        )

    derived, afresh = estimator(mask).without(lost), estimator(mask & ~lost)
    np.testing.assert_array_equal(derived.fitted_pixels, afresh.fitted_pixels)
    np.testing.assert_allclose(derived.basis().numpy(), afresh.basis().numpy())
    # In float32 the stiff reading's coefficients are not determined to better than its rounding errors.
    for reading in PenaltyReading if double else [PenaltyReading.PER_SAMPLE]:
        expected = afresh.estimate(image, reading=reading, tolerance=1e-12)
        found = derived.estimate(image, reading=reading, tolerance=1e-12)
        atol = (1e-5 if double else 2e-4) * float(expected.abs().max())
        np.testing.assert_allclose(found, expected, atol=atol)


@pytest.mark.parametrize("reading", PenaltyReading)
@pytest.mark.parametrize("lost", [False, True])
def test_the_solution_says_what_it_leaves_unexplained(reading, lost):
    """‖Ua - y‖² / ‖y‖², worked out from basis and pixels."""
    estimator = FourierBessel((48, 48), 20.0, 25.0, radius=60.0, n_radial=8, orders=(0, 2), downsample=1)
    if lost:
        estimator = estimator.without(np.random.default_rng(0).random((48, 48)) < 0.02)
    images = np.stack([rings((48, 48), 20.0, 25.0, seed=seed) for seed in range(3)])
    for double in (True, False):
        solution = estimator.solve(
            images if double else images.astype(np.float32), reading=reading, tolerance=1e-7
        )
        pixels = estimator.working_pixels(images).numpy()
        misfit = solution.coefficients.double().numpy() @ estimator.basis().numpy().T - pixels
        expected = (misfit**2).sum(1) / (pixels**2).sum(1)
        np.testing.assert_allclose(solution.unexplained, expected, rtol=1e-6 if double else 1e-3)
    assert estimator.solve(np.zeros((1, 48, 48)), reading=reading).unexplained.tolist() == [0.0]


def test_a_plan_that_loses_everything_is_refused():
    estimator = FourierBessel((32, 32), 15.5, 15.5, radius=32.0, n_radial=5)
    with pytest.raises(GeometryError, match="none is within the radius"):
        estimator.without(np.ones((32, 32), dtype=bool))
    with pytest.raises(GeometryError, match=r"\(32, 32\)"):
        estimator.without(np.ones((31, 32), dtype=bool))
