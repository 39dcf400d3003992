"""SVMs for many labels at once are the SVMs that scikit-learn fits one by one."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.svm import SVC, LinearSVC

from dvfb_stream.errors import SettingsError
from dvfb_stream.models.kernel_head import unit_max
from dvfb_stream.reproduction.linear_svm import fit_linear_svms
from dvfb_stream.training.kernel_svm import fit_kernel_svms


def _problem(seed=0, count=400, length=30, labels=3):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, length)).astype(np.float32)
    truth = features @ rng.normal(size=(length, labels)) + rng.normal(size=(count, labels)) > 1.0
    return features, truth


def test_unit_max_divides_by_the_largest_magnitude():
    np.testing.assert_allclose(unit_max(np.array([[1.0, -4.0], [0.0, 0.0]])), [[0.25, -1.0], [0.0, 0.0]])


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_linear_svms_reach_the_minimum_that_scikit_learn_finds(penalty):
    features, truth = _problem()
    found = fit_linear_svms(features, truth, penalties=[penalty])
    scaled = unit_max(features).astype(np.float64)
    for k in range(truth.shape[1]):
        reference = LinearSVC(C=penalty, tol=1e-10, max_iter=200_000, dual=True).fit(scaled, truth[:, k])

        def objective(w, b, k=k):
            margins = 1 - np.where(truth[:, k], 1, -1) * (scaled @ w + b)
            return 0.5 * (w @ w + b * b) + penalty * np.square(np.maximum(margins, 0)).sum()

        ours = objective(found.weights[:, k].astype(float), float(found.intercepts[k]))
        best = objective(reference.coef_[0], float(reference.intercept_[0]))
        assert ours == pytest.approx(best, rel=1e-4)
        decisions = found.decision_function(features)[:, k]
        assert np.corrcoef(decisions, reference.decision_function(scaled))[0, 1] > 0.999


@pytest.mark.parametrize("length", [50, 600])
@pytest.mark.parametrize("penalty", [1e-3, 0.1, 1.0])
def test_linear_svms_reach_the_minimum_on_features_that_depend_on_each_other(length, penalty):
    """Weak duality bounds the distance from the minimum, whatever found it; 600 features are more than frames."""
    rng = np.random.default_rng(3)
    few = rng.normal(size=(300, 20)) * np.geomspace(10.0, 1e-3, 20)
    features = np.maximum(few @ rng.normal(size=(20, length)) + 1.0, 0.0).astype(np.float32)
    truth = few @ rng.normal(size=(20, 3)) + rng.normal(size=(300, 3)) > 0.0
    found = fit_linear_svms(features, truth, penalties=[penalty])
    x = np.c_[unit_max(features).astype(np.float64), np.ones(300)]
    signs = np.where(truth, 1.0, -1.0)
    w = np.vstack([found.weights, found.intercepts]).astype(np.float64)
    missed = np.maximum(1.0 - signs * (x @ w), 0.0)
    objective = 0.5 * np.square(w).sum(0) + penalty * np.square(missed).sum(0)
    alpha = 2.0 * penalty * missed
    dual = (
        alpha.sum(0) - np.square(alpha).sum(0) / (4 * penalty) - 0.5 * np.square(x.T @ (alpha * signs)).sum(0)
    )
    assert ((objective - dual) / objective).max() < 1e-4


def test_linear_svms_choose_the_penalty_that_ranks_best_in_cross_validation():
    features, truth = _problem(count=150, length=120)
    found = fit_linear_svms(features, truth, penalties=[1e-4, 1e-2, 1.0, 100.0])
    assert found.cross_validated.shape == (4, 3)
    for k, chosen in enumerate(found.choices()):
        row = [1e-4, 1e-2, 1.0, 100.0].index(chosen)
        assert found.cross_validated[row, k] == found.cross_validated[:, k].max()


def test_kernel_svms_are_those_of_a_grid_search():
    features, truth = _problem(seed=1, count=200, length=12, labels=2)
    penalties, gammas = (1.0, 10.0), (0.3, 1.0)
    found = fit_kernel_svms(
        features, truth, penalties=penalties, gammas=gammas, labels=["a", "b"], processes=2
    )
    scaled = unit_max(features)
    squared = np.square(scaled[:, None] - scaled[None]).sum(-1)
    median = np.median(squared[np.triu_indices(len(squared), k=1)])
    others, _ = _problem(seed=2, count=50, length=12)
    for k, label in enumerate(("a", "b")):
        search = GridSearchCV(
            SVC(kernel="rbf"),
            {"C": list(penalties), "gamma": [gamma / median for gamma in gammas]},
            scoring="average_precision",
            cv=StratifiedKFold(3, shuffle=True, random_state=0),
        ).fit(scaled, truth[:, k])
        chosen = found.choices()[label]
        assert chosen["C"] == search.best_params_["C"]
        assert chosen["gamma"] == pytest.approx(search.best_params_["gamma"], rel=1e-4)
        np.testing.assert_allclose(
            found.decision_function(others)[:, k],
            search.decision_function(unit_max(others)),
            atol=1e-3,
        )


def test_too_little_of_a_label_is_refused_by_name():
    features, truth = _problem(count=60)
    truth[:, 1] = False
    truth[0, 1] = True
    with pytest.raises(SettingsError, match="only 1 frames have b"):
        fit_kernel_svms(features, truth, penalties=[1.0], gammas=[1.0], labels=["a", "b", "c"])
    with pytest.raises(SettingsError, match="label 1 has only 1 frames"):
        fit_linear_svms(features, truth, penalties=[1.0])
