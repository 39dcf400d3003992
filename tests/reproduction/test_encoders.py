"""Encoders against NumPy's linear algebra and against the certified estimate."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dvfb_stream.errors import BundleError, FrameError, SettingsError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings, PenaltyReading
from dvfb_stream.fbt.elastic_net import PenalisedFit
from dvfb_stream.reproduction.encoders import (
    EncoderWeights,
    LinearEncoder,
    UnrolledEncoder,
    load_weights,
    save_weights,
)
from dvfb_stream.reproduction.encoders.layers import Layers, for_geometry, step, unroll

READINGS = list(PenaltyReading)

LARGEST_ERROR = {
    (LinearEncoder, PenaltyReading.PER_SAMPLE): 0.05,
    (LinearEncoder, PenaltyReading.UNIT_NORM): 1.0,
    (UnrolledEncoder, PenaltyReading.PER_SAMPLE): 0.005,
    (UnrolledEncoder, PenaltyReading.UNIT_NORM): 0.25,
}
"""‖a - a*‖ / ‖a*‖ on the patterns below: bright, the beam on the image, where docs/encoders.md has all kinds."""


def frames(center_x, center_y, count=4, *, seed=0, size=256):
    """Views of rings, halos and noise, 0..255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    r, phi = np.hypot(x - center_x, y - center_y), np.arctan2(y - center_y, x - center_x)
    images = []
    for _ in range(count):
        radius, width, order = rng.uniform(20, 150), rng.uniform(3, 30), 2 * rng.integers(0, 5)
        counts = 10 ** rng.uniform(1, 4) / (1 + (r / 20) ** 2) + 1
        counts += 10 ** rng.uniform(0, 3) * np.exp(-(((r - radius) / width) ** 2)) * (1 + np.cos(order * phi))
        images.append(255 * np.log1p(rng.poisson(counts)) / np.log(65536))
    return np.stack(images).astype(np.float32)


