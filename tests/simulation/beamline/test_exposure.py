"""Photons are counted as Poisson has it."""

import numpy as np
import pytest
import torch
from scipy import stats

from dvfb_stream.simulation.beamline.exposure import LEAST_NORMAL, poisson

COUNT = 400_000


@pytest.mark.parametrize("mean", [0.01, 0.3, 1.0, 3.0, 9.9, 10.1, 30.0, 1e3, 1e5])
def test_counts_have_the_poisson_distribution(mean):
    counts = poisson(torch.full((1, COUNT), mean), [5])[0].numpy().astype(int)
    low, high = (int(stats.poisson.ppf(p, mean)) for p in (1e-4, 1 - 1e-4))
    edges = np.arange(low, high + 1)
    if len(edges) > 60:  # groups of numbers, so that each is expected often
        edges = np.unique(np.linspace(low, high, 60).astype(int))
    cumulative = np.concatenate(([0.0], stats.poisson.cdf(edges, mean), [1.0]))
    expected = np.diff(cumulative) * COUNT
    found = np.diff(np.concatenate(([0], [np.sum(counts <= edge) for edge in edges], [COUNT])))
    often = expected > 5
    expected, found = (
        np.append(values[often], values[~often].sum()) for values in (expected, found.astype(float))
    )
    kept = expected > 0
    assert (
        stats.chisquare(found[kept], expected[kept] * found[kept].sum() / expected[kept].sum()).pvalue > 1e-4
    )


@pytest.mark.parametrize("mean", [0.05, 2.0, 50.0, 1e5, 1e6])
def test_mean_and_variance_are_the_mean(mean):
    counts = poisson(torch.full((2, COUNT), mean), [1, 2]).double()
    assert float(counts.mean()) == pytest.approx(mean, rel=5 / np.sqrt(2 * COUNT * mean) + 1e-7)
    assert float(counts.var()) == pytest.approx(mean, rel=5 * np.sqrt((2 + 1 / mean) / (2 * COUNT)))


@pytest.mark.parametrize("mean", [LEAST_NORMAL, 15.0, 50.0, 300.0, 1000.0])
def test_the_inverse_differs_from_poisson_by_less_than_a_thousandth(mean):
    """Total variation of ⌊λ + √λ w + 1/3 + w²/6 - (w/36 + w³/72) / √λ⌋ with w normal, on a fine grid of w."""
    w = np.linspace(-8.0, 8.0, 4_000_001)
    root = np.sqrt(mean)
    value = mean + root * w + (2 + w * w) / 6 - (w / 36 + w**3 / 72) / root
    numbers = np.arange(int(mean + 12 * root + 20))
    reached = np.searchsorted(np.maximum.accumulate(value), numbers + 1)
    cumulative = stats.norm.cdf(w[np.minimum(reached, len(w) - 1)])
    distance = 0.5 * np.abs(np.diff(cumulative, prepend=0.0) - stats.poisson.pmf(numbers, mean)).sum()
    assert distance < 6e-4


@pytest.mark.parametrize("mean", [0.01, 0.3, 1.0, 3.0, 9.9, 10.1, 30.0])
def test_frequencies_are_as_near_to_poisson_as_their_number_allows(mean):
    """Total variation of 1.6 million counts, beside what as many true Poisson variables give."""
    counts = poisson(torch.full((4, COUNT), mean), [1, 2, 3, 4]).long().flatten().numpy()
    numbers = np.arange(int(stats.poisson.isf(1e-12, mean)) + 2)
    chances = stats.poisson.pmf(numbers, mean)
    found = np.bincount(counts, minlength=len(numbers)) / len(counts)
    assert len(found) == len(numbers)
    # Of n, a frequency p deviates by √(2 p (1 - p) / (π n)) on average.
    by_chance = 0.5 * np.sqrt(2 * chances * (1 - chances) / (np.pi * len(counts))).sum()
    inverse = 6e-4 if mean >= 10 else 0.0
    assert 0.5 * np.abs(found - chances).sum() < inverse + 2.5 * by_chance


def test_nothing_gives_nothing_and_mixed_means_keep_to_their_own():
    mean = torch.tensor([0.0, 0.01, 5.0, 9.99, 10.0, 2000.0]).repeat(1, 50_000)
    counts = poisson(mean, [9]).view(-1, 6).double()
    assert not counts[:, 0].any()
    torch.testing.assert_close(counts.mean(dim=0), mean[0, :6].double(), rtol=0.06, atol=0.02)


def test_a_frames_counts_follow_from_its_seed_alone():
    mean = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0)) ** 4 * 100
    together = poisson(mean, [7, 8, 9])
    for frame, seed in enumerate((7, 8, 9)):
        torch.testing.assert_close(
            poisson(mean[frame : frame + 1], [seed])[0], together[frame], rtol=0, atol=0
        )
    assert not torch.equal(poisson(mean[:1], [7]), poisson(mean[:1], [8]))


def test_counts_are_whole_numbers_from_zero_whatever_is_beside_them():
    generator = torch.Generator().manual_seed(1)
    mean = 10.0 ** (torch.rand(6, 3000, generator=generator) * 10 - 4)
    mean[:, ::7] = 0.0
    mean[0], mean[1] = 0.0, 1e6
    before = mean.clone()
    counts = poisson(mean, list(range(6)))
    assert torch.equal(mean, before)
    assert counts.shape == mean.shape
    assert torch.isfinite(counts).all()
    assert torch.equal(counts, counts.floor())
    assert (counts >= 0).all()
    assert not counts[mean == 0].any()
    # Eight deviations hold 18,000 numbers of any mean; few photons have a longer tail.
    assert ((counts - mean).abs() <= 8 * mean.sqrt() + 8).all()


def test_the_rarest_counts_do_not_depend_on_the_frames_beside_them_either():
    """Four million pixels reach uniform numbers that float32 can no longer compare with a sum of chances."""
    alone = torch.full((1, 1 << 22), 0.8560426831245422)
    beside = torch.full((1, 1 << 22), 9.99)
    most = stats.poisson.isf(2.0**-21, 0.8560426831245422)
    for seed in (3, 17):
        counts = poisson(alone, [seed])
        torch.testing.assert_close(poisson(torch.cat([alone, beside]), [seed, 0])[:1], counts, rtol=0, atol=0)
        assert float(counts.max()) <= most


def test_no_frames_have_no_counts():
    assert poisson(torch.zeros(0, 4, 4), []).shape == (0, 4, 4)
