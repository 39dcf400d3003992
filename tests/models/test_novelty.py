"""A novelty that knows what is no scattering, and statistics of views against the same by numpy."""

import numpy as np
import pytest
import torch

from dvfb_stream.models.novelty import (
    STATISTICS,
    Novelty,
    novelty_inputs,
    number_of_statistics,
    statistics_of,
)


def _fitted(seed=0, shift=4.0):
    rng = np.random.default_rng(seed)
    familiar, held_out = rng.normal(size=(2, 4000, 12))
    outliers = rng.normal(size=(1000, 12)) + shift * np.eye(12)[3]
    return Novelty.fit(familiar, outliers, held_out), rng


def test_familiar_frames_are_evenly_spread_and_outliers_beyond_them():
    novelty, rng = _fitted()
    fresh = rng.normal(size=(4000, 12))
    found = novelty.novelty(fresh)
    # A share of held-out frames: uniform for frames like them.
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert np.mean(found < 0.1) == pytest.approx(0.1, abs=0.03)
    assert np.mean(novelty.novelty(fresh + 4 * np.eye(12)[3]) > 0.95) > 0.9
    assert novelty.novelty(fresh[:1] + 1000 * np.eye(12)[3]) == 1.0


def test_features_without_unrest_do_no_harm():
    rng = np.random.default_rng(1)
    familiar, held_out = rng.normal(size=(2, 500, 5))
    familiar[:, 2] = held_out[:, 2] = 7.0
    outliers = rng.normal(size=(200, 5)) + 3
    outliers[:, 2] = 7.0
    novelty = Novelty.fit(familiar, outliers, held_out)
    assert np.isfinite(novelty.novelty(held_out)).all()


def test_it_comes_back_from_its_tensors():
    novelty, rng = _fitted()
    again = Novelty.from_tensors(novelty.tensors())
    fresh = rng.normal(size=(20, 12))
    np.testing.assert_array_equal(again.novelty(fresh), novelty.novelty(fresh))
    with pytest.raises(ValueError, match="needs quantiles of one dimension"):
        Novelty.from_tensors({**novelty.tensors(), "quantiles": torch.zeros(2, 2)})


def test_statistics_are_those_of_the_valid_pixels():
    rng = np.random.default_rng(2)
    images = (rng.random((3, 256, 256)) * 260).astype(np.float32).clip(0, 255)
    images[:, :40] = 0
    masks = rng.random((3, 256, 256)) > 0.3
    images[~masks] = 0
    found = statistics_of(torch.from_numpy(images), torch.from_numpy(masks)).numpy()
    assert found.shape == (3, STATISTICS)
    for image, mask, seen in zip(images, masks, found, strict=True):
        values = image[mask]
        steps = [
            np.abs(np.diff(image, axis=axis))[
                (mask[:, 1:] & mask[:, :-1]) if axis == 1 else (mask[1:] & mask[:-1])
            ].mean()
            + 0.05
            for axis in (1, 0)
        ]
        expected = [
            values.mean() / 50,
            values.std() / 50,
            np.log((values <= 0).mean() + 1e-3),
            np.log((values >= 254).mean() + 1e-3),
            np.log(steps[0] / (values.std() + 0.5)),
            np.log(steps[1] / (values.std() + 0.5)),
            np.log(steps[0] / steps[1]),
        ]
        np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-4)


def test_one_mask_may_stand_for_all():
    rng = np.random.default_rng(3)
    mask = torch.from_numpy(rng.random((1, 256, 256)) > 0.3)
    images = torch.from_numpy(rng.random((5, 256, 256)).astype(np.float32) * 260).clamp(max=255) * mask
    expected = statistics_of(images, mask.expand(5, -1, -1))
    torch.testing.assert_close(statistics_of(images, mask), expected, rtol=0, atol=0)


def test_inputs_are_finite_for_whatever_a_view_may_be():
    images = torch.stack([torch.zeros(256, 256), torch.full((256, 256), 255.0)])
    masks = torch.zeros(2, 256, 256, dtype=torch.bool)
    masks[:, 3, 5] = True
    for invariant in (False, True):
        assert np.isfinite(novelty_inputs(torch.zeros(2, 4), images, masks, invariant=invariant)).all()


def test_invariant_inputs_do_not_change_with_quarter_turns_and_mirror_images():
    rng = np.random.default_rng(4)
    images = torch.from_numpy(rng.gamma(2.0, 30.0, (3, 256, 256)).astype(np.float32).cumsum(axis=2) % 250)
    masks = torch.from_numpy(rng.random((3, 256, 256)) > 0.2)
    hidden = torch.from_numpy(rng.random((3, 5)).astype(np.float32))
    whole = novelty_inputs(hidden, images, masks, invariant=True)
    assert whole.shape == (3, 5 + number_of_statistics(invariant=True))
    plain = novelty_inputs(hidden, images, masks, invariant=False)
    np.testing.assert_allclose(whole[:, 9], plain[:, 9:11].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(whole[:, 10], np.abs(plain[:, 11]), rtol=1e-6)
    for turned in (lambda v: v.rot90(1, (1, 2)), lambda v: v.flip(2), lambda v: v.rot90(3, (1, 2)).flip(1)):
        again = novelty_inputs(hidden, turned(images), turned(masks), invariant=True)
        np.testing.assert_allclose(again, whole, atol=2e-4)
