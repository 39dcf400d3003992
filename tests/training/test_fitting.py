"""The pieces of a fit: schedule, averaged weights, losses, and what the settings refuse."""

import numpy as np
import pytest
import torch

from dvfb_stream.errors import SettingsError
from dvfb_stream.training import FittingSettings
from dvfb_stream.training.fitting import _moving_average, label_loss, rate


def test_the_one_cycle_rises_and_falls():
    rates = [rate("one_cycle", p / 100) for p in range(101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] == pytest.approx(0.1)
    assert rates[-1] < 0.01


def test_steps_decay_twice():
    assert [rate("steps", done) for done in (0.0, 0.59, 0.61, 0.86)] == pytest.approx([1, 1, 0.1, 0.01])


def test_the_loss_is_equation_11():
    """A sum over labels and a mean over frames of the cross entropy, with the sign that makes it positive."""
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(7, 10)), rng.random((7, 10)) < 0.3
    stated = 1 / (1 + np.exp(-logits))
    expected = -np.sum(np.where(truth, np.log(stated), np.log(1 - stated))) / 7
    loss = label_loss(torch.from_numpy(logits), torch.from_numpy(truth).double(), "bce")
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_easy_negatives_cost_nothing_in_the_asymmetric_loss():
    truth = torch.tensor([[1.0, 0.0]])
    sure = label_loss(torch.tensor([[30.0, -4.0]]), truth, "asymmetric")
    assert float(sure) == pytest.approx(0.0, abs=1e-9)
    wrong = label_loss(torch.tensor([[-2.0, -4.0]]), truth, "asymmetric")
    assert float(wrong) == pytest.approx(np.log1p(np.exp(2.0)), rel=1e-6)


def test_the_asymmetric_loss_is_that_of_its_source():
    """Ridnik et al. (2021), equation 7: no focus on positives, a focus of 4 on negatives and a margin of 0.05."""
    rng = np.random.default_rng(1)
    logits, truth = rng.normal(0.0, 2.0, (7, 10)), rng.random((7, 10)) < 0.3
    stated = 1 / (1 + np.exp(-logits))
    shifted = np.maximum(stated - 0.05, 0.0)
    expected = -np.sum(np.where(truth, np.log(stated), shifted**4 * np.log(1 - shifted))) / 7
    loss = label_loss(torch.from_numpy(logits), torch.from_numpy(truth).double(), "asymmetric")
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_the_first_steps_of_an_average_are_their_mean_almost():
    """(1 + n) / (10 + n) of what was is kept after n steps: tensorflow's rule for a young average."""
    update, averaged = _moving_average(0.999), [torch.zeros(1)]
    update(averaged, [torch.ones(1)], torch.tensor(8))
    assert float(averaged[0]) == pytest.approx(0.5)


def test_young_averages_forget_faster():
    update = _moving_average(0.999)
    averaged = [torch.zeros(1)]
    for number in range(200):
        update(averaged, [torch.ones(1)], torch.tensor(number))
    # With 0.999 from the start it would be at 0.18.
    assert float(averaged[0]) > 0.999


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, not 'adam'"),
        ({"loss": "focal"}, "loss must be one of"),
        ({"epochs": 0}, "at least 1 epoch"),
        ({"learning_rate": float("nan")}, "learning_rate must lie from"),
        ({"clip": -1.0}, "clip must lie from 0 to"),
        ({"precision": "half"}, "precision must be one of auto, float32, bfloat16, not 'half'"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        FittingSettings(**wrong)
