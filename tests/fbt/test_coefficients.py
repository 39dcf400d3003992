"""What coefficients say: of the turned image, of its energy, of negative orders, and of both forms of Algorithm 1."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import jn_zeros, jv

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBessel
from dvfb_stream.fbt.coefficients import (
    complex_from_real,
    energy_per_order,
    energy_per_radial_index,
    real_from_complex,
    rotate,
    with_negative_orders,
)
from dvfb_stream.reproduction.printed_form import complex_basis, estimate_printed, hermitian_from_printed
from dvfb_stream.reproduction.quadrature import inverse_transform, synthesise, transform

ORDERS = st.lists(st.integers(0, 20), min_size=1, max_size=4, unique=True).map(tuple)
BATCHES = st.sampled_from([(), (3,), (2, 3)])
SEEDS = st.integers(0, 1000)


def hermitian(shape, seed, orders):
    """Random coefficients of real images: those of order 0 are real."""
    rng = np.random.default_rng(seed)
    coefficients = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    coefficients[..., np.array(orders) == 0] = coefficients[..., np.array(orders) == 0].real
    return coefficients


def blobs(r, azimuth, turn=0.0):
    """Real, smooth, of no symmetry; turned towards larger azimuth."""
    x, y = r * np.cos(azimuth - turn), r * np.sin(azimuth - turn)
    return np.exp(-((x - 0.4) ** 2) - 3 * (y + 0.2) ** 2) + 0.5 * np.exp(
        -((x + 0.7) ** 2) - (y - 0.6 * x) ** 2
    )


def energy_by_quadrature(image, radius):
    """∫∫ f² r dr dφ over the disk; `image` takes r and azimuth."""
    nodes, weights = np.polynomial.legendre.leggauss(80)
    r, azimuth = radius * (nodes + 1) / 2, np.arange(96) * 2 * np.pi / 96
    squares = image(*np.meshgrid(r, azimuth, indexing="ij")) ** 2
    return (squares.sum(-1) * 2 * np.pi / 96) @ (radius * weights / 2 * r)


@settings(max_examples=30, deadline=None)
@given(orders=ORDERS, batch=BATCHES, seed=SEEDS)
def test_real_unknowns_and_complex_coefficients_are_the_same_in_any_batch(orders, batch, seed):
    coefficients = torch.from_numpy(hermitian((*batch, 5, len(orders)), seed, orders))
    unknowns = real_from_complex(coefficients, orders=orders)
    assert unknowns.shape == (*batch, 5 * sum(1 if order == 0 else 2 for order in orders))
    torch.testing.assert_close(complex_from_real(unknowns, n_radial=5, orders=orders), coefficients)


@settings(max_examples=15, deadline=None)
@given(angle=st.floats(-10, 10), orders=ORDERS)
def test_turning_coefficients_is_the_transform_of_the_turned_image(angle, orders):
    arguments = {"radius": 1.5, "n_radial": 4, "orders": orders}
    upright = torch.from_numpy(transform(blobs, **arguments))
    turned = transform(lambda r, azimuth: blobs(r, azimuth, angle), **arguments)
    np.testing.assert_allclose(rotate(upright, angle, orders=orders).numpy(), turned, atol=1e-11)


@settings(max_examples=15, deadline=None)
@given(orders=ORDERS, batch=BATCHES, radius=st.floats(0.1, 100.0), seed=SEEDS)
def test_energies_add_up_to_that_of_the_image(orders, batch, radius, seed):
    """Parseval, against quadrature of f²."""
    coefficients = hermitian((*batch, 6, len(orders)), seed, orders)
    expected = energy_by_quadrature(
        lambda r, azimuth: synthesise(coefficients, r, azimuth, radius=radius, orders=orders), radius
    )
    per_order = energy_per_order(torch.from_numpy(coefficients), orders=orders)
    per_index = energy_per_radial_index(torch.from_numpy(coefficients), orders=orders)
    assert per_order.shape == (*batch, len(orders))
    assert per_index.shape == (*batch, 6)
    np.testing.assert_allclose(per_order.sum(-1), expected, rtol=1e-9)
    np.testing.assert_allclose(per_index.sum(-1), expected, rtol=1e-9)


@settings(max_examples=10, deadline=None)
@given(orders=ORDERS, seed=SEEDS)
def test_an_entry_is_the_energy_of_its_own_order_or_radial_index(orders, seed):
    coefficients = hermitian((3, len(orders)), seed, orders)
    per_order = energy_per_order(torch.from_numpy(coefficients), orders=orders)
    for column, order in enumerate(orders):
        expected = energy_by_quadrature(
            lambda r, azimuth, c=column, m=order: synthesise(
                coefficients[:, [c]], r, azimuth, radius=2.0, orders=(m,)
            ),
            2.0,
        )
        assert per_order[column].item() == pytest.approx(expected, rel=1e-9)
    per_index = energy_per_radial_index(torch.from_numpy(coefficients), orders=orders)
    for n in (1, 3):
        alone = np.zeros_like(coefficients)
        alone[n - 1] = coefficients[n - 1]
        expected = energy_by_quadrature(
            lambda r, azimuth, alone=alone: synthesise(alone, r, azimuth, radius=2.0, orders=orders), 2.0
        )
        assert per_index[n - 1].item() == pytest.approx(expected, rel=1e-9)


def test_energies_of_real_coefficients_and_of_what_order_0_cannot_hold():
    coefficients = torch.tensor([[3.0 + 5.0j, 1.0 + 2.0j]])
    assert energy_per_order(coefficients, orders=(0, 2)).tolist() == [9.0, 10.0]
    assert energy_per_order(coefficients.real, orders=(0, 2)).tolist() == [9.0, 2.0]


@settings(max_examples=20, deadline=None)
@given(orders=ORDERS, batch=BATCHES, seed=SEEDS)
def test_equation_6_with_its_negative_orders_is_the_real_image(orders, batch, seed):
    coefficients = hermitian((*batch, 3, len(orders)), seed, orders)
    both, both_orders = with_negative_orders(torch.from_numpy(coefficients), orders=orders)
    assert both_orders == tuple(sorted({*orders, *(-order for order in orders)}))
    r, azimuth = np.linspace(0, 1, 9)[:, None], np.linspace(-3, 3, 7)
    image = inverse_transform(both.numpy(), r, azimuth, radius=1.0, orders=both_orders)
    np.testing.assert_allclose(image.imag, 0, atol=1e-12)
    np.testing.assert_allclose(
        image.real, synthesise(coefficients, r, azimuth, radius=1.0, orders=orders), atol=1e-12
    )


def test_negative_orders_are_those_of_the_transform():
    orders = (0, 1, 2, 5)
    coefficients = torch.from_numpy(transform(blobs, radius=2.0, n_radial=4, orders=orders))
    both, both_orders = with_negative_orders(coefficients, orders=orders)
    expected = transform(blobs, radius=2.0, n_radial=4, orders=both_orders)
    np.testing.assert_allclose(both.numpy(), expected, atol=1e-13)


@pytest.mark.parametrize(
    "function", [energy_per_order, energy_per_radial_index, with_negative_orders, hermitian_from_printed]
)
def test_coefficients_that_are_not_hermitian_are_refused(function):
    with pytest.raises(
        SettingsError, match=r"\(0, 2\) must have shape \(\.\.\., n_radial, 2\), not \(4, 3\)"
    ):
        function(torch.zeros(4, 3, dtype=torch.complex64), orders=(0, 2))
    with pytest.raises(SettingsError, match=r"must not be negative, and are \(-2, 0\)"):
        function(torch.zeros(4, 2, dtype=torch.complex64), orders=(-2, 0))


# The forms of Algorithm 1, as `hermitian_from_printed` documents them.


def estimator_of(center, radius, n_radial, mask=None):
    return FourierBessel(
        (64, 64), *center, radius=radius, n_radial=n_radial, orders=(0, 2, 4), mask=mask, downsample=1
    )


def pattern(estimator, seed=0):
    """Rings of several symmetries with noise about the estimator's beam."""
    r, azimuth = estimator.grid.polar()
    rings = 300 / (1 + (r / 6) ** 2) + 80 * np.exp(-(((r - 22) / 4) ** 2)) * (
        1 + 0.8 * np.cos(4 * azimuth - 1)
    )
    rings += 40 * np.exp(-(((r - 12) / 3) ** 2)) * (1 + 0.9 * np.cos(2 * azimuth + 2))
    return 255 * np.log1p(np.random.default_rng(seed).poisson(rings + 1)) / np.log(65536)


