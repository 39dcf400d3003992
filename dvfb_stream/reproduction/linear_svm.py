"""Linear SVMs of Table 1, all labels, penalties and folds at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.models.kernel_head import unit_max

TOLERANCE = 1e-5
"""Estimated distance of an objective from its minimum, as a share of itself, at which a problem is solved. Duality
gaps on 10,000 frames of coefficients stay below this at C = 1; at C = 100 they bound the distance by 2.5e-3 only."""
MOST_STEPS = 60
"""Of Newton's method. Five to ten do for the penalties that are chosen; C = 10 on more features than frames, where
problems are separable, takes about thirty."""
MOST_PRODUCTS = 60
"""Of conjugate gradients within a step: a bound for separable problems, whose few active frames the diagonal does not
describe. Their directions are less exact, and Newton's method makes up for it."""
ENOUGH = 0.01
"""Share of the squared residual that conjugate gradients leave: Newton's steps need not be exact to converge."""
LONGEST = 4.0
"""Of a step, in Newton's own length."""
HALVINGS = 24
"""Of `LONGEST`, to the resolution of single precision."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearSvms:
    """One linear SVM a label."""

    weights: NDArray[np.float32]
    """(F, L)."""
    intercepts: NDArray[np.float32]
    """(L,)."""
    penalties: tuple[float, ...]
    """C chosen for each label."""
    cross_validated: NDArray[np.float64]
    """(penalties, L) mean average precision over folds, the penalties ascending."""

    def decision_function(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return signed distances, (M, L), of features, (M, F), as they were before `unit_max`."""
        return np.asarray(unit_max(features) @ self.weights + self.intercepts, dtype=np.float64)

    def choices(self) -> list[float]:
        """Return C of each label, JSON-ready."""
        return list(self.penalties)


