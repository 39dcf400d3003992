"""The basis and the estimate against another group's code: fle_2d, harmonics on the full disk.

N. F. Marshall, O. Mickelin, A. Singer, "Fast expansion into harmonics on the disk", SIAM J. Sci. Comput. 45(5), 2023.

Their functions are ours, (3)(4) with the disk's rim at the image's edge, normalised over the disk in units of
pixels, real: sine and cosine parts of each pair -m, m. What differs is the grid and the order:

- The angle is arctan2(column, row) where ours is arctan2(row, column): images go in transposed.
- Disk of radius R = ceil(L / 2) about pixel (R, R) of a grid that an odd L is padded to at its top and left; the
  centre is pixel L // 2 of the image either way.
- Functions stand in the order of their eigenvalues, all that lie below a bandlimit; ours are a rectangle of n and m.
"""

import numpy as np
import pytest

from dvfb_stream.fbt import FourierBessel, complex_from_real

pytest.importorskip(
    "finufft", reason="fle_2d needs finufft, which it does not declare; both come with [test]"
)
fle_2d = pytest.importorskip("fle_2d", reason="the other group's code comes with the extra [test]")

EPSILON = 1e-10
"""Accuracy that is asked of fle_2d: relative error of its transforms against its own dense matrices."""


class Disk:
    """A full disk of both codes and where each function of theirs stands among ours."""

    def __init__(self, size, bandlimit):
        self.size = size
        # expand's conjugate gradients are to stop at EPSILON too, not at the preset 1e-3.
        self.theirs = fle_2d.FLEBasis2D(
            size, bandlimit, EPSILON, expand_eps=EPSILON, expand_rel_tol=EPSILON / 10
        )
        n_radial, highest = int(self.theirs.ks.max()), int(self.theirs.nmax)
        self.estimator = FourierBessel(
            (size, size),
            size // 2,
            size // 2,
            radius=(size + 1) // 2,
            n_radial=n_radial,
            orders=range(highest + 1),
            downsample=1,
        )
        m = np.abs(self.theirs.ns)
        cosines = np.where(m == 0, 0, (2 * m - 1) * n_radial) + self.theirs.ks - 1
        self.columns = np.where(self.theirs.ns < 0, cosines + n_radial, cosines)

    def image(self, seed):
        """Return a band-limited image on the full disk and its coefficients in their order."""
        coefficients = np.random.default_rng(seed).normal(size=self.theirs.ne)
        image = np.zeros((self.size, self.size))
        image[self.estimator.fitted_pixels] = self.estimator.basis().numpy()[:, self.columns] @ coefficients
        return image, coefficients


@pytest.fixture(scope="module", params=[64, 63], ids=["even", "odd"])
def disk(request):
    return Disk(request.param, 16)


def test_the_functions_are_theirs(disk):
    """Every function of theirs on every pixel; double precision but for the tables that ours come from."""
    theirs = disk.theirs.create_denseB().reshape(disk.size, disk.size, -1).transpose(1, 0, 2)
    assert theirs.shape[2] == len(set(disk.columns)) > 100
    fitted = disk.estimator.fitted_pixels
    np.testing.assert_allclose(theirs[fitted], disk.estimator.basis().numpy()[:, disk.columns], atol=1e-9)
    np.testing.assert_allclose(theirs[~fitted], 0, atol=1e-12)


def test_the_projection_of_any_image_is_their_evaluate_t(disk):
    fitted = disk.estimator.fitted_pixels
    image = np.where(fitted, np.random.default_rng(0).normal(size=fitted.shape), 0)
    ours = disk.estimator.basis().numpy().T @ image[fitted]
    theirs = disk.theirs.evaluate_t(image.T).ravel()
    np.testing.assert_allclose(ours[disk.columns], theirs, atol=10 * EPSILON * np.abs(ours).max())


def test_the_inverse_is_their_evaluate(disk):
    image, coefficients = disk.image(1)
    theirs = disk.theirs.evaluate(coefficients).T
    np.testing.assert_allclose(theirs, image, atol=10 * EPSILON * np.abs(image).max())


def test_the_estimate_of_a_band_limited_image_is_their_expansion(disk):
    """With next to no penalty: both then solve the least squares that gives the image's own coefficients back."""
    image, coefficients = disk.image(2)
    expanded = disk.theirs.expand(image.T).ravel()
    np.testing.assert_allclose(expanded, coefficients, atol=10 * EPSILON * np.abs(coefficients).max())
    solution = disk.estimator.solve(image[None], penalty=1e-12, l1_ratio=0.5, tolerance=1e-14)
    ours = solution.coefficients[0].numpy()
    # The penalty draws each coefficient by about penalty · pixels, 4e-9 here.
    np.testing.assert_allclose(ours[disk.columns], expanded, atol=1e-7)
    np.testing.assert_allclose(np.delete(ours, disk.columns), 0, atol=1e-7)


def test_complex_coefficients_are_theirs():
    """Their complex functions run over -m and m. A real image has conjugate pairs, and ours keep m >= 0."""
    disk = Disk(32, 12)
    theirs = fle_2d.FLEBasis2D(32, 12, EPSILON, mode="complex")
    image, _ = disk.image(3)
    expected = theirs.evaluate_t(image.T).ravel()
    estimator = disk.estimator
    # Uᵀ of an image are coefficients of it where functions are orthonormal: complex as `estimate` gives them.
    projected = estimator.basis().T @ estimator.working_pixels(image[None])[0]
    ours = complex_from_real(
        projected[None], n_radial=estimator.settings.n_radial, orders=estimator.settings.orders
    )[0].numpy()
    for m, n, value in zip(theirs.ns, theirs.ks, expected, strict=True):
        if m >= 0:
            assert ours[n - 1, m] == pytest.approx(value, abs=10 * EPSILON * np.abs(expected).max())