def test_complex_least_squares_over_one_sign_of_m_recovers_the_coefficients_and_not_twice_them():
    """On the whole disk with (5)'s own measure: A = argmin ‖ΨA - f‖² is P_nm, and Re ΨA is not f."""
    orders, nodes = (0, 2, 3), np.polynomial.legendre.leggauss(40)
    r, azimuth = np.meshgrid(nodes[0] / 2 + 0.5, np.arange(32) * 2 * np.pi / 32, indexing="ij")
    root_measure = np.sqrt(np.repeat(nodes[1] * r[:, 0], 32))
    coefficients = hermitian((4, 3), 0, orders)
    image = synthesise(coefficients, r, azimuth, radius=1.0, orders=orders).ravel()
    psi = []
    for n in range(1, 5):
        for m in orders:
            root = jn_zeros(m, n)[-1]
            psi.append((jv(m, root * r) / abs(jv(m + 1, root)) * np.exp(1j * m * azimuth)).ravel())
    psi = np.stack(psi, axis=1) / np.sqrt(np.pi)
    stacked = np.block([[psi.real, -psi.imag], [psi.imag, psi.real]])
    weights = np.concatenate([root_measure, root_measure])
    target = np.concatenate([image, 0 * image])
    unknowns, *_ = np.linalg.lstsq(stacked * weights[:, None], target * weights, rcond=None)
    found = (unknowns[:12] + 1j * unknowns[12:]).reshape(4, 3)
    np.testing.assert_allclose(found, coefficients, atol=1e-10)

    isotropic = synthesise(coefficients[:, :1], r, azimuth, radius=1.0, orders=(0,)).ravel()
    np.testing.assert_allclose((psi @ found.ravel()).real, isotropic + (image - isotropic) / 2, atol=1e-10)


