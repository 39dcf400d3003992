"""Speckles have the statistics of a coherent beam."""

import numpy as np
import pytest
import torch
from scipy import stats

from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.beamline.exposure import speckle_field


@pytest.fixture(scope="module")
def raster():
    return draw_experiment(0, 0, SimulationSettings(detectors={"ccd": 1.0})).raster


def field(raster, seed, **chosen):
    return speckle_field(raster, generator=torch.Generator().manual_seed(seed), **chosen).numpy()


def test_intensity_is_exponential_and_partial_coherence_takes_its_share(raster):
    full = np.stack([field(raster, seed, grain=2.0, contrast=1.0) for seed in range(20)])
    # Every eighth pixel: neighbours are of one grain.
    assert stats.kstest(full[:, ::8, ::8].reshape(-1), stats.expon.cdf).pvalue > 1e-3
    partial = field(raster, 3, grain=2.0, contrast=0.3)
    assert partial.mean() == pytest.approx(1.0, abs=0.02)
    assert partial.std() == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("contrast", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("grain", [2.0, 4.0, 6.0])
def test_the_mean_is_one_and_the_variance_the_contrast_squared(raster, grain, contrast):
    fields = np.stack([field(raster, seed, grain=grain, contrast=contrast) for seed in range(8)])
    assert fields.min() >= 1.0 - contrast
    # As many independent numbers as grains, of 1.13 grain² each.
    grains = fields.size / (1.13 * grain**2)
    assert fields.mean() == pytest.approx(1.0, abs=4 * contrast / np.sqrt(grains))
    # The fourth central moment of a negative exponential is 9.
    assert fields.var() == pytest.approx(contrast**2, rel=4 * np.sqrt(8 / grains))


@pytest.mark.parametrize("grain", [2.0, 4.0])
@pytest.mark.parametrize("chosen", [{"raster": "detector"}, {"size": 400}])
def test_the_mean_is_one_on_every_raster(grain, chosen):
    fine = draw_experiment(0, 0, SimulationSettings(detectors={"ccd": 1.0}, **chosen)).raster
    fields = np.stack([field(fine, seed, grain=grain, contrast=1.0) for seed in range(8)])
    grains = 8 * 256**2 / (1.13 * grain**2)
    assert fields.mean() == pytest.approx(1.0, abs=4 / np.sqrt(grains))


def test_grains_are_as_wide_as_asked_for(raster):
    fields = np.stack([field(raster, seed, grain=5.0, contrast=1.0) for seed in range(20)]) - 1.0
    correlation = [np.mean(fields[:, :, :-shift] * fields[:, :, shift:]) for shift in range(1, 12)]
    correlation = np.array([np.mean(fields**2), *correlation]) / np.mean(fields**2)
    half = np.interp(0.5, correlation[::-1], np.arange(12)[::-1])
    # The field's correlation is √2 wider than the kernel; squared, the intensity's is as wide as that.
    assert 2 * half == pytest.approx(5.0, rel=0.12)


def test_a_finer_raster_shows_the_same_speckles(raster):
    fine = draw_experiment(0, 0, SimulationSettings(detectors={"ccd": 1.0}, raster="detector")).raster
    coarse, detailed = (field(r, 1, grain=4.0, contrast=1.0) for r in (raster, fine))
    averaged = detailed.reshape(256, 4, 256, 4).mean(axis=(1, 3))
    assert np.corrcoef(averaged[2:-2, 2:-2].reshape(-1), coarse[2:-2, 2:-2].reshape(-1))[0, 1] > 0.98
