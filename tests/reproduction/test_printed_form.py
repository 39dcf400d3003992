"""Algorithm 1 as printed, and its Hermitian form ended early, against scikit-learn on a basis of SciPy's."""

import warnings

import numpy as np
import pytest
from scipy.special import jn_zeros, jv
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.fbt import FourierBessel, PenaltyReading
from dvfb_stream.reproduction.printed_form import complex_basis, estimate_early_stopped, estimate_printed

ORDERS = (0, 2, 4)
N_RADIAL = 8
RADIUS = 60.0


@pytest.fixture(scope="module")
def estimator():
    """Off centre, with a gap."""
    mask = np.ones((48, 48), dtype=bool)
    mask[20:23] = False
    return FourierBessel(
        (48, 48), 17.2, 26.9, radius=RADIUS, mask=mask, n_radial=N_RADIAL, orders=ORDERS, downsample=1
    )


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[:48, :48]
    r, azimuth = np.hypot(x - 17.2, y - 26.9), np.arctan2(y - 26.9, x - 17.2)
    counts = 300 / (1 + (r / 6) ** 2) + 80 * np.exp(-(((r - 19) / 4) ** 2)) * (
        1 + 0.8 * np.cos(4 * azimuth - 1)
    )
    return 255 * np.log1p(np.random.default_rng(0).poisson(counts + 1)) / np.log(65536)


@pytest.fixture(scope="module")
def psi():
    """Equations (3) and (4) on the pixels that are valid, in the disk (8) and on the support, (P, n, m)."""
    y, x = np.mgrid[:48, :48]
    r, azimuth = np.hypot(x - 17.2, y - 26.9), np.arctan2(y - 26.9, x - 17.2)
    seen = (r < max(17.2, 48 - 17.2, 26.9, 48 - 26.9)) & (r < RADIUS) & ~((y >= 20) & (y < 23))
    r, azimuth = r[seen], azimuth[seen]
    values = np.empty((r.size, N_RADIAL, len(ORDERS)), dtype=complex)
    for column, m in enumerate(ORDERS):
        for n, root in enumerate(jn_zeros(m, N_RADIAL)):
            norm = np.sqrt(RADIUS**2 * jv(m + 1, root) ** 2 / 2)
            values[:, n, column] = (
                jv(m, root * r / RADIUS) / norm * np.exp(1j * m * azimuth) / np.sqrt(2 * np.pi)
            )
    return values


