"""The signed logarithm (10)."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.fbt import log_scale, log_unscale, normalise


@given(st.floats(-255, 255), st.floats(-255, 255))
def test_real_and_imaginary_parts_are_scaled_apart_and_back(real, imaginary):
    value = torch.tensor([complex(real, imaginary)], dtype=torch.complex128)
    scaled = log_scale(value)
    expected = np.sign(real) * np.log1p(abs(real)) / np.log(256)
    assert abs(scaled.real.item() - expected) < 1e-12
    assert abs(scaled.imag.item()) <= 1 + 1e-12
    np.testing.assert_allclose(log_unscale(scaled).numpy(), value.numpy(), atol=1e-9)


def test_minus_one_does_not_diverge_as_in_print():
    assert log_scale(torch.tensor([-1.0])).item() == -log_scale(torch.tensor([1.0])).item()


def test_normalisation_brings_the_largest_magnitude_to_255_unless_all_are_small():
    coefficients = torch.tensor([[[3.0 + 4.0j, 1.0]], [[0.5, 0.1j]]])
    magnitudes = normalise(coefficients).abs()
    np.testing.assert_allclose(magnitudes[0, 0, 0], 255.0)
    np.testing.assert_allclose(magnitudes[1], 255 * np.array([[0.5, 0.1]]), rtol=1e-6)
