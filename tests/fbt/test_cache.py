"""Plans are kept within a bound of bytes."""

from dvfb_stream.fbt import FourierBessel, PlanCache


def plan(x):
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