def hermitian_columns(psi):
    """√2 Re Ψ and √2 Im Ψ, order by order, and Ψ of order 0; and A of their coefficients."""
    columns = [psi[:, :, 0].real]
    for column in range(1, len(ORDERS)):
        columns += [np.sqrt(2) * psi[:, :, column].real, np.sqrt(2) * psi[:, :, column].imag]

    def coefficients(unknowns):
        zero, *parts = np.split(unknowns, len(unknowns) // N_RADIAL)
        return np.stack(
            [zero + 0j, *((c - 1j * s) / np.sqrt(2) for c, s in zip(parts[::2], parts[1::2], strict=True))],
            axis=1,
        )

    return np.hstack(columns), coefficients


def printed_columns(psi):
    """The matrix of line 4 with n before m, and lines 5 to 6 the other way."""
    flat = psi.reshape(len(psi), -1)

    def coefficients(unknowns):
        real, imaginary = np.split(unknowns, 2)
        return (real + 1j * imaginary).reshape(N_RADIAL, len(ORDERS))

    return np.vstack([np.hstack([flat.real, -flat.imag]), np.hstack([flat.imag, flat.real])]), coefficients


def solved(design, target, *, penalty, l1_ratio, sweeps, tolerance=0.0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ElasticNet(
            alpha=penalty, l1_ratio=l1_ratio, fit_intercept=False, max_iter=sweeps, tol=tolerance
        ).fit(design, target)


def test_the_basis_is_that_of_equations_3_and_4_with_n_before_m(estimator, psi):
    np.testing.assert_allclose(complex_basis(estimator), psi.reshape(len(psi), -1), atol=1e-8)


@pytest.mark.parametrize("sweeps", [1, 20])
@pytest.mark.parametrize(("penalty", "l1_ratio"), [(1e-4, 0.8), (3e-3, 0.3)])
def test_per_sample_the_printed_form_is_scikit_learns_elastic_net_of_the_stacked_rows(
    estimator, image, psi, sweeps, penalty, l1_ratio
):
    design, coefficients = printed_columns(psi)
    target = np.concatenate([image[estimator.fitted_pixels], np.zeros(len(psi))])
    reference = solved(design, target, penalty=penalty, l1_ratio=l1_ratio, sweeps=sweeps)
    found = estimate_printed(estimator, image, penalty, l1_ratio, sweeps=sweeps)
    assert found.shape == (N_RADIAL, len(ORDERS))
    np.testing.assert_allclose(found, coefficients(reference.coef_), atol=1e-4)


@pytest.mark.parametrize("sweeps", [1, 20])
def test_in_unit_norm_rows_and_columns_are_scaled_and_the_penalty_is_not(estimator, image, psi, sweeps):
    pixels = image[estimator.fitted_pixels]
    norm = np.linalg.norm(pixels)
    for columns, target, estimate in (
        (printed_columns, np.concatenate([pixels, 0 * pixels]), estimate_printed),
        (hermitian_columns, pixels, estimate_early_stopped),
    ):
        design, coefficients = columns(psi)
        norms = np.linalg.norm(design, axis=0)
        # ½ ‖·‖² + λ R is scikit-learn's 1/(2 rows) ‖·‖² + (λ / rows) R.
        reference = solved(
            design / norms, target / norm, penalty=1e-3 / len(target), l1_ratio=0.7, sweeps=sweeps
        )
        found = estimate(estimator, image, 1e-3, 0.7, reading=PenaltyReading.UNIT_NORM, sweeps=sweeps)
        np.testing.assert_allclose(found, coefficients(reference.coef_ / norms * norm), atol=1e-4)


def test_per_sample_the_early_stopped_form_is_scikit_learns_elastic_net_of_the_real_basis(
    estimator, image, psi
):
    design, coefficients = hermitian_columns(psi)
    reference = solved(design, image[estimator.fitted_pixels], penalty=1e-4, l1_ratio=0.8, sweeps=20)
    found = estimate_early_stopped(estimator, image, reading="per_sample")
    np.testing.assert_allclose(found, coefficients(reference.coef_), atol=1e-4)


@pytest.mark.parametrize("reading", PenaltyReading)
def test_after_enough_sweeps_the_early_stopped_form_is_the_plans_estimate(estimator, image, reading):
    found = estimate_early_stopped(estimator, image, 1e-2, reading=reading, sweeps=20_000, tolerance=1e-14)
    expected = estimator.estimate(image[None], 1e-2, reading=reading, tolerance=1e-12)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max())


def test_twenty_sweeps_converge_per_sample_and_end_early_in_unit_norm(estimator, image):
    """Notes to the paper: per sample λ n is about 2, and well conditioned; in unit norm λ stands alone, and stiff."""

    def error(penalty, reading):
        found = estimate_early_stopped(estimator, image, penalty, reading=reading)
        expected = estimator.estimate(image[None], penalty, reading=reading, tolerance=1e-10)[0].numpy()
        return np.linalg.norm(found - expected) / np.linalg.norm(expected)

    assert error(2 / estimator.fitted_pixels.sum(), PenaltyReading.PER_SAMPLE) < 1e-4
    assert error(1e-4, PenaltyReading.UNIT_NORM) > 1e-2


@pytest.mark.parametrize("estimate", [estimate_printed, estimate_early_stopped])
@pytest.mark.parametrize("reading", PenaltyReading)
def test_functions_that_no_pixel_sees_and_blank_images_have_no_coefficients(estimate, reading):
    mask = np.zeros((64, 64), dtype=bool)
    mask[31:34, 31:34] = True  # J_20 is below 1e-30 there
    estimator = FourierBessel(
        (64, 64), 32.0, 32.0, radius=64.0, mask=mask, n_radial=3, orders=(0, 20), downsample=1
    )
    found = estimate(estimator, np.full((64, 64), 7.0), reading=reading)
    assert found[:, 0].any()
    assert not found[:, 1].any()
    assert not estimate(estimator, np.zeros((64, 64)), reading=reading).any()


def test_unit_norm_estimates_scale_with_the_image(estimator, image):
    for estimate in (estimate_printed, estimate_early_stopped):
        found = estimate(estimator, image, reading="unit_norm")
        np.testing.assert_allclose(
            estimate(estimator, 1000 * image, reading="unit_norm"), 1000 * found, rtol=1e-8
        )


@pytest.mark.parametrize("estimate", [estimate_printed, estimate_early_stopped])
def test_wrong_images_and_settings_are_refused(estimator, image, estimate):
    with pytest.raises(FrameError, match="48"):
        estimate(estimator, np.zeros((48, 47)))
    for arguments, message in (
        ({"penalty": -1.0}, r"penalty must be from 0 to 1e\+12, not -1\.0"),
        ({"l1_ratio": 1.5}, r"l1_ratio must be between 0 and 1, not 1\.5"),
        ({"reading": "per_pixel"}, "reading must be one of .* not 'per_pixel'"),
        ({"sweeps": 0}, "sweeps must be an integer of at least 1, not 0"),
        ({"sweeps": 2.5}, r"sweeps must be an integer of at least 1, not 2\.5"),
        ({"tolerance": -1e-3}, r"tolerance must be at least 0.* not -0\.001"),
    ):
        with pytest.raises(SettingsError, match=message):
            estimate(estimator, image, **arguments)
