"""A cache keeps what it says, lets go of what it says, and calls nobody while it is locked."""

from __future__ import annotations

import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.bounded_cache import BoundedCache, Evict
from dvfb_stream.errors import SettingsError

PATIENCE = 10.0


def test_what_was_used_longest_ago_goes_first():
    cache = BoundedCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert cache.keys() == ["a", "c"]
    assert cache.get("b") is None
    assert cache.get("b", 7) == 7


def test_what_was_put_longest_ago_goes_first_however_often_it_is_used():
    cache = BoundedCache[str, int](2, evict=Evict.OLDEST_PUT)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert cache.keys() == ["b", "c"]
    cache.put("b", 4)
    assert (cache.keys(), cache.values()) == (["c", "b"], [3, 4])


def test_bytes_are_bounded_and_what_alone_is_too_large_is_not_kept():
    cache = BoundedCache[str, int](max_bytes=10)
    for key, n_bytes in (("a", 4), ("b", 4), ("c", 4)):
        cache.put(key, 0, n_bytes=n_bytes)
    assert (cache.keys(), cache.n_bytes) == (["b", "c"], 8)
    cache.put("b", 1, n_bytes=5)
    assert (cache.keys(), cache.n_bytes) == (["c", "b"], 9)
    cache.put("d", 0, n_bytes=11)
    assert (cache.keys(), cache.n_bytes) == ([], 0)


def test_what_was_made_last_stays_however_large():
    cache, made = BoundedCache[str, int](max_bytes=10), []
    for _ in range(2):
        assert cache.get_or_make("a", lambda: made.append(1) or 7, n_bytes_of=lambda value: 99) == 7
    assert made == [1]
    cache.put("b", 8, n_bytes=1)
    assert cache.keys() == ["b"]


def test_what_leaves_is_told_unless_it_was_asked_for():
    gone: list[tuple[str, str]] = []
    cache = BoundedCache[str, str](2, on_evict=lambda key, value: gone.append((key, value)))
    for key in "abc":
        cache.put(key, key.upper())
    assert gone == [("a", "A")]
    cache.put("b", cache.get("b") or "")
    assert gone == [("a", "A")]
    cache.put("b", "other")
    assert gone == [("a", "A"), ("b", "B")]
    assert (cache.pop("b"), cache.pop("b")) == ("other", None)
    assert len(cache) == 1
    cache.clear()
    assert gone == [("a", "A"), ("b", "B"), ("c", "C")]
    assert (len(cache), cache.n_bytes, "c" in cache) == (0, 0, False)


def test_who_is_told_may_use_the_cache():
    cache: BoundedCache[int, int] = BoundedCache(1, on_evict=lambda key, value: seen.append(cache.get(key)))
    seen: list[int | None] = []
    cache.put(1, 1)
    cache.put(2, 2)
    cache.get_or_make(3, lambda: 3)
    assert seen == [None, None]


def test_one_thread_makes_what_several_ask_for_and_others_are_served_meanwhile():
    cache, makers = BoundedCache[str, str](4), []
    begun, go_on = threading.Event(), threading.Event()

    def make():
        makers.append(threading.current_thread())
        begun.set()
        assert go_on.wait(PATIENCE)
        return "slow"

    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.get_or_make("a", make)), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(PATIENCE)
    assert cache.get_or_make("b", lambda: "quick") == "quick"
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert found == ["slow"] * 4
    assert len(makers) == 1


def test_who_waits_for_what_cannot_be_made_makes_it():
    cache = BoundedCache[str, str](4)
    begun, go_on = threading.Event(), threading.Event()

    def fail():
        begun.set()
        assert go_on.wait(PATIENCE)
        raise ValueError("not today")

    failures: list[str] = []

    def first():
        try:
            cache.get_or_make("a", fail)
        except ValueError as error:
            failures.append(str(error))

    found: list[str] = []
    threads = [threading.Thread(target=first, daemon=True)]
    threads[0].start()
    assert begun.wait(PATIENCE)
    threads.append(
        threading.Thread(target=lambda: found.append(cache.get_or_make("a", lambda: "made")), daemon=True)
    )
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert (failures, found, cache.get("a")) == (["not today"], ["made"], "made")


@pytest.mark.parametrize(
    "bounds", [{}, {"max_entries": 0}, {"max_bytes": -1}, {"max_entries": 3, "max_bytes": float("nan")}]
)
def test_a_cache_without_a_bound_is_refused(bounds):
    with pytest.raises(SettingsError, match="positive bound"):
        BoundedCache(**bounds)


@given(
    st.sampled_from(Evict),
    st.integers(1, 4),
    st.integers(1, 12),
    st.lists(st.tuples(st.sampled_from(["put", "get", "pop"]), st.integers(0, 5), st.integers(0, 6))),
)
def test_it_is_an_ordered_dict_that_drops_from_the_front(evict, most, most_bytes, steps):
    cache = BoundedCache[int, int](most, max_bytes=most_bytes, evict=evict)
    expected: OrderedDict[int, int] = OrderedDict()  # bytes, which are the values as well
    for step, key, n_bytes in steps:
        if step == "put":
            cache.put(key, n_bytes, n_bytes=n_bytes)
            expected.pop(key, None)
            expected[key] = n_bytes
            while len(expected) > most or sum(expected.values()) > most_bytes:
                expected.popitem(last=False)
        elif step == "get":
            assert cache.get(key) == expected.get(key)
            if key in expected and evict is Evict.OLDEST_USED:
                expected.move_to_end(key)
        else:
            assert cache.pop(key) == expected.pop(key, None)
        assert (cache.keys(), cache.n_bytes) == (list(expected), sum(expected.values()))