@pytest.mark.parametrize("radius", [31.5, 64.0], ids=["whole_disk", "inner_half_of_the_disk"])
@pytest.mark.parametrize("inner", [0.0, 9.0], ids=["", "behind_a_beamstop"])
def test_on_full_circles_both_forms_are_one_when_the_ridges_are(radius, inner):
    """λ/2 over the printed form's 2n rows is λ over n. Circles of pixels are round to about a hundredth."""
    r = np.hypot(*(np.mgrid[:64, :64] - 31.5))
    estimator = estimator_of((31.5, 31.5), radius, 12, mask=r >= inner)
    image = pattern(estimator)
    printed = estimate_printed(estimator, image, 1e-4 / 2, 0.0, sweeps=200)
    printed = hermitian_from_printed(torch.from_numpy(printed), orders=(0, 2, 4)).numpy()
    expected = estimator.estimate(image[None], 1e-4, 0.0, tolerance=1e-12)[0].numpy()
    assert np.linalg.norm(printed - expected) < 0.01 * np.linalg.norm(expected)
    assert np.linalg.norm((printed - expected)[:, 1:]) < 0.03 * np.linalg.norm(expected[:, 1:])
    assert not printed[:, 0].imag.any()


def test_the_l1_term_of_the_printed_form_is_the_hermitian_ones_at_root_two_times_the_penalty():
    """Soft thresholds of one order above 0 on full circles, half the rows being asked to vanish."""
    estimator = FourierBessel((64, 64), 31.5, 31.5, radius=31.5, n_radial=10, orders=(4,), downsample=1)
    image = pattern(estimator)
    printed = estimate_printed(estimator, image, 1e-3 / 2, 1.0, sweeps=200)
    alike = estimator.estimate(image[None], np.sqrt(2) * 1e-3, 1.0, tolerance=1e-10)[0].numpy()
    same = estimator.estimate(image[None], 1e-3, 1.0, tolerance=1e-10)[0].numpy()
    assert np.linalg.norm(printed - alike) < 0.1 * np.linalg.norm(printed - same)


@pytest.mark.parametrize("gaps", [False, True])
def test_on_a_cropped_disk_the_forms_correlate_and_are_of_one_size(gaps):
    """Off centre and behind gaps, m > 0 alone: near one another, far from twice."""
    mask = np.ones((64, 64), dtype=bool)
    if gaps:
        mask[20:23] = mask[:, 40:43] = False
    estimator = estimator_of((25.0, 38.0), 64.0, 20, mask=mask)
    image = pattern(estimator)
    printed = estimate_printed(estimator, image, 1e-4 / 2, sweeps=200)[:, 1:]
    expected = estimator.estimate(image[None], 1e-4)[0].numpy()[:, 1:]
    assert np.corrcoef(abs(printed).ravel(), abs(expected).ravel())[0, 1] > 0.97
    assert 0.9 < np.linalg.norm(printed) / np.linalg.norm(expected) < 1.1


def test_conversion_keeps_all_but_the_imaginary_part_of_order_0():
    coefficients = torch.tensor([[1 + 2j, 3 + 4j]])
    assert hermitian_from_printed(coefficients, orders=(2, 0)).tolist() == [[1 + 2j, 3 + 0j]]


def test_the_image_of_printed_coefficients_is_summed_with_their_negative_orders():
    """On full circles (6) with both signs explains the image; Re ΨA is what the printed residual sees."""
    estimator = estimator_of((31.5, 31.5), 31.5, 12)
    image = estimator.reconstruct(hermitian((1, 12, 3), 0, (0, 2, 4)))[0].numpy()
    printed = estimate_printed(estimator, image, 1e-9, sweeps=200)
    fitted = estimator.fitted_pixels
    summed = estimator.reconstruct(hermitian_from_printed(torch.from_numpy(printed), orders=(0, 2, 4))[None])[
        0
    ].numpy()
    real_part = (complex_basis(estimator) @ printed.ravel()).real
    energy = np.linalg.norm(image[fitted])
    assert np.linalg.norm(summed[fitted] - image[fitted]) < 0.01 * energy
    assert np.linalg.norm(real_part - image[fitted]) > 0.3 * energy
