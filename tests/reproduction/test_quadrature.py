"""The transform pair (5)(6) against SciPy's quadrature, closed forms, and each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad, quad
from scipy.special import jn_zeros, jv

from dvfb_stream.errors import FrameError, SettingsError
from dvfb_stream.fbt import FourierBessel
from dvfb_stream.reproduction.quadrature import inverse_transform, synthesise, transform

RADII = st.floats(0.01, 1000.0)
SEEDS = st.integers(0, 1000)
ORDERS = st.lists(st.integers(0, 25), min_size=1, max_size=4, unique=True).map(tuple)
SIGNED_ORDERS = st.lists(st.integers(-25, 25), min_size=1, max_size=4, unique=True).map(tuple)


def psi(n, m, r, azimuth, radius):
    """Equations (3) and (4), evaluated directly; J of a negative order is SciPy's."""
    root = jn_zeros(abs(m), n)[-1]
    norm = np.sqrt(radius**2 * jv(abs(m) + 1, root) ** 2 / 2)
    return jv(m, root * r / radius) / norm * np.exp(1j * m * azimuth) / np.sqrt(2 * np.pi)


def noise(shape, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def hermitian(shape, seed, orders):
    """Coefficients of real images: those of order 0 are real."""
    coefficients = noise(shape, seed)
    coefficients[..., np.array(orders) == 0] = coefficients[..., np.array(orders) == 0].real
    return coefficients


def spiral(r, azimuth):
    """Real, smooth on the disk, of no symmetry, and no product of radius and azimuth."""
    x, y = r * np.cos(azimuth), r * np.sin(azimuth)
    return np.exp(-((x - 0.4) ** 2) - 2 * (y + 0.3 * x) ** 2) * (1 + np.cos(3 * x - y))


def test_a_constant_has_its_closed_form():
    """∫ J_0(x r/a) r dr = a² J_1(x)/x gives P_n0 = 2√π a sign(J_1(x_n0)) / x_n0, and nothing above order 0."""
    coefficients = transform(lambda r, azimuth: 1.0, radius=3.0, n_radial=30, orders=(0, 1, 4))
    roots = jn_zeros(0, 30)
    expected = 2 * np.sqrt(np.pi) * 3.0 * np.sign(jv(1, roots)) / roots
    np.testing.assert_allclose(coefficients[:, 0], expected, atol=1e-12)
    np.testing.assert_allclose(coefficients[:, 1:], 0, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(2, 3), (1, -2)])
