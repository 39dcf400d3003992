"""Random numbers that belong to an item: the same whoever asks, distributed as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dvfb_stream.simulation.draws import Draws, Stream

MANY = 20_000


def uniforms(items, *, seed=3, stream=Stream.FRAME, columns=6):
    return Draws(seed, stream, items, columns).uniform(count=columns)


def many(seed, columns=8):
    return Draws(seed, Stream.STRUCTURE, range(MANY), columns)


@given(
    seed=st.integers(0, 2**70),
    items=st.lists(st.integers(0, 2**53), min_size=1, max_size=8),
    data=st.data(),
)
def test_an_items_numbers_do_not_depend_on_the_items_beside_it(seed, items, data):
    together = uniforms(items, seed=seed)
    assert ((together >= 0.0) & (together < 1.0)).all()
    for position in data.draw(st.permutations(range(len(items)))):
        np.testing.assert_array_equal(uniforms([items[position]], seed=seed)[0], together[position])


def test_an_items_numbers_do_not_depend_on_how_many_columns_are_provided():
    np.testing.assert_array_equal(uniforms([5, 9], columns=30)[:, :6], uniforms([5, 9]))


def test_items_may_come_as_an_array():
    np.testing.assert_array_equal(uniforms(np.array([7, 2**53])), uniforms([7, 2**53]))


def test_seeds_streams_and_items_differ_in_every_number():
    rows = [
        uniforms([item], seed=seed, stream=stream)[0]
        for seed in (0, 1, 2**32, 2**64, 2**64 + 1, 2**70 - 1, 2**70)
        for stream in Stream
        for item in (0, 1, 2**32, 2**53 - 1, 2**53)
    ]
    assert len(np.unique(rows)) == np.size(rows)


@pytest.mark.parametrize("lag", [1, 2, 100])
def test_neighbouring_items_and_columns_are_not_correlated(lag):
    numbers = many(seed=11).uniform(count=8)
    # The correlation of n independent pairs is normal with deviation 1/√n; four of them.
    least = 4.0 / np.sqrt(MANY - lag)
    assert abs(np.corrcoef(numbers[lag:, 0], numbers[:-lag, 0])[0, 1]) < least
    across = np.corrcoef(numbers, rowvar=False) - np.eye(8)
    assert np.abs(across).max() < 4.5 / np.sqrt(MANY)


def test_numbers_of_other_streams_and_seeds_are_not_correlated():
    columns = [Draws(seed, stream, range(MANY), 1).uniform() for seed in (0, 1) for stream in Stream]
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 4.5 / np.sqrt(MANY)


def test_each_method_takes_the_next_columns():
    draws = Draws(1, Stream.FRAME, [4, 8], 7)
    expected = uniforms([4, 8], seed=1, columns=7)
    assert len(draws) == 2
    np.testing.assert_array_equal(draws.uniform(), expected[:, 0])
    np.testing.assert_array_equal(draws.uniform(count=2), expected[:, 1:3])
    np.testing.assert_array_equal(draws.happens(0.5), expected[:, 3] < 0.5)
    draws.normal()
    draws.choice([1.0, 2.0])
    np.testing.assert_array_equal(draws.uniform(10.0, 20.0), 10.0 + 10.0 * expected[:, 6])


def test_more_columns_than_provided_are_refused():
    draws = Draws(1, Stream.FRAME, [4], 3)
    draws.uniform(count=2)
    with pytest.raises(IndexError, match="only 3 columns"):
        draws.uniform(count=2)


def test_each_item_may_have_its_own_bounds():
    draws = Draws(1, Stream.FRAME, [4, 8, 9], 1)
    low, high = np.array([0.0, 10.0, -5.0]), np.array([1.0, 20.0, -5.0])
    expected = low + (high - low) * uniforms([4, 8, 9], seed=1, columns=1)[:, 0]
    np.testing.assert_array_equal(draws.uniform(low, high), expected)


def test_columns_set_apart_are_the_next_ones_and_the_rest_goes_on_after_them():
    expected = uniforms([4, 8])
    draws = Draws(3, Stream.FRAME, [4, 8], 6)
    draws.uniform()
    apart = draws.apart(3)
    np.testing.assert_array_equal(draws.uniform(count=2), expected[:, 4:])
    np.testing.assert_array_equal(apart.uniform(count=3), expected[:, 1:4])
    with pytest.raises(IndexError, match="only 3 columns"):
        apart.uniform()


def test_chosen_items_go_on_from_the_column_reached_and_leave_the_others_where_they_were():
    expected = uniforms([4, 8, 9])
    draws = Draws(3, Stream.FRAME, [4, 8, 9], 6)
    draws.uniform()
    chosen = draws.chosen(np.array([2, 0, 2]))
    assert len(chosen) == 3
    np.testing.assert_array_equal(chosen.uniform(count=3), expected[[2, 0, 2], 1:4])
    np.testing.assert_array_equal(draws.uniform(), expected[:, 1])
    np.testing.assert_array_equal(chosen.uniform(), expected[[2, 0, 2], 4])
    assert draws.chosen(np.array([], dtype=np.int64)).uniform().shape == (0,)


@pytest.mark.parametrize(
    ("draw", "distribution"),
    [
        (lambda draws: draws.uniform(count=8), stats.uniform()),
        (lambda draws: draws.uniform(-3.0, 5.0, count=8), stats.uniform(-3.0, 8.0)),
        (lambda draws: draws.log_uniform(1e-3, 1e4, count=8), stats.loguniform(1e-3, 1e4)),
        (lambda draws: draws.normal(count=8), stats.norm()),
        (lambda draws: draws.normal(-2.0, 0.3, count=8), stats.norm(-2.0, 0.3)),
        (lambda draws: draws.lognormal(1.0, 0.5, count=8), stats.lognorm(s=0.5, scale=np.e)),
    ],
)
@pytest.mark.parametrize("seed", [0, 2**70])
def test_numbers_are_distributed_as_they_say(draw, distribution, seed):
    numbers = draw(many(seed))
    assert numbers.shape == (MANY, 8)
    # Along the items, along the columns of few, and all together.
    for sample in (numbers[:, 0], numbers[:1000].ravel(), numbers.ravel()):
        assert stats.kstest(sample, distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("probability", [0.0, 0.003, 0.3, 0.97, 1.0])
def test_things_happen_with_their_probability(probability):
    happened = many(5).happens(probability, count=8)
    assert happened.dtype == np.bool_
    # 0 and 1 leave no chance.
    low, high = stats.binom(happened.size, probability).ppf([1e-4, 1.0 - 1e-4])
    assert max(low, 0) <= happened.sum() <= high


def test_choices_have_their_odds():
    odds = np.array([0.0, 2.0, 0.5, 0.0, 7.0, 0.01, 0.0])
    chosen = many(6).choice(list(odds), count=8)
    counts = np.bincount(chosen.ravel(), minlength=len(odds))
    assert len(counts) == len(odds)
    possible = odds > 0
    assert (counts[~possible] == 0).all()
    expected = odds[possible] / odds.sum() * chosen.size
    assert stats.chisquare(counts[possible], expected).pvalue > 1e-3


def test_integers_are_equally_frequent():
    found = many(7).integers(-2, 5, count=8)
    assert found.dtype == np.int64
    values, counts = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(values, range(-2, 5))
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("mean", [0.3, 1.0, 3.0])
def test_small_numbers_are_poissonian(mean):
    found = np.concatenate([many(seed).poisson(mean) for seed in range(4)])
    last = int(stats.poisson.isf(20.0 / len(found), mean))
    expected = stats.poisson.pmf(np.arange(last + 1), mean)
    expected[-1] = stats.poisson.sf(last - 1, mean)
    counts = np.bincount(found.clip(max=last), minlength=last + 1)
    assert stats.chisquare(counts, expected * len(found)).pvalue > 1e-3


def test_a_mean_of_nothing_gives_nothing():
    assert not many(9).poisson(0.0).any()
