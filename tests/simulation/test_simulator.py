"""Frames of the simulator: reproducible, counted like photons, and labelled consistently."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Geometry
from dvfb_stream.labels import IMPLICATIONS, LABELS, close_under_implication
from dvfb_stream.simulation import SimulationSettings, Simulator

PAPER = (0.1366, 0.0840, 0.2226, 0.5776, 0.5978, 0.1440, 0.1192, 0.2422, 0.1176, 0.0838)
"""Ratios of positive frames, Table 2."""
SMALL = {"shape": [60, 72], "pixel_mm": 0.5, "module": [28, 72], "gap": [4, 0], "saturation": 5000}
QUIET = {
    "blank": 1.0,
    "diffuse_only": 0.0,
    "streaks": 0.0,
    "zingers": 0.0,
    "window": 0.0,
    "grazing": 0.0,
    "wide_angle": 0.0,
    "tilted": 0.0,
    "background": 1.0,
}
"""Background and beam alone."""


def small(**chosen):
    return SimulationSettings(
        **{"raster": "detector", "detectors": {"small": SMALL}, "frames_per_experiment": 5, **chosen}
    )


@pytest.fixture(scope="module")
def many():
    """Three hundred frames of many experiments."""
    return list(Simulator(20, settings=SimulationSettings(frames_per_experiment=10)).frames(0, 300))


def same(one, other):
    return (
        np.array_equal(one.pixels, other.pixels)
        and one.geometry == other.geometry
        and one.labels == other.labels
        and one.components == other.components
        and one.experiment == other.experiment
    )


@pytest.fixture(scope="module", params=["view", "detector"])
def alone(request):
    """Settings, and their first frames made in one go; three experiments."""
    chosen = (
        SimulationSettings(frames_per_experiment=15)
        if request.param == "view"
        else small(frames_per_experiment=15, exposure=(100.0, 1000.0))
    )
    return chosen, list(Simulator(5, settings=chosen).frames(0, 40))


@pytest.mark.parametrize("size", [1, 3, 7, 64])
def test_a_frame_is_the_same_whatever_is_made_beside_it(alone, size):
    chosen, expected = alone
    batches = list(Simulator(5, settings=chosen).batches(0, 40, size=size))
    assert max(len(batch) for batch in batches) == min(size, 15)
    assert [batch.first for batch in batches] == list(np.cumsum([0, *map(len, batches)])[:-1])
    for one, other in zip((frame for b in batches for frame in b.frames()), expected, strict=True):
        assert same(one, other)


def test_a_frame_is_the_same_in_any_order_with_others_in_between(alone):
    chosen, expected = alone
    simulator = Simulator(5, settings=chosen)
    for index in (39, 0, 22, 16, 15, 14, 0, 38):
        assert same(simulator.frame(index), expected[index])
        simulator.labels(10 * index, 10 * index + 2)
        next(simulator.batches(1000 + index, 2000, size=2))
    for one, other in zip(simulator.frames(11, 20), expected[11:20], strict=True):
        assert same(one, other)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_frame_is_the_same_for_any_number_of_threads(alone, threads):
    chosen, expected = alone
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert all(map(same, Simulator(5, settings=chosen).frames(0, 40), expected))
    finally:
        torch.set_num_threads(before)


def test_labels_alone_are_those_of_the_frames(many):
    labels = Simulator(20, settings=SimulationSettings(frames_per_experiment=10)).labels(0, 300)
    assert labels.shape == (300, 10)
    for row, frame in zip(labels.tolist(), many, strict=True):
        assert tuple(label for label, shown in zip(LABELS, row, strict=True) if shown) == frame.labels


def test_frames_of_an_experiment_share_their_geometry_and_others_do_not():
    frames = list(Simulator(5, settings=SimulationSettings(frames_per_experiment=4)).frames(0, 12))
    assert len({frame.geometry for frame in frames}) == 3
    assert frames[0].geometry == frames[3].geometry != frames[4].geometry
    assert frames[0].experiment == frames[3].experiment != frames[4].experiment


def test_seeds_make_different_frames():
    assert not np.array_equal(Simulator(0).frame(0).pixels, Simulator(1).frame(0).pixels)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**70),
    index=st.integers(0, 2**52),
    shares=st.fixed_dictionaries(
        {name: st.sampled_from([0.0, 1.0]) for name in ("grazing", "tilted", "window")}
    ),
    raster=st.sampled_from(["view", "detector"]),
)
def test_every_frame_is_well_formed(seed, index, shares, raster):
    chosen = small(raster=raster, size=48, **shares, wide_angle=1.0 - shares["grazing"])
    frame = Simulator(seed, settings=chosen).frame(index)
    # sideways or not
    assert frame.pixels.shape == frame.geometry.shape
    assert frame.geometry.shape in (((60, 72), (72, 60)) if raster == "detector" else ((48, 48),))
    assert frame.pixels.dtype == (np.int32 if raster == "detector" else np.float32)
    assert np.isfinite(frame.pixels).all()
    assert frame.pixels.min() >= 0
    assert frame.pixels.max() <= SMALL["saturation"]
    assert close_under_implication(frame.labels) == frame.labels
    if frame.geometry.mask is not None:
        assert not frame.pixels[~frame.geometry.mask].any()
    assert json.loads(json.dumps(frame.components)) == list(frame.components)
    assert json.loads(json.dumps(frame.experiment)) == frame.experiment


def test_labels_imply_what_they_mean(many):
    for frame in many:
        for label, implied in IMPLICATIONS.items():
            assert label not in frame.labels or implied in frame.labels
        if "higher_orders" in frame.labels:
            assert "rings" in frame.labels
        if {"two_fold", "four_fold", "six_fold"}.intersection(frame.labels):
            assert {"rings", "halo", "diffuse_low_q"}.intersection(frame.labels)


CAUSES = {
    "diffuse_low_q": {"low_q", "anisotropic_low_q", "parasitic", "sphere", "fibre"},
    "diffuse_high_q": {"high_q"},
    "halo": {"symmetry_halo", "coherent_halo", "mesostructure", "distorted_lattice", "sphere"},
    "rings": {
        *("symmetry_ring", "symmetry_rings", "sphere", "lattice", "distorted_lattice"),
        *("ad_hoc_rings", "speckled_rings", "fibre"),
    },
}


def test_every_label_has_its_cause_among_the_recorded_components(many):
    assert all(any(label in frame.labels for frame in many) for label in LABELS)
    for frame in many:
        names = {part["name"] for part in frame.components}
        orders = {part.get("order") for part in frame.components}
        for label, causes in CAUSES.items():
            assert label not in frame.labels or names & causes
        for order, label in ((2, "two_fold"), (4, "four_fold"), (6, "six_fold")):
            assert label not in frame.labels or order in orders


def test_labels_are_as_frequent_as_in_the_paper():
    """Table 2 within 0.02 each, on 6,000 frames of 300 experiments."""
    simulator = Simulator(0, settings=SimulationSettings(frames_per_experiment=20))
    found = simulator.labels(0, 6_000).double().mean(dim=0).numpy()
    np.testing.assert_allclose(found, PAPER, atol=0.02)


def test_frames_without_sample_have_no_labels():
    assert not Simulator(3, settings=SimulationSettings(**{**QUIET, "parasitic": 0.0})).labels(0, 300).any()


def test_a_sample_without_structure_shows_diffuse_scattering_and_nothing_else():
    chosen = SimulationSettings(blank=0.0, diffuse_only=1.0, frames_per_experiment=2, exposure=(100.0, 100.0))
    found = Simulator(3, settings=chosen).labels(0, 100).sum(dim=0).tolist()
    assert found[LABELS.index("diffuse_low_q")] > 60
    assert found[LABELS.index("two_fold")] > 5
    assert sum(found) == found[LABELS.index("diffuse_low_q")] + found[LABELS.index("two_fold")]


def test_a_detector_saturates_where_too_much_arrives():
    chosen = small(exposure=(1e5, 1e5), blank=0.0, diffuse_only=0.0, sample=1.0)
    frames = list(Simulator(1, settings=chosen).frames(0, 10))
    assert max(frame.pixels.max() for frame in frames) == SMALL["saturation"]


@pytest.mark.parametrize("raster", ["view", "detector"])
def test_counts_are_means_of_poisson_variables(raster):
    even = {"shape": [512, 512], "pixel_mm": 0.2, "uniformity": 0.0}
    chosen = SimulationSettings(
        **QUIET,
        raster=raster,
        detectors={"even": even},
        exposure=(200.0, 200.0),
        parasitic=0.0,
    )
    simulator = Simulator(0, settings=chosen)
    frame = max(simulator.frames(0, 20), key=lambda frame: float(np.median(frame.pixels)))
    pixels = (
        np.where(frame.geometry.mask, frame.pixels, np.nan)
        if frame.geometry.mask is not None
        else frame.pixels
    )
    side = len(pixels)
    # Differences of neighbours far from the beam are free of slow slopes; their variance is twice a pixel's. A view
    # pixel averages four of the detector's.
    blocks = [
        pixels[a : a + side // 4, b : b + side // 4] for a in (0, 3 * side // 4) for b in (0, 3 * side // 4)
    ]
    ratios = [np.nanvar(np.diff(block, axis=1).astype(float)) / 2 / np.nanmean(block) for block in blocks]
    assert np.median(frame.pixels) > 5
    assert np.median(ratios) * (4 if raster == "view" else 1) == pytest.approx(1.0, abs=0.06)


def test_below_the_horizon_of_a_flat_sample_nothing_is_seen_of_it():
    """Grazing incidence: only one side of the direct beam is lit."""
    chosen = small(
        raster="view",
        grazing=1.0,
        exposure=(500.0, 500.0),
        background=0.0,
        streaks=0.0,
        zingers=0.0,
        middle=1.0,
        window=0.0,
    )
    for frame in Simulator(2, settings=chosen).frames(0, 30):
        described = frame.experiment["grazing_incidence"]
        y, x = np.mgrid[:256, :256]
        height = (x - frame.geometry.center_x) * math.cos(described["normal"]) + (
            y - frame.geometry.center_y
        ) * math.sin(described["normal"])
        stopped = np.hypot(x - frame.geometry.center_x, y - frame.geometry.center_y) < 30
        assert frame.pixels[(height < -2) & ~stopped].mean() < 0.1


OFTEN = (
    "wide_angle",
    "tilted",
    "grazing",
    "sideways",
    "masked_beamstop",
    "window",
    "sample",
    "diffuse",
    "low_q",
)
ALSO = ("anisotropic_low_q", "high_q", "parasitic", "background", "streaks", "zingers")


@pytest.mark.parametrize("raster", ["view", "detector"])
@pytest.mark.parametrize("never", [(), ("grazing",), ("grazing", "window")])
def test_with_everything_at_once_frames_are_well_formed(raster, never):
    """Wide angles and tilts keep away from grazing incidence; so there are samples with and without it."""
    shares = {name: 0.0 if name in never else 1.0 for name in (*OFTEN, *ALSO)}
    chosen = small(raster=raster, size=64, blank=0.0, diffuse_only=0.0, more_structures=3.0, **shares)
    for frame in Simulator(7, settings=chosen).frames(0, 15):
        assert (frame.experiment["grazing_incidence"] is None) == ("grazing" in never)
        assert bool(frame.experiment["rot1"]) == ("grazing" in never)
        assert ("window" in frame.experiment["beamstop"]) == ("window" not in never)
        names = [part["name"] for part in frame.components]
        assert {
            "parasitic",
            "low_q",
            "anisotropic_low_q",
            "high_q",
            "background",
            "slit_streak",
            "zingers",
        } < {*names}
        assert np.isfinite(frame.pixels).all()
        assert 0 <= frame.pixels.min() <= frame.pixels.max() <= SMALL["saturation"]
        assert close_under_implication(frame.labels) == frame.labels
        assert not frame.pixels[~frame.geometry.mask].any()
        json.dumps([frame.components, frame.experiment])


@pytest.mark.parametrize("seed", [-1, 1.5, True, "7"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(SettingsError, match="seed must be an integer, 0 or more, not"):
        Simulator(seed)


def test_there_is_no_frame_before_the_first_nor_after_the_last():
    with pytest.raises(SettingsError, match="there is no frame -1"):
        Simulator().frame(-1)
    with pytest.raises(SettingsError, match="the last of a seed is"):
        next(Simulator().batches(0, 2**54))
    with pytest.raises(SettingsError, match="at least 1 frame, not 0"):
        Simulator().batches(0, 10, size=0)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(SettingsError, match="unknown device 'abacus'"):
        Simulator(device="abacus")


@pytest.mark.gpu
def test_a_gpu_shows_the_same_intensities_and_gives_the_same_labels():
    chosen = SimulationSettings(frames_per_experiment=4, exposure=(500.0, 5000.0))
    here = list(Simulator(1, settings=chosen).frames(0, 24))
    there = list(Simulator(1, settings=chosen, device="cuda").frames(0, 24))
    for one, other in zip(here, there, strict=True):
        assert one.labels == other.labels
        assert one.geometry == other.geometry
        assert isinstance(one.geometry, Geometry)
        assert other.pixels.sum() == pytest.approx(one.pixels.sum(), rel=0.02)


def test_networks_can_be_trained_on_what_is_made():
    batch = next(Simulator(0).batches(0, 4))
    weight = torch.ones(1, requires_grad=True)
    (torch.log1p(batch.pixels) * weight).sum().backward()
    assert weight.grad is not None
