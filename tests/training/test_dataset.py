"""Frames are simulated once, kept, resumed, and refused where they are not what was asked for."""

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dvfb_stream import Annotator, Frame
from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings
from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.training import dataset as dataset_module
from dvfb_stream.training.dataset import FreshFrames, SimulatedDataset, build, default_simulation
from dvfb_stream.view import ViewResampler


def test_examples_are_the_views_coefficients_and_labels_of_the_simulators_frames(examples):
    simulator = Simulator(1, settings=default_simulation())
    frames = list(simulator.frames(0, 100))
    place = 0
    for row in range(100):
        if row not in examples.rows:
            continue
        frame = frames[row]
        batch = examples.batch(np.array([place]))
        place += 1
        view = ViewResampler(frame.geometry).view(frame.pixels)
        mask = batch.masks[0].numpy()
        # Frames of an experiment share the pixels that are valid in all of them.
        assert not (mask & ~view.mask).any()
        np.testing.assert_allclose(batch.images[0].numpy()[mask], view.image[mask], atol=0.07)
        assert not batch.images[0].numpy()[~mask].any()
        assert [label for label, shown in zip(LABELS, batch.labels[0], strict=True) if shown] == list(
            frame.labels
        )
    assert place > 80


def test_stored_coefficients_are_the_estimate_of_the_stored_view(examples):
    frame = next(iter(Simulator(1, settings=default_simulation()).frames(int(examples.rows[0]), 1 << 30)))
    batch = examples.batch(np.array([0]))
    view = ViewResampler(frame.geometry).view(frame.pixels)
    plan = FourierBessel.from_settings(
        FourierBesselSettings(),
        shape=(256, 256),
        center_x=view.center_x,
        center_y=view.center_y,
        mask=batch.masks[0].numpy(),
    )
    expected = plan.estimate(view.image[None])[0]
    scale = expected.abs().max()
    assert float((batch.coefficients[0] - expected).abs().max() / scale) < 1e-3


def test_a_network_is_shown_in_training_what_the_annotator_shows_it(examples):
    """The logits of a stored example are those of its frame, up to the float16 of the store."""
    annotator = Annotator.load("default", device="cpu")
    frame = next(iter(Simulator(1, settings=default_simulation()).frames(int(examples.rows[0]), 1 << 30)))
    (annotation,) = annotator.annotate([Frame(frame.pixels, frame.geometry)], keep_coefficients=True)
    stored = examples.batch(np.array([0])).coefficients[0].numpy()
    error = np.abs(annotation.coefficients - stored).max() / np.abs(stored).max()
    assert error < 1e-2


def test_what_is_made_is_not_made_again_and_what_is_missing_is(frames_folder, tmp_path, monkeypatch):
    asked = SimulatedDataset(seed=3, count=200)
    whole = build(frames_folder / "test", asked)
    folder = tmp_path / "frames"
    shutil.copytree(frames_folder / "test", folder)
    images = np.load(folder / "images.npy", mmap_mode="r+")
    images[0] = 7.0  # of the block that is there: it would not survive if that were made again
    images[100:] = 0
    labels = np.load(folder / "labels.npy", mmap_mode="r+")
    labels[100:] = False
    (folder / "made" / "000001").unlink()
    reports = []
    again = build(folder, asked, report=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 2), (2, 2)]
    np.testing.assert_array_equal(again.truth, whole.truth)
    np.testing.assert_array_equal(again.images[1:], whole.images[1:])
    assert (again.images[0] == 7.0).all()
    # Complete: not even a process is started.
    monkeypatch.setattr(dataset_module, "process_pool", None)
    assert len(build(folder, dataclasses.replace(asked, count=100))) <= 100


def test_frames_of_other_settings_or_damaged_ones_are_refused(frames_folder, tmp_path):
    folder = frames_folder / "test"
    with pytest.raises(SettingsError, match="seed 3 instead of 4"):
        build(folder, SimulatedDataset(seed=4, count=100))
    with pytest.raises(SettingsError, match="penalty"):
        build(folder, SimulatedDataset(seed=3, count=100, fbt=FourierBesselSettings(penalty=1e-3)))
    with pytest.raises(SettingsError, match="choose another folder"):
        build(folder, SimulatedDataset(seed=3, count=1000))
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "labels.npy").write_bytes(b"not an array")
    with pytest.raises(SettingsError, match=r"labels\.npy is damaged"):
        build(damaged, SimulatedDataset(seed=3, count=100))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "at least 1 frame must be simulated, not 0"),
        ({"count": 100, "start": 50}, "multiple of 100"),
        ({"count": 100, "simulation": SimulationSettings(raster="detector")}, "views of 256"),
    ],
)
def test_impossible_datasets_are_refused(wrong, message):
    with pytest.raises(SettingsError, match=message):
        SimulatedDataset(seed=0, **wrong)


def test_every_epoch_of_a_stream_has_the_simulators_next_frames(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        stream = FreshFrames(tmp_path, SimulatedDataset(seed=9, count=100), epochs=2, pool=pool)
        first, second = stream.epoch(1).truth.copy(), stream.epoch(2).truth.copy()
        assert not (tmp_path / "epoch-0001").exists()
        assert not (tmp_path / "epoch-0003").exists()
    expected = Simulator(9, settings=default_simulation()).labels(0, 200).numpy()
    assert not np.array_equal(first, second[: len(first)])
    # Frames that no annotator would take are left out.
    assert len(first) <= 100
    for made, frames in ((first, expected[:100]), (second, expected[100:])):
        if len(made) == 100:
            np.testing.assert_array_equal(made, frames)
