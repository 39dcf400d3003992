"""Random numbers belong to their item and have the distributions they are named after."""

import numpy as np
import pytest
from scipy import stats

from dvfb_stream.simulation.draws import Draws, Stream


def many(columns=4, seed=3, stream=Stream.FRAME, items=20_000):
    return Draws(seed, stream, np.arange(items), columns)


def test_an_items_numbers_do_not_depend_on_the_others():
    together = Draws(7, Stream.FRAME, [3, 900, 2**53, 0], 30)
    values = together.normal(count=10), together.uniform(), together.choice([1.0, 2.0])
    for row, item in enumerate([3, 900, 2**53, 0]):
        alone = Draws(7, Stream.FRAME, [item], 500)
        for one, other in zip(
            (alone.normal(count=10), alone.uniform(), alone.choice([1.0, 2.0])), values, strict=True
        ):
            np.testing.assert_array_equal(one[0], other[row])


def test_rows_chosen_and_columns_set_apart_keep_their_numbers():
    whole = Draws(1, Stream.FRAME, range(6), 20).uniform(count=20)
    draws = Draws(1, Stream.FRAME, range(6), 20)
    draws.uniform(count=3)
    apart = draws.apart(5)
    np.testing.assert_array_equal(apart.chosen(np.array([1, 4])).uniform(count=5), whole[[1, 4], 3:8])
    np.testing.assert_array_equal(draws.uniform(), whole[:, 8])


def test_seeds_and_streams_are_unrelated():
    rows = [
        Draws(seed, stream, np.arange(5000), 1).uniform()
        for seed in (0, 1, 2**70)
        for stream in (Stream.EXPERIMENT, Stream.FRAME, Stream.STRUCTURE, Stream.PIXELS)
    ]
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / np.sqrt(5000)


def test_neighbouring_items_and_columns_are_unrelated():
    values = many(columns=40).uniform(count=40)
    assert np.abs(np.corrcoef(values.T) - np.eye(40)).max() < 5 / np.sqrt(len(values))
    assert abs(np.corrcoef(values[:-1, 0], values[1:, 0])[0, 1]) < 5 / np.sqrt(len(values))


@pytest.mark.parametrize(
    ("draw", "distribution"),
    [
        (lambda draws: draws.uniform(2.0, 5.0), stats.uniform(2.0, 3.0)),
        (lambda draws: draws.normal(1.0, 0.5), stats.norm(1.0, 0.5)),
        (lambda draws: draws.log_uniform(0.01, 10.0), stats.loguniform(0.01, 10.0)),
        (lambda draws: draws.lognormal(0.3, 0.75), stats.lognorm(0.75, scale=np.exp(0.3))),
    ],
)
def test_distributions_are_those_of_the_names(draw, distribution):
    assert stats.kstest(draw(many()), distribution.cdf).pvalue > 1e-3


def test_counts_and_choices_have_their_odds():
    draws = many()
    counted = np.bincount(draws.poisson(0.3), minlength=6)[:6]
    expected = stats.poisson.pmf(np.arange(6), 0.3) * len(draws)
    assert (np.abs(counted - expected) < 4 * np.sqrt(expected) + 2).all()
    chosen = np.bincount(draws.choice([1.0, 0.0, 3.0]), minlength=3)
    assert chosen[1] == 0
    assert chosen[0] / len(draws) == pytest.approx(0.25, abs=0.015)
    assert draws.happens(0.2).mean() == pytest.approx(0.2, abs=0.015)


def test_integers_reach_both_ends():
    assert set(many().integers(3, 7)) == {3, 4, 5, 6}


def test_more_columns_than_provided_are_refused():
    with pytest.raises(IndexError, match="only 4 columns"):
        many(items=2).uniform(count=5)