def test_the_integral_is_scipys(n, m):
    def integrand(part):
        return lambda azimuth, r: part(spiral(r, azimuth) * psi(n, m, r, azimuth, 2.0).conj()) * r

    real, imaginary = (
        dblquad(integrand(part), 0, 2, -np.pi, np.pi, epsabs=1e-6)[0] for part in (np.real, np.imag)
    )
    coefficients = transform(spiral, radius=2.0, n_radial=3, orders=(m,), azimuth_nodes=120)
    assert coefficients[n - 1, 0] == pytest.approx(complex(real, imaginary), abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(width=st.floats(0.15, 1.0), center=st.floats(0.2, 0.8), phase=st.floats(-3, 3), m=st.integers(1, 20))
def test_a_ring_with_a_symmetry_has_the_radial_integral_at_its_order_alone(width, center, phase, m):
    def profile(r):
        return np.exp(-(((r - center) / width) ** 2)) * r**2

    coefficients = transform(
        lambda r, azimuth: profile(r) * np.cos(m * (azimuth - phase)),
        radius=1.0,
        n_radial=4,
        orders=(m, m + 1, 0),
    )
    for n in (1, 4):
        # ∫ cos(m(φ - phase)) exp(-i m φ) dφ = π exp(-i m phase)
        radial, _ = quad(lambda r, n=n: profile(r) * psi(n, m, r, 0.0, 1.0).real * r, 0, 1, limit=200)
        assert coefficients[n - 1, 0] == pytest.approx(np.pi * radial * np.exp(-1j * m * phase), abs=1e-7)
    np.testing.assert_allclose(coefficients[:, 1:], 0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    radius=RADII,
    n_radial=st.integers(1, 12),
    orders=ORDERS,
    batch=st.sampled_from([(), (2,), (2, 3)]),
    seed=SEEDS,
)
def test_the_transform_undoes_the_synthesis(radius, n_radial, orders, batch, seed):
    coefficients = hermitian((*batch, n_radial, len(orders)), seed, orders)
    found = transform(
        lambda r, azimuth: synthesise(coefficients, r, azimuth, radius=radius, orders=orders),
        radius=radius,
        n_radial=n_radial,
        orders=orders,
    )
    np.testing.assert_allclose(found, coefficients, atol=1e-11)


@settings(max_examples=20, deadline=None)
@given(radius=RADII, n_radial=st.integers(1, 12), orders=SIGNED_ORDERS, seed=SEEDS)
def test_the_transform_undoes_the_inverse_of_a_complex_function(radius, n_radial, orders, seed):
    coefficients = noise((n_radial, len(orders)), seed)
    found = transform(
        lambda r, azimuth: inverse_transform(coefficients, r, azimuth, radius=radius, orders=orders),
        radius=radius,
        n_radial=n_radial,
        orders=orders,
    )
    np.testing.assert_allclose(found, coefficients, atol=1e-11)


def test_the_papers_extent_is_right_to_rounding():
    orders = tuple(range(0, 21, 2))
    coefficients = hermitian((40, 11), 0, orders)
    found = transform(
        lambda r, azimuth: synthesise(coefficients, r, azimuth, radius=256.0, orders=orders),
        radius=256.0,
        n_radial=40,
        orders=orders,
    )
    np.testing.assert_allclose(found, coefficients, atol=1e-11)


def test_a_function_that_oscillates_three_times_as_fast_is_still_integrated():
    fastest = jn_zeros(0, 20)[-1]

    def wave(r, azimuth):
        return np.cos(3 * fastest * r)

    arguments = {"radius": 1.0, "n_radial": 20, "orders": (0,)}
    np.testing.assert_allclose(
        transform(wave, **arguments), transform(wave, **arguments, radial_nodes=500), atol=1e-12
    )


def test_orders_of_the_function_below_three_times_the_highest_plus_64_do_not_alias():
    arguments = {"radius": 1.0, "n_radial": 3, "orders": (0, 5)}
    assert abs(transform(lambda r, azimuth: r * np.cos(78 * azimuth), **arguments)).max() < 1e-12
    assert abs(transform(lambda r, azimuth: r * np.cos(79 * azimuth), **arguments)).max() > 0.01
    assert (
        abs(transform(lambda r, azimuth: r * np.cos(79 * azimuth), **arguments, azimuth_nodes=85)).max()
        < 1e-12
    )


@settings(max_examples=20, deadline=None)
@given(r=st.floats(0, 9.99), azimuth=st.floats(-7, 7), orders=SIGNED_ORDERS, seed=SEEDS)
def test_the_inverse_is_the_sum_of_equation_6(r, azimuth, orders, seed):
    coefficients = noise((3, len(orders)), seed)
    expected = sum(
        coefficients[n - 1, column] * psi(n, m, r, azimuth, 10.0)
        for n in (1, 2, 3)
        for column, m in enumerate(orders)
    )
    found = inverse_transform(coefficients, r, azimuth, radius=10.0, orders=orders)
    assert found.shape == ()
    assert complex(found) == pytest.approx(expected, abs=1e-12)


def test_the_synthesis_is_what_a_plan_reconstructs():
    estimator = FourierBessel((40, 50), 11.3, 27.1, radius=44.0, n_radial=6, orders=(0, 1, 4), downsample=2)
    coefficients = hermitian((2, 6, 3), 0, (0, 1, 4))
    images = synthesise(coefficients, *estimator.grid.polar(), radius=22.0, orders=(0, 1, 4))
    assert images.shape == (2, 20, 25)
    np.testing.assert_allclose(estimator.reconstruct(coefficients).numpy(), images, atol=1e-7)


def test_points_and_batches_broadcast():
    coefficients = hermitian((2, 1, 4, 2), 0, (0, 3))
    r, azimuth = np.linspace(0, 1, 5), np.linspace(-3, 3, 35).reshape(7, 1, 5)
    values = synthesise(coefficients, r, azimuth, radius=1.0, orders=(0, 3))
    assert values.shape == (2, 1, 7, 1, 5)
    one = synthesise(coefficients[1, 0], r[3], azimuth[6, 0, 3], radius=1.0, orders=(0, 3))
    assert values[1, 0, 6, 0, 3] == pytest.approx(float(one))


def test_there_is_nothing_outside_the_disk():
    coefficients = noise((4, 2), 0)
    assert not inverse_transform(coefficients, [5.0, 5.1, 1e9], 0.3, radius=5.0, orders=(0, -2)).any()


def test_the_imaginary_part_of_order_0_has_no_place_in_a_real_image():
    coefficients = noise((4, 2), 0)
    real = coefficients.copy()
    real[:, 0] = real[:, 0].real
    points = {"r": [0.1, 0.9], "azimuth": [1.0, 2.0], "radius": 1.0, "orders": (0, 2)}
    np.testing.assert_array_equal(synthesise(coefficients, **points), synthesise(real, **points))


@settings(max_examples=20, deadline=None)
@given(orders=ORDERS, seed=SEEDS)
def test_a_real_functions_negative_orders_follow_from_the_positive_ones(orders, seed):
    """P_{n,-m} = (-1)^m conj(P_nm)."""
    center = np.random.default_rng(seed).uniform(-1, 1, 2)

    def blob(r, azimuth):
        return np.exp(-((r * np.cos(azimuth) - center[0]) ** 2) - (r * np.sin(azimuth) - center[1]) ** 2)

    above = transform(blob, radius=2.0, n_radial=3, orders=orders)
    below = transform(blob, radius=2.0, n_radial=3, orders=[-order for order in orders])
    np.testing.assert_allclose(below, (-1.0) ** np.array(orders) * above.conj(), atol=1e-13)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.0}, r"radius must be positive and finite, not 0\.0"),
        ({"radius": np.inf}, "radius must be positive and finite, not inf"),
        ({"n_radial": 0}, "n_radial must be from 1 to 1200, not 0"),
        ({"n_radial": 1201}, "n_radial must be from 1 to 1200, not 1201"),
        ({"orders": ()}, r"distinct, and at least one, not \(\)"),
        ({"orders": (2, 2)}, r"distinct, and at least one, not \(2, 2\)"),
        ({"orders": (1.5,)}, r"integers, not \(1\.5,\)"),
        ({"radial_nodes": 40}, "radial_nodes must be at least 44 .* not 40"),
        ({"azimuth_nodes": 71}, "azimuth_nodes must be at least 72 .* not 71"),
        ({"azimuth_nodes": 99.5}, r"azimuth_nodes must be an integer or None, not 99\.5"),
    ],
)
def test_settings_that_no_transform_has_are_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        transform(spiral, **{"radius": 1.0, "n_radial": 3, "orders": (0, 2), **arguments})


