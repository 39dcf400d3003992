"""The basis against SciPy's own Bessel functions and quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import jn_zeros, jv

from dvfb_stream.fbt.basis import radial_functions, real_basis


def reference_radial(r, n, m, radius):
    """Equation (4), evaluated directly."""
    zero = jn_zeros(m, n)[-1]
    return jv(m, zero * r / radius) / np.sqrt(radius**2 * jv(m + 1, zero) ** 2 / 2)


@pytest.mark.parametrize("order", [0, 2, 7, 20])
def test_radial_functions_are_those_of_equation_4(order):
    r = np.linspace(0, 63.999, 777)
    values = radial_functions(r, radius=64.0, order=order, n_radial=40)
    for n in (1, 2, 17, 40):
        np.testing.assert_allclose(values[:, n - 1], reference_radial(r, n, order, 64.0), atol=1e-9)


def test_radial_functions_vanish_outside_the_disk():
    assert not radial_functions(np.array([64.0, 64.1, 1e6]), radius=64.0, order=2, n_radial=5).any()


@pytest.mark.parametrize(
    ("order", "n", "other"), [(0, 1, 1), (0, 3, 5), (2, 2, 2), (2, 39, 40), (20, 40, 40), (20, 7, 9)]
)
def test_radial_functions_are_orthonormal_by_quadrature(order, n, other):
    """∫ R_nm R_n'm r dr = δ, by SciPy's adaptive quadrature to 1e-6."""

    def integrand(r):
        values = radial_functions(np.array([r]), radius=10.0, order=order, n_radial=40)[0]
        return values[n - 1] * values[other - 1] * r

    integral, _ = quad(integrand, 0, 10.0, limit=400, epsabs=1e-9)
    assert integral == pytest.approx(float(n == other), abs=1e-6)


def test_the_real_basis_is_orthonormal_on_the_full_disk():
    """∫∫ u_i u_j r dr dφ = δ: Gauss-Legendre over r, the trapezium over φ, which is exact."""
    nodes, weights = np.polynomial.legendre.leggauss(160)
    r, w = 5.0 * (nodes + 1), 5.0 * weights
    phi = np.arange(64) * 2 * np.pi / 64
    rr, pp = np.meshgrid(r, phi, indexing="ij")
    basis = real_basis(rr.ravel(), pp.ravel(), radius=10.0, n_radial=12, orders=(0, 2, 3, 8))
    measure = np.repeat(w * r, phi.size) * 2 * np.pi / 64
    np.testing.assert_allclose(basis.T @ (basis * measure[:, None]), np.eye(basis.shape[1]), atol=1e-6)
