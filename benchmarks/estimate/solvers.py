"""The elastic-net solvers that are compared, each used as well as its public interface allows.

A solver is prepared once for a geometry, which is not timed, and then answers a batch at a tolerance of its own
meaning. Those that start from working pixels are spared the averaging of the images, which ours and plain torch do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, enet_path

from benchmarks.estimate.inputs import Case
from benchmarks.estimate.problem import Array, Minimum, NoFixedPointError, Problem, minimise
from benchmarks.estimate.timing import tolerances
from dvfb_stream.fbt import FourierBessel, PenaltyReading, real_from_complex

MOST_SWEEPS = 1_000_000
"""Of solvers that stop by tolerance."""

FISTA_STEPS = 12
"""Of the plain version: enough for 1e-6 in the per-sample reading, and for nothing in the unit-norm one."""

Solve = Callable[[Problem, float], Array]
"""(B, J) unknowns of a problem at a tolerance."""


def one_by_one(fit: Callable[[Array], Array], problem: Problem) -> Array:
    """Return the answers for all targets, fitted one after the other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.stack([fit(target) for target in problem.targets])


def _scikit_learn_gram(threads: int) -> Solve:

    def solve(problem: Problem, tolerance: float) -> Array:
        solver = ElasticNet(
            alpha=problem.alpha,
            l1_ratio=problem.l1_ratio,
            fit_intercept=False,
            precompute=problem.design.gram,
            copy_X=False,
            tol=tolerance,
            max_iter=MOST_SWEEPS,
        )
        return one_by_one(lambda target: solver.fit(problem.design.columns, target).coef_.copy(), problem)

    return solve


def scikit_learn_batched(threads: int, *, sweeps: int = MOST_SWEEPS) -> Solve:
    """scikit-learn's enet_path, Gram matrix given, all projections one product, frames spread over threads."""

    def solve(problem: Problem, tolerance: float) -> Array:
        projections = problem.targets @ problem.design.columns

        def fit(frame: int) -> Array:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                _, path, _ = enet_path(
                    problem.design.columns,
                    problem.targets[frame],
                    l1_ratio=problem.l1_ratio,
                    alphas=[problem.alpha],
                    precompute=problem.design.gram,
                    Xy=projections[frame],
                    check_input=False,
                    tol=tolerance,
                    max_iter=sweeps,
                )
            answer: Array = path[:, 0]
            return answer

        with ThreadPoolExecutor(threads) as pool:
            return np.stack(list(pool.map(fit, range(len(projections)))))

    return solve


def _celer(threads: int) -> Solve:
    from celer import ElasticNet as CelerElasticNet

    return _of_columns(partial(CelerElasticNet, max_iter=1000))


def _skglm(threads: int) -> Solve:
    from skglm import ElasticNet as SkglmElasticNet

    return _of_columns(SkglmElasticNet)


def _of_columns(make: Callable[..., Any]) -> Solve:
    """Return the solver of an estimator that takes no Gram matrix and keeps a working set of columns."""

    def solve(problem: Problem, tolerance: float) -> Array:
        solver = make(
            alpha=problem.alpha,
            l1_ratio=problem.l1_ratio,
            fit_intercept=False,
            p0=problem.design.columns.shape[1],
            tol=tolerance,
        )
        return one_by_one(lambda target: solver.fit(problem.design.columns, target).coef_.copy(), problem)

    return solve


