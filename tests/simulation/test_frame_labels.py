"""Labels of whole frames follow what is expected in them, on expectations composed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS
from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.circumstances import Circumstances
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.beamline.readout import Readout
from dvfb_stream.simulation.expectation import Expectation
from dvfb_stream.simulation.frame_labels import add_frame_labels
from dvfb_stream.simulation.settings import BY_CONTRAST, BY_DIFFUSE

PLAIN = {
    "detectors": {"plain": {"shape": [256, 256], "pixel_mm": 0.3}},
    **dict.fromkeys(("wide_angle", "tilted", "grazing", "window", "masked_beamstop"), 0.0),
}


@pytest.fixture(scope="module")
def experiment():
    """A plain detector, whose pixels are the view's, with the beam near its middle."""
    return draw_experiment(8, 0, SimulationSettings(**PLAIN, middle=1.0))


def labels(experiment, *, sample=0.0, rest=1.0, shown=(), fold_rule=BY_DIFFUSE, **more):
    """Labels of one frame with so many counts in each pixel of a map of bins."""
    pixels = experiment.bins.pixels[None]
    scattered = pixels * sample
    expectation = Expectation(
        **{
            "total": scattered + pixels * rest,
            "sample": scattered,
            "hidden": None,
            "rods": None,
            "overflowing": torch.zeros_like(pixels, dtype=torch.bool),
            **more,
        }
    )
    before = torch.tensor([[label in shown for label in ALL_LABELS]])
    (found,) = add_frame_labels(before, expectation, experiment, fold_rule=fold_rule).tolist()
    return {label for label, there in zip(ALL_LABELS, found, strict=True) if there}


def even_sample(experiment, detection, rest):
    """The counts in every pixel that have a signal to noise: s √N / √(s + b) solved for s."""
    pixels = float(experiment.bins.pixels.sum()) * experiment.bins.depth
    square = detection**2 / pixels
    return 0.5 * (square + np.sqrt(square**2 + 4.0 * square * rest))


@pytest.mark.parametrize(
    ("detection", "expected"),
    [(8.9, {"empty"}), (9.1, {"weak"}), (63.0, {"weak"}), (63.5, set())],
)
def test_frames_are_empty_or_weak_by_the_signal_to_noise_of_what_the_sample_scatters(
    experiment, detection, expected
):
    for rest in (0.0, 0.02):
        assert labels(experiment, sample=even_sample(experiment, detection, rest), rest=rest) == expected


def test_what_drowns_in_the_grey_levels_does_not_count_however_many_photons_there_are(experiment):
    assert labels(experiment, sample=1e3, rest=1e5) == {"empty"}
    assert labels(experiment, sample=1e4, rest=1e5) == set()


@pytest.mark.parametrize("label", LABELS)
def test_a_frame_that_shows_anything_is_not_empty(experiment, label):
    assert labels(experiment, shown=[label]) == {label}


def test_a_dark_frame_that_was_taken_off_leaves_its_noise_alone(experiment):
    """100 counts of dark signal in each pixel: a sample of 3 drowns in them, but not once they are subtracted."""
    subtracted = replace(
        experiment, circumstances=Circumstances(readout=Readout(pedestal=100.0, subtracted=True))
    )
    assert labels(experiment, sample=3.0, rest=100.0) == {"empty"}
    assert labels(subtracted, sample=3.0, rest=100.0) == set()
    assert labels(subtracted, sample=even_sample(experiment, 8.9, 100.0), rest=100.0) == {"empty"}
    assert labels(subtracted, sample=even_sample(experiment, 9.1, 100.0), rest=100.0) == {"weak"}


@pytest.mark.parametrize(("wanted", "expected"), [(8.0, False), (12.0, True)])
def test_a_frame_is_saturated_from_ten_pixels_on(experiment, wanted, expected):
    pixels = experiment.bins.pixels
    number = torch.cumsum(pixels[:, 60].flatten(), dim=0) <= wanted
    overflowing = torch.zeros_like(pixels, dtype=torch.bool)
    overflowing[:, 60] = number
    found = labels(experiment, sample=10.0, overflowing=overflowing[None])
    assert ("saturated" in found) is expected


@pytest.mark.parametrize(
    ("shift", "shown", "expected"),
    [
        ((2.5, 1.5), "rings", False),
        ((2.5, 2.0), "rings", True),
        ((-4.0, 0.0), "halo", True),
        ((0.0, 30.0), "diffuse_low_q", True),
        ((0.0, 30.0), "diffuse_high_q", False),
        ((0.0, 0.0), "rings", False),
    ],
)
def test_a_wrong_centre_is_told_by_what_lies_around_it(experiment, shift, shown, expected):
    shifted = replace(experiment, circumstances=Circumstances(misalignment=shift))
    assert ("misaligned" in labels(shifted, sample=10.0, shown=[shown])) is expected


def below(experiment, counts, sectors):
    """What a horizon hides: so many counts in each pixel of some sectors."""
    hidden = torch.zeros_like(experiment.bins.pixels)
    hidden[:sectors] = counts * experiment.bins.pixels[:sectors]
    return hidden[None]


def test_half_a_pattern_that_is_hidden_shows_the_horizon(experiment):
    assert "grazing" in labels(experiment, sample=5.0, hidden=below(experiment, 5.0, 36))
    assert "grazing" not in labels(experiment, sample=5.0, hidden=below(experiment, 0.0, 36))
    # Of little light, or against a background, nothing is missed.
    assert "grazing" not in labels(experiment, sample=1e-4, rest=1e-4, hidden=below(experiment, 1e-4, 36))
    assert "grazing" not in labels(experiment, sample=5.0, rest=100.0, hidden=below(experiment, 5.0, 36))


def test_a_yoneda_line_shows_a_surface(experiment):
    assert "grazing" in labels(experiment, sample=20.0, hidden=below(experiment, -10.0, 6))


@pytest.mark.parametrize(
    ("length", "height", "expected"), [(40, 30.0, True), (20, 30.0, False), (40, 0.05, False)]
)
def test_a_rod_shows_a_surface_by_its_size_and_light(experiment, length, height, expected):
    pixels = experiment.bins.pixels
    rods = torch.zeros_like(pixels)
    rows = slice(60, 60 + length)
    # Half of a sector at these radii is two to four pixels wide: take two of each.
    rods[10, rows] = height * pixels[10, rows].clamp(max=2.0)
    share = 2.0 / pixels[10, rows].mean()
    bins = replace(experiment.bins, pixels=pixels.clone())
    bins.pixels[10, rows] *= share
    narrow = replace(experiment, bins=bins)
    found = labels(narrow, sample=0.0, rest=1.0, hidden=torch.zeros_like(pixels)[None], rods=rods[None],
                   total=(bins.pixels + rods)[None])  # fmt: skip
    assert ("grazing" in found) is expected


def test_by_contrast_a_frame_that_shows_a_surface_has_no_fold(experiment):
    hidden = below(experiment, 5.0, 36)
    shown = ["rings", "two_fold", "symmetry_rings"]
    assert "two_fold" in labels(experiment, sample=5.0, hidden=hidden, shown=shown)
    found = labels(experiment, sample=5.0, hidden=hidden, shown=shown, fold_rule=BY_CONTRAST)
    assert found == {"rings", "symmetry_rings", "grazing"}


def test_the_labels_of_structures_are_taken_over(experiment):
    for label in (*LABELS, *FURTHER_LABELS[1:4]):
        assert label in labels(experiment, sample=10.0, shown=[label])