def fit_linear_svms(
    features: NDArray[np.floating],
    truth: NDArray[np.bool_],
    *,
    penalties: Sequence[float],
    folds: int = 3,
    seed: int = 0,
    device: str = "cpu",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> LinearSvms:
    """Fit an SVM a label to unit ℓ∞ features, its penalty by cross-validated average precision (section 5.1).

    Each minimises ½‖w‖² + ½b² + C Σ max(0, 1 - y(wx + b))², what scikit-learn's LinearSVC minimises with its
    defaults: the intercept b is penalised like a weight. All labels, penalties and folds share the features, so
    that a step of Newton's method for all of them is a few matrix products.

    Parameters
    ----------
    features
        (N, F), any scale.
    truth
        (N, L).
    penalties
        C to choose from. Where the largest or smallest of them wins, there may be better ones beyond.
    folds
        Of the cross-validation.
    seed
        Of the folds.
    device
        Where to compute.
    report
        Told how many problems are solved, of (folds x penalties + 1) x L.

    Raises
    ------
    SettingsError
        When a label has fewer frames of either kind than there are folds.
    """
    counts = np.minimum(truth.sum(0), (~truth).sum(0))
    if counts.min() < folds:
        raise SettingsError(
            f"label {int(counts.argmin())} has only {int(counts.min())} frames of one kind; "
            f"{folds}-fold cross-validation needs {folds}"
        )
    frames, labels = truth.shape
    ascending = sorted(penalties)
    x, axes = _on_principal_axes(torch.from_numpy(unit_max(features)).to(device))
    y = torch.from_numpy(np.where(truth, 1.0, -1.0).astype(np.float32)).to(device)
    held_out = [rows for _, rows in KFold(folds, shuffle=True, random_state=seed).split(truth)]
    # Frames that a fold holds out cost it nothing: no fold needs a copy of the features.
    shares = torch.ones(frames, folds, labels, device=device)
    for fold, rows in enumerate(held_out):
        shares[torch.from_numpy(rows).to(device), fold] = 0.0
    total = (folds * len(ascending) + 1) * labels
    w = torch.zeros(x.shape[1], folds * labels, device=device)
    scores = np.empty((len(ascending), frames, folds, labels), np.float32)
    for c, penalty in enumerate(ascending):
        # From the minimum of the penalty before, which is near.
        w = _solve(x, y.repeat(1, folds), penalty * shares.flatten(1), w)
        scores[c] = (x @ w).cpu().numpy().reshape(frames, folds, labels)
        report((c + 1) * folds * labels, total)
    found = np.zeros((folds, len(ascending), labels))
    for fold, rows in enumerate(held_out):
        for k in range(labels):
            if truth[rows, k].any():
                found[fold, :, k] = [
                    average_precision_score(truth[rows, k], scores[c, rows, fold, k])
                    for c in range(len(ascending))
                ]
    means = found.mean(0)
    chosen = [ascending[c] for c in means.argmax(0)]
    costs = torch.tensor(chosen, dtype=torch.float32, device=device).repeat(frames, 1)
    weights = (axes @ _solve(x, y, costs, torch.zeros(x.shape[1], labels, device=device))).cpu().numpy()
    report(total, total)
    return LinearSvms(weights[:-1], weights[-1], tuple(chosen), means)


def _on_principal_axes(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return features with a constant 1 after them, (N, F + 1), turned to their principal axes, and the axes.

    A rotation leaves every objective as it is. Features of a frame are far from independent: the largest eigenvalue
    of XᵀX is 1e4 times the median one, and plain conjugate gradients stall. On its axes the Hessian of a problem in
    which most frames are active is nearly diagonal.
    """
    x = torch.nn.functional.pad(features, (0, 1), value=1.0)
    _, axes = torch.linalg.eigh(x.T @ x)
    return x @ axes, axes


def _solve(x: Tensor, y: Tensor, costs: Tensor, start: Tensor) -> Tensor:
    """Minimise ½‖w‖² + Σ C max(0, 1 - y x w)² for P problems at once by Newton's method.

    Parameters
    ----------
    x
        (N, F) on principal axes.
    y
        (N, P) of +1 and -1.
    costs
        (N, P): C of each frame in each problem.
    start
        (F, P): where to begin.

    Returns
    -------
    Tensor
        (F, P).

    References
    ----------
    Keerthi and DeCoste (2005), A modified finite Newton method for fast solution of large scale linear SVMs.
    """
    found = start.clone()
    unsolved = torch.arange(y.shape[1], device=x.device)
    # Mean square along each axis.
    spread = x.square().mean(0)[:, None]
    for _ in range(MOST_STEPS):
        w, signs, prices = found[:, unsolved], y[:, unsolved], costs[:, unsolved]
        margins = 1.0 - signs * (x @ w)
        missed = margins.clamp_min(0.0)
        gradient = w - 2.0 * (x.T @ (prices * signs * missed))
        curvature = 2.0 * prices * (margins > 0)
        direction = _newton_direction(x, curvature, gradient, 1.0 + spread * curvature.sum(0))
        length = _length(w, direction, margins, -signs * (x @ direction), prices)
        found[:, unsolved] = w + length * direction
        # Half of Newton's decrement is about what lay between the objective and its minimum before this step.
        above = -0.5 * (gradient * direction).sum(0)
        unsolved = unsolved[above > TOLERANCE * _objective(w, missed, prices)]
        if len(unsolved) == 0:
            break
    return found


def _newton_direction(x: Tensor, curvature: Tensor, gradient: Tensor, diagonal: Tensor) -> Tensor:
    """Return -(I + Xᵀ D X)⁻¹ g by conjugate gradients preconditioned with a diagonal.

    Parameters
    ----------
    x
        (N, F).
    curvature
        (N, P): D, of each problem its own.
    gradient
        (F, P): g.
    diagonal
        (F, P): about that of the Hessian.
    """
    direction = torch.zeros_like(gradient)
    residual = -gradient
    scaled = residual / diagonal
    search = scaled
    square = (residual * scaled).sum(0)
    enough = ENOUGH * square
    for _ in range(MOST_PRODUCTS):
        product = search + x.T @ (curvature * (x @ search))
        step = square / (search * product).sum(0).clamp_min(1e-30)
        step = torch.where(square > enough, step, torch.zeros_like(step))
        direction = direction + step * search
        residual = residual - step * product
        scaled = residual / diagonal
        after = (residual * scaled).sum(0)
        if bool((after <= enough).all()):
            break
        search = scaled + after / square.clamp_min(1e-30) * search
        square = after
    return direction


def _length(w: Tensor, direction: Tensor, margins: Tensor, along: Tensor, prices: Tensor) -> Tensor:
    """Return how far to go in each problem, (P,), for its smallest objective on that line.

    The derivative along a line only rises, so that halving an interval finds its zero.
    """
    linear, square = (w * direction).sum(0), direction.square().sum(0)
    low = torch.zeros_like(linear)
    high = torch.full_like(linear, LONGEST)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        missed = (margins + middle * along).clamp_min(0.0)
        rising = linear + middle * square + 2.0 * (prices * along * missed).sum(0) > 0
        low, high = torch.where(rising, low, middle), torch.where(rising, middle, high)
    return low


def _objective(w: Tensor, missed: Tensor, prices: Tensor) -> Tensor:
    return 0.5 * w.square().sum(0) + (prices * missed.square()).sum(0)
