"""Training an unrolled encoder, in small: it learns, it resumes, it refuses what cannot end well."""

import dataclasses

import pytest
import torch

from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings
from dvfb_stream.fbt.elastic_net import PenalisedFit, certify
from dvfb_stream.reproduction.encoder_training import EncoderFittingSettings, EncoderRecipe, train
from dvfb_stream.reproduction.encoder_training.__main__ import main
from dvfb_stream.reproduction.encoder_training.fitting import RidgeSolve, measure
from dvfb_stream.reproduction.encoder_training.problems import build, solve
from dvfb_stream.reproduction.encoders import UnrolledEncoder, load_weights
from dvfb_stream.reproduction.encoders.layers import Layers

SETTINGS = FourierBesselSettings(n_radial=6, orders=(0, 2), downsample=4, reading="unit_norm")
RECIPE = EncoderRecipe(
    fbt=SETTINGS,
    train_geometries=4,
    validation_geometries=2,
    frames=4,
    fitting=EncoderFittingSettings(layers=2, epochs=6),
)


class InterruptedFitError(Exception):
    pass


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def weights(work):
    """Trained with an interruption after the second epoch."""

    def interrupt(line):
        if line.startswith("epoch 2"):
            raise InterruptedFitError

    path = work / "weights.safetensors"
    with pytest.raises(InterruptedFitError):
        train(RECIPE, work=work, weights=path, say=interrupt)
    return train(RECIPE, work=work, weights=path)


def test_training_beats_the_solver_stopped_after_as_many_products(weights, work):
    problems = build(work / "validation", seed=5, geometries=2, frames=4, settings=SETTINGS)
    untrained = measure(Layers.of_admm(2, n_radial=6, n_orders=2), problems, SETTINGS.orders)
    trained = measure(weights.layers, problems, SETTINGS.orders)
    assert trained == pytest.approx(weights.training["history"][-1]["validation"], rel=1e-3)
    for name, value in trained.items():
        assert value < 0.5 * untrained[name]
    losses = [epoch["loss"] for epoch in weights.training["history"]]
    assert losses[-1] < losses[0]


def test_an_interrupted_fit_ends_with_the_weights_of_an_uninterrupted_one(weights, work, tmp_path):
    for which in ("train", "validation"):
        (tmp_path / which).symlink_to(work / which)
    again = train(RECIPE, work=tmp_path, weights=tmp_path / "weights.safetensors")
    for name, value in again.layers.parameters().items():
        assert torch.equal(value, weights.layers.parameters()[name])


def test_trained_weights_are_used_by_the_encoder_and_bound_to_their_settings(weights, work):
    estimator = FourierBessel.from_settings(SETTINGS, center_x=100.0, center_y=120.0)
    found = UnrolledEncoder(estimator, work / "weights.safetensors").estimate(torch.rand(3, 256, 256))
    assert found.shape == (3, 6, 2)
    assert load_weights(work / "weights.safetensors").sha256 == weights.sha256
    other = FourierBessel.from_settings(SETTINGS.changed(penalty=1e-3), center_x=100.0, center_y=120.0)
    with pytest.raises(SettingsError, match=r"penalty 0\.0001, not 0\.001"):
        UnrolledEncoder(other, weights)


@pytest.mark.parametrize("reading", ["per_sample", "unit_norm"])
def test_the_excess_is_the_difference_of_objectives(reading):
    settings = SETTINGS.changed(reading=reading)
    estimator = FourierBessel.from_settings(settings, center_x=100.0, center_y=120.0)
    projections = estimator.project(
        torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0)).double()
    )
    solved = solve(estimator, projections, settings)
    quadratic = PenalisedFit(estimator.gram, estimator.fitted_count, settings).quadratic
    lengths = 1.0 if reading == "per_sample" else projections.energies.sqrt()[:, None]
    energies = projections.energies / torch.as_tensor(lengths).reshape(-1).square()
    for a in (torch.zeros_like(solved.minimum), solved.minimum + 0.1 * solved.minimum.abs().mean()):
        objective = certify(a, quadratic, solved.projections, energies).objective
        best = certify(solved.minimum, quadratic, solved.projections, energies).objective
        assert solved.objective.numpy() == pytest.approx(best.numpy(), rel=1e-9)
        assert solved.excess(a).numpy() == pytest.approx((objective / best - 1).numpy(), rel=1e-3)


def test_the_derivatives_of_a_layers_solution_are_those_of_differences():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    curvature = torch.rand(6, generator=generator, dtype=torch.float64).requires_grad_()
    right = torch.randn(3, 6, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda r, b: RidgeSolve.apply(root @ root.T, r, b), (curvature, right))


def test_a_checkpoint_of_another_fit_and_a_damaged_one_are_refused(weights, work, tmp_path):
    other = dataclasses.replace(RECIPE, fitting=EncoderFittingSettings(layers=3, epochs=6))
    with pytest.raises(BundleError, match="belongs to a fit"):
        train(other, work=work, weights=tmp_path / "weights.safetensors")
    for which in ("train", "validation"):
        (tmp_path / which).symlink_to(work / which)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(BundleError, match="damaged"):
        train(RECIPE, work=tmp_path, weights=tmp_path / "weights.safetensors")


def test_stored_problems_of_other_settings_or_damaged_are_refused(weights, work, tmp_path):
    with pytest.raises(SettingsError, match="was simulated with"):
        build(work / "validation", seed=6, geometries=2, frames=4, settings=SETTINGS)
    (tmp_path / "00000.safetensors").write_bytes(b"nothing")
    with pytest.raises(SettingsError, match="damaged"):
        build(tmp_path, seed=5, geometries=1, frames=4, settings=SETTINGS)


def test_what_cannot_end_well_is_refused_at_the_start(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    required = ["--work", str(tmp_path / "work"), "--weights"]
    assert main([*required, str(tmp_path / "file" / "weights.safetensors")]) == 1
    assert not (tmp_path / "work").exists()
    assert main([*required, str(tmp_path / "w.safetensors"), "--layers", "0"]) == 1
    assert "at least 1 layer" in capsys.readouterr().err
    assert main([*required, str(tmp_path / "w.safetensors"), "--frames", "0"]) == 1
    assert "must be at least 1" in capsys.readouterr().err
    lasso = dataclasses.replace(RECIPE, fbt=SETTINGS.changed(l1_ratio=0.0))
    with pytest.raises(SettingsError, match="nothing to learn"):
        train(lasso, work=tmp_path / "work", weights=tmp_path / "w.safetensors")
