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

TOLERANCE = 1e-3
"""Norm of a problem's gradient, as a share of that at zero, at which it is solved; LIBLINEAR's is 1e-4 of a looser
measure, and average precisions no longer change."""
MOST_STEPS = 60
"""Of Newton's method; ten or twenty do."""
MOST_PRODUCTS = 40
"""Of conjugate gradients within a step."""


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
    """(penalties, L) mean average precision over folds."""

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
    defaults. All problems share the features, so that a step of Newton's method for all of them is a few matrix
    products.

    Parameters
    ----------
    features
        (N, F), any scale.
    truth
        (N, L).
    penalties
        C to choose from.
    folds
        Of the cross-validation.
    seed
        Of the folds.
    device
        Where to compute.
    report
        Told after each fold and after the last fit.

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
    scaled = unit_max(features)
    x = torch.from_numpy(np.concatenate([scaled, np.ones((len(scaled), 1), np.float32)], axis=1)).to(device)
    y = torch.from_numpy(np.where(truth, 1.0, -1.0).astype(np.float32)).to(device)
    costs = torch.tensor(sorted(penalties), dtype=torch.float32, device=device)
    labels = y.shape[1]
    found = np.zeros((folds, len(costs), labels))
    for fold, (fitted, held_out) in enumerate(KFold(folds, shuffle=True, random_state=seed).split(scaled)):
        rows = torch.from_numpy(fitted).to(device)
        # Columns: every label with the first penalty, then with the second, ...
        w = _solve(x[rows], y[rows].repeat(1, len(costs)), costs.repeat_interleave(labels))
        scores = (x[torch.from_numpy(held_out).to(device)] @ w).cpu().numpy().reshape(-1, len(costs), labels)
        for k in range(labels):
            if truth[held_out, k].any():
                found[fold, :, k] = [
                    average_precision_score(truth[held_out, k], scores[:, c, k]) for c in range(len(costs))
                ]
        report(fold + 1, folds + 1)
    means = found.mean(0)
    chosen = costs[torch.from_numpy(means.argmax(0)).to(device)]
    w = _solve(x, y, chosen).cpu().numpy()
    report(folds + 1, folds + 1)
    return LinearSvms(w[:-1], w[-1], tuple(chosen.cpu().tolist()), means)


def _solve(x: Tensor, y: Tensor, costs: Tensor) -> Tensor:
    """Minimise ½‖w‖² + C Σ max(0, 1 - y x w)² for P problems at once by Newton's method.

    Parameters
    ----------
    x
        (N, F).
    y
        (N, P) of +1 and -1.
    costs
        (P,).

    Returns
    -------
    Tensor
        (F, P).

    References
    ----------
    Keerthi and DeCoste (2005), A modified finite Newton method for fast solution of large scale linear SVMs.
    """
    w = torch.zeros(x.shape[1], y.shape[1], device=x.device)
    first: Tensor | None = None
    for _ in range(MOST_STEPS):
        margins = 1.0 - y * (x @ w)
        active = (margins > 0).to(x.dtype)
        gradient = w - 2.0 * costs * (x.T @ (y * margins * active))
        size = gradient.norm(dim=0)
        first = size if first is None else first
        if bool((size <= TOLERANCE * first).all()):
            break
        direction = _newton_direction(x, active, costs, gradient)
        w = w + _length(x, y, w, direction, costs) * direction
    return w


def _newton_direction(x: Tensor, active: Tensor, costs: Tensor, gradient: Tensor) -> Tensor:
    """Return -(I + 2C Xᵀ D X)⁻¹ g by conjugate gradients, each problem with its own active frames D."""
    direction = torch.zeros_like(gradient)
    residual = -gradient
    search = residual
    square = residual.square().sum(0)
    enough = 0.01 * square
    for _ in range(MOST_PRODUCTS):
        product = search + 2.0 * costs * (x.T @ (active * (x @ search)))
        step = square / (search * product).sum(0).clamp_min(1e-30)
        step = torch.where(square > enough, step, torch.zeros_like(step))
        direction = direction + step * search
        residual = residual - step * product
        after = residual.square().sum(0)
        if bool((after <= enough).all()):
            break
        search = residual + after / square.clamp_min(1e-30) * search
        square = after
    return direction


def _length(x: Tensor, y: Tensor, w: Tensor, direction: Tensor, costs: Tensor) -> Tensor:
    """Return for each problem the longest of 1, ½, ¼, ... that makes its objective smaller."""
    at, along = 1.0 - y * (x @ w), -y * (x @ direction)

    def objective(length: Tensor) -> Tensor:
        weights = w + length * direction
        loss = (at + length * along).clamp_min(0.0).square().sum(0)
        return 0.5 * weights.square().sum(0) + costs * loss

    length = torch.ones_like(costs)
    before = objective(torch.zeros_like(costs))
    for _ in range(20):
        worse = objective(length) > before
        if not bool(worse.any()):
            break
        length = torch.where(worse, 0.5 * length, length)
    return length
