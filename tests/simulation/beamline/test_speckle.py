"""Speckles: their mean, contrast, distribution and grain."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from dvfb_stream.simulation.beamline.speckle import speckle_field

SIDE = 900


def field(grain, contrast=1.0, *, shape=(SIDE, SIDE), seed=0):
    return speckle_field(shape, grain=grain, contrast=contrast, generator=torch.Generator().manual_seed(seed))


def grains(grain):
    """Number of independent values: a grain's area is the integral of exp(-r²/(2 σ²))² = π σ²."""
    return SIDE**2 / max(1.0, math.pi * (grain / 2.3548) ** 2)


@pytest.mark.parametrize("grain", [1.0, 2.0, 3.7, 8.0])
@pytest.mark.parametrize("contrast", [0.1, 0.5, 1.0])
def test_mean_is_one_and_variance_the_squared_contrast(grain, contrast):
    found = field(grain, contrast).double()
    assert found.shape == (SIDE, SIDE)
    # The mean of n exponential variables has the deviation 1/√n; their variance, with kurtosis 9, √(8/n). Grains
    # that overlap count as fewer in the mean than in its square, hence five deviations.
    error = 1.0 / math.sqrt(grains(grain))
    assert float(found.mean()) == pytest.approx(1.0, abs=5.0 * contrast * error)
    assert float(found.var()) == pytest.approx(contrast**2, rel=5.0 * math.sqrt(8.0) * error)
    assert float(found.min()) >= 1.0 - contrast


def test_without_contrast_there_is_no_speckle():
    assert torch.equal(field(3.0, 0.0), torch.ones(SIDE, SIDE))


@pytest.mark.parametrize("grain", [1.0, 2.5, 6.0])
def test_the_intensity_is_negative_exponential(grain):
    apart = math.ceil(3.0 * grain)
    found = field(grain, seed=1)[::apart, ::apart].double().flatten().numpy()
    assert len(found) > 1000
    assert stats.kstest(found, stats.expon().cdf).pvalue > 1e-3


@pytest.mark.parametrize("grain", [2.0, 3.0, 5.5, 9.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_autocorrelation_is_as_wide_as_a_grain(grain, axis):
    """|z|² of a Gaussian kernel has a Gaussian autocovariance; half its height lies half a grain away."""
    found = field(grain, seed=2).numpy().astype(float) - 1.0
    found = np.moveaxis(found, axis, 0)
    lags = np.arange(math.ceil(grain) + 1)
    covariance = np.array([np.mean(found[: SIDE - lag] * found[lag:]) for lag in lags])
    # Between lags: the logarithm of a Gaussian is linear in the squared lag.
    logarithm = np.log((covariance / covariance[0]).clip(1e-3))
    below = int(np.argmax(logarithm < math.log(0.5)))
    squared = np.interp(-math.log(0.5), -logarithm[below - 1 : below + 1], lags[below - 1 : below + 1] ** 2)
    # The kernel ends at 2.5 σ, which takes 1 % off its width.
    assert 2.0 * math.sqrt(squared) == pytest.approx(grain, rel=0.05)


def test_speckles_follow_from_the_generator():
    assert torch.equal(field(3.0, seed=4), field(3.0, seed=4))
    assert not torch.equal(field(3.0, seed=4), field(3.0, seed=5))


def test_rows_and_columns_are_not_confused():
    assert field(3.0, shape=(40, 70)).shape == (40, 70)
    assert field(3.0, shape=(40, 70)).dtype == torch.float32
