"""Threads may share an estimator."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dvfb_stream.fbt import FourierBessel


def estimator():
    return FourierBessel((32, 32), 1.0, 16.0, radius=32.0, n_radial=5, downsample=1)


def test_threads_share_an_estimator():
    """Eight threads, two types, three penalties at once: what one thread gets alone."""
    images = np.random.default_rng(0).random((4, 32, 32)) * 200
    cases = [(kind, penalty) for kind in (np.float32, np.float64) for penalty in (1e-5, 1e-4, 1e-3)] * 8
    shared = estimator()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: shared.estimate(images.astype(case[0]), case[1]), cases))
    for (kind, penalty), coefficients in zip(cases, found, strict=True):
        alone = estimator().estimate(images.astype(kind), penalty)
        np.testing.assert_allclose(coefficients, alone, atol=1e-5 * float(alone.abs().max()))