def plan_and_frames(reading, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(60, 196, 2)
    mask = rng.random((256, 256)) > 0.01
    row = int(rng.integers(0, 250))
    mask[row : row + 5] = False
    settings = FourierBesselSettings(reading=reading, tolerance=1e-4)
    estimator = FourierBessel.from_settings(settings, center_x=x, center_y=y, mask=mask)
    return estimator, frames(x, y, seed=seed)


@pytest.fixture(scope="module", params=READINGS)
def fresh(request):
    """A geometry that no encoder was trained on, per reading."""
    return plan_and_frames(request.param, 1)


def small(reading=PenaltyReading.PER_SAMPLE, **changes):
    settings = FourierBesselSettings(
        view_shape=(48, 48), radius=48.0, n_radial=8, orders=(0, 2), downsample=1, reading=reading, **changes
    )
    return FourierBessel.from_settings(settings, center_x=20.3, center_y=25.1)


def untrained(estimator):
    weights = EncoderWeights(Layers.of_admm(3, n_radial=8, n_orders=2), estimator.settings, {}, "0" * 64)
    return UnrolledEncoder(estimator, weights)


KINDS = {"linear": LinearEncoder, "unrolled": untrained}


@pytest.mark.parametrize("c", [0.0, 0.5])
def test_the_linear_encoder_is_regularised_least_squares(c):
    estimator = small(penalty=1e-3)
    images = frames(20.3, 25.1, size=48).astype(np.float64)
    basis, pixels = estimator.basis().numpy(), estimator.working_pixels(images).numpy()
    ridge = pixels.shape[1] * 1e-3 * (0.2 + c * 0.8)
    expected = np.linalg.solve(basis.T @ basis + ridge * np.eye(basis.shape[1]), basis.T @ pixels.T).T
    found = LinearEncoder(estimator, ridge_of_l1=c).encode(estimator.project(images))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_the_linear_encoder_in_the_unit_norm_reading_is_that_of_scaled_columns():
    estimator = small(PenaltyReading.UNIT_NORM)
    images = frames(20.3, 25.1, size=48).astype(np.float64)
    basis, pixels = estimator.basis().numpy(), estimator.working_pixels(images).numpy()
    norms = np.linalg.norm(basis, axis=0)
    columns, lengths = basis / norms, np.linalg.norm(pixels, axis=1, keepdims=True)
    ridge = 1e-4 * (0.2 + 0.5 * 0.8)
    gram = columns.T @ columns + ridge * np.eye(len(norms))
    expected = np.linalg.solve(gram, columns.T @ (pixels / lengths).T).T * lengths / norms
    found = LinearEncoder(estimator, ridge_of_l1=0.5).encode(estimator.project(images))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_the_linear_encoder_is_the_estimate_where_there_is_no_l1_term():
    estimator = small(l1_ratio=0.0)
    images = frames(20.3, 25.1, size=48)
    exact = estimator.estimate(images)
    np.testing.assert_allclose(
        LinearEncoder(estimator).estimate(images).numpy(), exact.numpy(), atol=1e-4 * float(exact.abs().max())
    )


def test_encoders_are_near_the_estimate_on_a_fresh_geometry(fresh):
    estimator, images = fresh
    exact = estimator.estimate(images)
    for encoder in (LinearEncoder, UnrolledEncoder):
        distance = (encoder(estimator).estimate(images) - exact).abs().square().sum((1, 2)).sqrt()
        error = distance / exact.abs().square().sum((1, 2)).sqrt()
        assert float(error.max()) < LARGEST_ERROR[encoder, estimator.settings.reading], encoder


@pytest.fixture(scope="module", params=[*((kind, reading) for kind in KINDS for reading in READINGS)])
def encoded(request):
    """A small estimator and an encoder of it."""
    kind, reading = request.param
    estimator = small(reading)
    return estimator, KINDS[kind](estimator)


def test_shapes_types_and_errors_are_the_estimates(encoded):
    estimator, encoder = encoded
    images = frames(20.3, 25.1, size=48)
    for batch in (images, images.astype(np.float64), torch.from_numpy(images), images[:1].astype(np.uint8)):
        expected, found = estimator.estimate(batch), encoder.estimate(batch)
        assert (found.shape, found.dtype, found.device) == (expected.shape, expected.dtype, expected.device)
        assert not found.requires_grad
    empty = encoder.estimate(images[:0])
    assert (empty.shape, empty.dtype) == ((0, 8, 2), torch.complex64)
    assert not encoder.estimate(np.zeros_like(images[:1])).abs().any()
    with pytest.raises(FrameError, match="shape"):
        encoder.estimate(images[:, :-1])
    images[0][estimator.fitted_pixels] = np.nan
    with pytest.raises(FrameError, match="not finite"):
        encoder.estimate(images)


def test_the_same_frames_give_the_same_coefficients_alone_or_in_company(encoded):
    _, encoder = encoded
    images = frames(20.3, 25.1, size=48).astype(np.float64)
    first = encoder.estimate(images)
    assert torch.equal(first, encoder.estimate(images))
    torch.testing.assert_close(encoder.estimate(images[2:3])[0], first[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("reading", READINGS)
def test_whatever_the_parameters_the_minimum_stays_where_it_is(reading):
    estimator = small(reading)
    images = frames(20.3, 25.1, size=48).astype(np.float64)
    projections = estimator.project(images)
    best = estimator.solve_projected(projections, estimator.settings.changed(tolerance=1e-14)).coefficients
    problem = PenalisedFit(estimator.gram, estimator.fitted_count, estimator.settings)
    q, lengths = problem.scaled(projections)
    a = problem.in_units_of_the_problem(best, lengths)
    quadratic = problem.quadratic
    pull = q - a @ quadratic.gram - quadratic.l2 * a
    generator = torch.Generator().manual_seed(0)
    layers = Layers(*(torch.randn(1, 8, 2, generator=generator, dtype=torch.float64) for _ in range(4)))
    (layer,) = for_geometry(layers, orders=(0, 2), l1=quadratic.l1, l2=quadratic.l2, largest=1.0)
    hessian = quadratic.gram + torch.diag(quadratic.l2 + layer.curvature)
    subgradient = pull / quadratic.l1
    found = step(
        a, subgradient, q, layer, l1=quadratic.l1, solve=lambda b: torch.linalg.solve(hessian, b.T).T
    )
    for value, expected in zip(found, (a, subgradient), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_untrained_layers_are_the_textbooks_admm():
    """Boyd et al. (2011), section 6.4, over-relaxed, with the ridge in the smooth part; written out in NumPy."""
    estimator = small()
    images = frames(20.3, 25.1, size=48).astype(np.float64)
    q = estimator.project(images).values.numpy()
    quadratic = PenalisedFit(estimator.gram, estimator.fitted_count, estimator.settings).quadratic
    gram, l1, l2 = quadratic.gram.numpy(), quadratic.l1, quadratic.l2
    largest = quadratic.largest_eigenvalue + l2
    rho = np.sqrt(l2 * largest)
    inverse = np.linalg.inv(gram + (l2 + rho) * np.eye(len(gram)))
    z = u = np.zeros_like(q)
    for _ in range(3):
        x = (q + rho * (z - u)) @ inverse
        relaxed = 1.7 * x + (1 - 1.7) * z
        z = np.sign(relaxed + u) * np.maximum(np.abs(relaxed + u) - l1 / rho, 0)
        u = u + relaxed - z
    parts = for_geometry(
        Layers.of_admm(3, n_radial=8, n_orders=2),
        orders=(0, 2),
        l1=l1,
        l2=l2,
        largest=quadratic.largest_eigenvalue,
    )
    parts = [part.to(torch.device("cpu"), torch.float64) for part in parts]
    found = unroll(torch.from_numpy(q), parts, l1=l1, solve=lambda _, b: b @ torch.from_numpy(inverse))[-1]
    np.testing.assert_allclose(found.numpy(), z, rtol=1e-5, atol=1e-6 * np.abs(z).max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"penalty": 1e-3}, "penalty 0.0001, not 0.001"),
        ({"l1_ratio": 0.5}, "l1_ratio 0.8, not 0.5"),
        ({"reading": "unit_norm"}, "reading per_sample, not unit_norm"),
        ({"n_radial": 12}, "n_radial 40, not 12"),
        ({"orders": (0, 2)}, r"orders \(0, 2, .*\), not \(0, 2\)"),
    ],
)
def test_settings_that_were_not_trained_for_are_refused(changes, message):
    settings = FourierBesselSettings(view_shape=(48, 48), radius=48.0, **changes)
    estimator = FourierBessel.from_settings(settings, center_x=20.0, center_y=20.0)
    with pytest.raises(SettingsError, match=f"trained for {message}; use FourierBessel.estimate"):
        UnrolledEncoder(estimator, load_weights(PenaltyReading.PER_SAMPLE))


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(
        path,
        Layers.of_admm(2, n_radial=8, n_orders=2),
        settings=small().settings,
        training={"note": "untrained"},
    )
    return path


def test_weights_come_back_as_they_were_written(weights_file):
    weights = load_weights(weights_file)
    assert weights.settings == small().settings
    assert weights.training == {"note": "untrained"}
    assert len(weights.layers) == 2
    assert torch.equal(weights.layers.relaxation, torch.full((2, 8, 2), 1.7))
    UnrolledEncoder(small(), weights_file).estimate(frames(20.3, 25.1, size=48))


def rewritten(path, tensors=None, **changes):
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path) if tensors is None else tensors, path, metadata={**metadata, **changes})


