"""Numbers of frames, compared with sets of integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.callbacks.numbering import Numbering, Ranges

ranges = st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(ranges))
def test_ranges_are_as_sets(added):
    found, known = Ranges(), set()
    for start, stop in added:
        news = [number for numbers in found.add(start, stop) for number in numbers]
        assert news == sorted(set(range(start, stop)) - known)
        known |= set(range(start, stop))
        assert found.stop == max(known, default=-1) + 1
        assert [n for numbers in found.missing(0, 80) for n in numbers] == sorted(set(range(80)) - known)
        assert all(found.count_below(n) == sum(number < n for number in known) for n in range(80))
    assert len(found._starts) <= len(known)


@given(st.lists(st.one_of(ranges, st.integers(1, 5))))
def test_no_number_is_given_twice_and_none_below_the_highest_is_left(asked):
    numbering, given_so_far = Numbering(), set()
    for wanted in asked:
        if isinstance(wanted, int):
            count, first = wanted, numbering.following(wanted)
        else:
            count = wanted[1] - wanted[0]
            first = numbering.at(wanted[0], count)
            assert first == wanted[0] or given_so_far & set(range(*wanted))
        numbers = set(range(first, first + count))
        assert not numbers & given_so_far
        given_so_far |= numbers
    lost = {number for numbers in numbering.lost() for number in numbers}
    assert not lost & given_so_far
    assert lost | given_so_far == set(range(numbering.count))
    assert numbering.lost() == []


def test_what_lies_far_enough_behind_is_lost_before_the_end():
    numbering = Numbering()
    numbering.at(5, 3)
    assert numbering.lost(behind=10) == []
    numbering.at(20, 1)
    assert numbering.lost(behind=10) == [range(5), range(8, 11)]
    assert numbering.at(2, 1) == 21  # it has had its row
