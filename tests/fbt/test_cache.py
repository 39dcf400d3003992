"""Plans are kept within a bound of bytes, found again, and built once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dvfb_stream.fbt import FourierBessel, PlanCache


def plan(x=1.0):
    return FourierBessel((32, 32), x, 16.0, radius=32.0, n_radial=5, downsample=1)


def test_the_plan_used_least_recently_goes_first():
    cache = PlanCache(max_bytes=int(plan(1.0).nbytes * 2.5))
    first = cache.get(1, lambda: plan(1.0))
    cache.get(2, lambda: plan(2.0))
    assert cache.get(1, lambda: plan(1.0)) is first
    cache.get(3, lambda: plan(3.0))
    assert len(cache) == 2
    assert cache.nbytes <= cache.max_bytes
    assert cache.get(1, lambda: plan(1.0)) is first


def test_one_plan_is_kept_whatever_the_bound():
    cache = PlanCache(max_bytes=1)
    only = cache.get(1, lambda: plan(1.0))
    assert cache.get(1, lambda: plan(1.0)) is only


@pytest.mark.parametrize(("held", "geometries", "found"), [(10, 12, 0.6), (10, 20, 0.15)])
def test_going_round_more_geometries_than_fit_still_finds_some(held, geometries, found):
    """The least recently used one of a loop is the next one needed: that rule alone would find none."""
    one = plan()
    cache = PlanCache(max_bytes=int(one.nbytes * (held + 0.5)))
    built = []
    for key in list(range(geometries)) * 30:
        cache.get(key, lambda key=key: (built.append(key), plan())[1])
        assert cache.nbytes <= cache.max_bytes
    assert 1 - len(built) / (geometries * 30) > found


def test_threads_that_ask_for_one_plan_build_it_once():
    cache = PlanCache()
    together = threading.Barrier(8)
    built = []

    def build():
        built.append(1)
        return plan()

    def ask(_):
        together.wait()
        return cache.get("same", build)

    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(ask, range(8)))
    assert len(built) == 1
    assert len({id(each) for each in plans}) == 1


def test_one_slow_plan_does_not_hold_up_the_others():
    cache = PlanCache()
    begun, release = threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert release.wait(60)
        return plan()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.get, "slow", slow)
        assert begun.wait(60)
        cache.get("other", plan)  # returns although the slow one is not there yet
        release.set()
        waiting.result(60)
    assert len(cache) == 2


def test_a_build_that_fails_leaves_nothing_behind():
    cache = PlanCache()

    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.get(1, fail)
    assert len(cache) == 0
    assert isinstance(cache.get(1, plan), FourierBessel)


def test_threads_share_a_plan():
    """Eight threads, two types, three penalties at once: what one thread gets alone."""
    images = np.random.default_rng(0).random((4, 32, 32)) * 200
    cases = [(kind, penalty) for kind in (np.float32, np.float64) for penalty in (1e-5, 1e-4, 1e-3)] * 8
    shared = plan()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: shared.estimate(images.astype(case[0]), case[1]), cases))
    for (kind, penalty), coefficients in zip(cases, found, strict=True):
        alone = plan().estimate(images.astype(kind), penalty)
        np.testing.assert_allclose(coefficients, alone, atol=1e-5 * float(alone.abs().max()))