def test_altered_weights_are_refused(weights_file):
    tensors = load_file(weights_file)
    tensors["threshold"][0, 0, 0] += 1e-6
    rewritten(weights_file, tensors)
    with pytest.raises(BundleError, match="altered"):
        load_weights(weights_file)


def test_weights_whose_settings_were_altered_are_refused(weights_file):
    settings = FourierBesselSettings(penalty=1e-2, n_radial=8, orders=(0, 2)).as_dict()
    rewritten(weights_file, settings=json.dumps(settings))
    with pytest.raises(BundleError, match="altered"):
        load_weights(weights_file)


def test_weights_of_another_format_damaged_or_missing_are_named(weights_file, tmp_path):
    rewritten(weights_file, format="dvfb-unrolled-encoder-9")
    with pytest.raises(BundleError, match="reads 'dvfb-unrolled-encoder-1'"):
        load_weights(weights_file)
    weights_file.write_bytes(weights_file.read_bytes()[:100])
    with pytest.raises(BundleError, match="damaged"):
        load_weights(weights_file)
    with pytest.raises(BundleError, match=r"none\.safetensors"):
        load_weights(tmp_path / "none.safetensors")


def test_weights_of_the_wrong_shape_or_without_a_number_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(BundleError, match=r"shape \(2, 8, 2\)"):
        save_weights(path, Layers.of_admm(2, n_radial=7, n_orders=2), settings=small().settings, training={})
    layers = Layers.of_admm(2, n_radial=8, n_orders=2)
    layers.curvature[0, 0, 0] = torch.nan
    with pytest.raises(BundleError, match="finite"):
        save_weights(path, layers, settings=small().settings, training={})


@pytest.mark.parametrize("changes", [{"penalty": 0.0}, {"ridge_of_l1": -1.0}, {"ridge_of_l1": float("nan")}])
def test_a_linear_encoder_without_a_ridge_is_refused(changes):
    with pytest.raises(SettingsError, match="needs a ridge"):
        LinearEncoder(small(), **changes)


@pytest.mark.parametrize("reading", READINGS)
def test_the_packages_weights_say_what_they_learned_from(reading):
    weights = load_weights(reading)
    assert weights.settings.reading is reading
    assert weights.training["simulator_seeds"] == {"train": 4, "validation": 5}
