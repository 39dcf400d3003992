"""Frames of the simulator: reproducible, counted like photons, and labelled consistently."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import IMPLICATIONS, LABELS, close_under_implication
from dvfb_stream.simulation import SimulationSettings, Simulator

PAPER = (0.1366, 0.0840, 0.2226, 0.5776, 0.5978, 0.1440, 0.1192, 0.2422, 0.1176, 0.0838)
"""Ratios of positive frames, Table 2."""


@pytest.fixture(scope="module")
def many():
    """Six hundred frames of many experiments."""
    simulator = Simulator(20, settings=SimulationSettings(frames_per_experiment=4))
    return list(simulator.frames(0, 600))


def same(one, other):
    return (
        np.array_equal(one.pixels, other.pixels)
        and one.geometry == other.geometry
        and one.labels == other.labels
        and one.components == other.components
    )


def test_a_frame_is_the_same_in_any_order():
    short = SimulationSettings(frames_per_experiment=3)
    forward = list(Simulator(4, settings=short).frames(0, 20))
    backward = Simulator(4, settings=short)
    for index in reversed(range(20)):
        assert same(backward.frame(index), forward[index])


def test_frames_of_an_experiment_share_their_geometry_and_others_do_not():
    frames = list(Simulator(5, settings=SimulationSettings(frames_per_experiment=4)).frames(0, 12))
    assert len({frame.geometry for frame in frames}) == 3
    assert frames[0].geometry == frames[3].geometry != frames[4].geometry


def test_seeds_make_different_frames():
    assert not np.array_equal(Simulator(0).frame(0).pixels, Simulator(1).frame(0).pixels)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**63), index=st.integers(0, 2**40))
def test_every_frame_is_well_formed(seed, index):
    frame = Simulator(seed, settings=SimulationSettings(frames_per_experiment=2, size=128)).frame(index)
    assert frame.pixels.shape == frame.geometry.shape == (128, 128)
    assert frame.pixels.dtype == np.float32
    assert np.isfinite(frame.pixels).all()
    assert frame.pixels.min() >= 0
    assert frame.pixels.max() < 2**16
    assert close_under_implication(frame.labels) == frame.labels
    if frame.geometry.mask is not None:
        assert not frame.pixels[~frame.geometry.mask].any()
    assert json.loads(json.dumps(frame.components)) == list(frame.components)


def test_labels_imply_what_they_mean(many):
    for frame in many:
        for label, implied in IMPLICATIONS.items():
            assert label not in frame.labels or implied in frame.labels
        if "higher_orders" in frame.labels:
            assert "rings" in frame.labels
        if {"two_fold", "four_fold", "six_fold"}.intersection(frame.labels):
            assert {"rings", "halo", "diffuse_low_q"}.intersection(frame.labels)


def test_a_fold_comes_from_a_component_of_that_order(many):
    for frame in many:
        orders = {part.get("order") for part in frame.components}
        if any(part["name"] == "anisotropic_low_q" for part in frame.components):
            orders.add(2)
        for order, label in ((2, "two_fold"), (4, "four_fold"), (6, "six_fold")):
            assert label not in frame.labels or order in orders


def test_all_labels_occur_about_as_often_as_in_the_paper(many):
    counts = Counter(label for frame in many for label in frame.labels)
    for label, ratio in zip(LABELS, PAPER, strict=True):
        # Four standard deviations of 600 frames, besides the 0.05 that the mixture is tuned to.
        assert counts[label] / len(many) == pytest.approx(ratio, abs=0.05 + 4 * math.sqrt(ratio / len(many)))
        assert counts[label] > 10


def test_frames_without_sample_have_no_labels():
    empty = Simulator(3, settings=SimulationSettings(blank=1.0, diffuse_only=0.0))
    assert all(frame.labels == () for frame in empty.frames(0, 10))


def test_a_sample_without_structure_shows_diffuse_scattering_and_nothing_else():
    simulator = Simulator(
        3,
        settings=SimulationSettings(
            blank=0.0, diffuse_only=1.0, frames_per_experiment=2, exposure=(100.0, 100.0)
        ),
    )
    found = Counter(label for frame in simulator.frames(0, 40) for label in frame.labels)
    assert set(found) <= {"diffuse_low_q", "two_fold"}
    assert found["diffuse_low_q"] > 25


def test_exposures_span_decades(many):
    typical = [np.mean(frame.pixels) for frame in many]
    assert np.percentile(typical, 10) < 2
    assert np.percentile(typical, 90) > 200


@pytest.mark.parametrize("binning", [1, 4, 16])
def test_counts_are_means_of_poisson_variables(binning):
    quiet = SimulationSettings(
        binning=binning,
        blank=1.0,
        diffuse_only=0.0,
        background=1.0,
        streaks=0.0,
        zingers=0.0,
        gaps=0.0,
        window=0.0,
        exposure=(200.0, 200.0),
    )
    seed = next(  # a frame whose background is bright enough to tell the noise of a count from nothing
        seed for seed in range(50) if np.median(Simulator(seed, settings=quiet).frame(0).pixels) > 20
    )
    frame = Simulator(seed, settings=quiet).frame(0)
    pixels = frame.pixels.astype(float)
    if frame.geometry.mask is not None:
        pixels[~frame.geometry.mask] = np.nan
    # Differences of neighbours far from the beam are free of the slow slope; their variance is twice a pixel's.
    blocks = [pixels[a : a + 60, b : b + 60] for a in (0, 190) for b in (0, 190)]
    ratios = [np.nanvar(np.diff(block, axis=1)) / 2 / np.nanmean(block) for block in blocks]
    assert np.median(ratios) * binning == pytest.approx(1.0, abs=0.1)


def test_binning_one_gives_integer_counts():
    assert Simulator(0, settings=SimulationSettings(binning=1)).frame(0).pixels.dtype == np.int32


@pytest.mark.parametrize("size", [64, 300])
def test_other_sizes_show_the_same_field(size):
    frame = Simulator(0, settings=SimulationSettings(size=size)).frame(3)
    reference = Simulator(0, settings=SimulationSettings()).frame(3)
    assert frame.pixels.shape == (size, size)
    assert frame.geometry.center_x / size == pytest.approx(reference.geometry.center_x / 256)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "7"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(SettingsError, match="seed must be an integer, 0 or more, not"):
        Simulator(seed)


def test_there_is_no_frame_before_the_first():
    with pytest.raises(SettingsError, match="there is no frame -1"):
        Simulator().frame(-1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 16}, "size must be an integer from 32 to 2048, not 16"),
        ({"size": 256.0}, "size must be an integer from 32 to 2048, not 256.0"),
        ({"frames_per_experiment": 0}, "frames_per_experiment must be an integer from 1"),
        ({"binning": 2}, "binning must be one of 1, 4, 9, 16, or None to draw it, not 2"),
        ({"exposure": (10.0, 1.0)}, "exposure must be .lowest, highest. counts a pixel"),
        ({"exposure": (0.0, 1.0)}, "exposure must be .lowest, highest. counts a pixel"),
        ({"exposure": (math.nan, 1.0)}, "exposure must be .lowest, highest. counts a pixel"),
        ({"gaps": 1.5}, "gaps is a share and must lie from 0 to 1, not 1.5"),
        ({"sample": math.nan}, "sample is a share and must lie from 0 to 1, not nan"),
        ({"blank": 0.6, "diffuse_only": 0.6}, "add up to 1.2; lower one"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_value_and_the_cure(wrong, message):
    with pytest.raises(SettingsError, match=message):
        SimulationSettings(**wrong)