def _skglm_gram(threads: int) -> Solve:
    from skglm.datafits import QuadraticHessian
    from skglm.penalties import L1_plus_L2
    from skglm.solvers import AndersonCD

    def solve(problem: Problem, tolerance: float) -> Array:
        n, unknowns = problem.design.columns.shape
        solver = AndersonCD(fit_intercept=False, p0=unknowns, tol=tolerance)
        penalty = L1_plus_L2(problem.alpha, problem.l1_ratio)
        slopes = problem.targets @ problem.design.columns / -n
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return np.stack(
                [
                    solver.solve(problem.design.hessian, slope, QuadraticHessian(), penalty)[0]
                    for slope in slopes
                ]
            )

    return solve


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A solver that stops by a tolerance of its own meaning."""

    name: str
    what: str
    make: Callable[[int], Solve]
    """Given the number of threads; ImportError where its package is missing."""
    takes_gram: bool
    """Whether it is spared reading the pixels in each sweep."""


CANDIDATES = (
    Candidate(
        name="scikit_learn_gram",
        what="ElasticNet(precompute=gram).fit of one frame after the other, as its documentation shows",
        make=_scikit_learn_gram,
        takes_gram=True,
    ),
    Candidate(
        name="scikit_learn_gram_batched",
        what="enet_path(precompute=gram, Xy=...): all projections one product, frames spread over the threads",
        make=scikit_learn_batched,
        takes_gram=True,
    ),
    # Working sets of celer and skglm begin with all unknowns: half of them are not zero in the end.
    Candidate(
        name="celer",
        what="celer.ElasticNet, which takes no Gram matrix, one frame after the other",
        make=_celer,
        takes_gram=False,
    ),
    Candidate(
        name="skglm",
        what="skglm.ElasticNet, one frame after the other, compiled beforehand",
        make=_skglm,
        takes_gram=False,
    ),
    Candidate(
        name="skglm_gram",
        what="skglm's AndersonCD on the Hessian: all projections one product, one frame after the other",
        make=_skglm_gram,
        takes_gram=True,
    ),
)


def exact_minimum(problem: Problem, threads: int) -> Minimum:
    """Return the minima, from starts of scikit-learn that draw nearer until Newton's method takes over.

    Raises
    ------
    NoFixedPointError
        When it never does.
    """
    solve = scikit_learn_batched(threads)
    for tolerance in (1e-2, 1e-6, 1e-8):
        try:
            return minimise(problem, solve(problem, tolerance))
        except NoFixedPointError:
            continue
    return minimise(problem, solve(problem, 1e-10))


def loosest_tolerance(
    solve: Solve, problem: Problem, minimum: Minimum, *, excess: float
) -> tuple[float, Array] | None:
    """Return the loosest of `tolerances` at which no frame lies further above its minimum, with its answers.

    Tried on one frame first: where that fails, so do all. None: not even the tightest does.
    """
    one, one_minimum = problem.take(slice(1)), minimum.take(slice(1))
    for tolerance in tolerances():
        if one.excess(solve(one, tolerance), one_minimum) > excess:
            continue
        answers = solve(problem, tolerance)
        if problem.excess(answers, minimum) <= excess:
            return tolerance, answers
    return None


class PlainTorch:
    """What one would write in torch: the unfolded projection and a fixed number of FISTA steps, float32."""

    def __init__(self, case: Case, estimator: FourierBessel, *, penalty: float, l1_ratio: float) -> None:
        device = estimator.device
        basis = estimator.basis()
        gram = basis.T @ basis
        fitted = estimator.fitted_pixels
        n = int(fitted.sum())
        self.basis, self.gram = basis.float(), gram.float()
        self.fitted = torch.from_numpy(np.flatnonzero(fitted)).to(device)
        self.valid = torch.from_numpy(case.mask.astype(np.float32)).to(device)
        self.counts = torch.nn.functional.avg_pool2d(self.valid[None], 2)
        self.l1, self.l2 = penalty * l1_ratio * n, penalty * (1 - l1_ratio) * n
        self.step = 1 / (float(torch.linalg.eigvalsh(gram)[-1]) + self.l2)

    @torch.inference_mode()
    def solve(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, J) coefficients of images (B, H, W)."""
        sums = torch.nn.functional.avg_pool2d(images.to(self.valid.device) * self.valid, 2)
        pixels = (sums / self.counts.clamp_min(1e-6)).flatten(1)[:, self.fitted]
        projections = pixels @ self.basis
        a = point = torch.zeros_like(projections)
        momentum = 1.0
        for _ in range(FISTA_STEPS):
            slope = torch.addmm(projections, point, self.gram, alpha=-1) - self.l2 * point
            following = torch.nn.functional.softshrink(point + self.step * slope, self.step * self.l1)
            next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            point = following + (momentum - 1) / next_momentum * (following - a)
            a, momentum = following, next_momentum
        return a.cpu()


class Ours:
    """`FourierBessel.estimate` on images, a batch at a time."""

    def __init__(self, estimator: FourierBessel, *, reading: PenaltyReading, **settings: Any) -> None:
        self.estimator, self.settings = estimator, {**settings, "reading": reading}

    def estimate(self, images: torch.Tensor, batch: int) -> list[torch.Tensor]:
        """Return the coefficients of each batch."""
        return [self.estimator.estimate(part, **self.settings).cpu() for part in images.split(batch)]

    def coefficients(self, images: torch.Tensor, batch: int) -> NDArray[np.float64]:
        """Return (B, J) coefficients of the real basis."""
        answers = torch.cat(self.estimate(images, batch)).to(torch.complex128)
        return real_from_complex(answers, orders=self.estimator.settings.orders).numpy()