def test_functions_of_a_wrong_shape_or_without_a_value_are_refused():
    arguments = {"radius": 1.0, "n_radial": 2, "orders": (0,)}
    with pytest.raises(FrameError, match=r"the function returned shape \(5, 5\) .* \(\.\.\., 38, 64\)"):
        transform(lambda r, azimuth: np.ones((5, 5)), **arguments)
    with pytest.raises(FrameError, match="not finite everywhere on 0 < r < 1"):
        transform(lambda r, azimuth: np.where(r > 0.5, np.nan, 1.0), **arguments)


def test_coefficients_and_points_that_do_not_belong_together_are_refused():
    points = {"r": [0.1], "azimuth": [1.0], "radius": 1.0}
    for function in (synthesise, inverse_transform):
        with pytest.raises(
            SettingsError, match=r"\(0, 2\) must have shape \(\.\.\., n_radial, 2\), not \(4, 3\)"
        ):
            function(np.ones((4, 3)), **points, orders=(0, 2))
        with pytest.raises(SettingsError, match=r"r must not be negative, and is -0\.1"):
            function(np.ones((4, 1)), [-0.1], 0.0, radius=1.0, orders=(0,))
        with pytest.raises(SettingsError, match=r"shape \(2,\) and azimuth of shape \(3,\)"):
            function(np.ones((4, 1)), [0, 1], [0, 1, 2], radius=1.0, orders=(0,))
    with pytest.raises(SettingsError, match=r"must not be negative, and are \(-2, 0\)"):
        synthesise(np.ones((4, 2)), **points, orders=(-2, 0))
