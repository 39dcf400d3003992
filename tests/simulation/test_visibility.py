"""Labels follow what can be seen, on frames composed by hand around one feature."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.experiment import Experiment, draw_experiment
from dvfb_stream.simulation.components import Component, Feature, FeatureKind, Term
from dvfb_stream.simulation.physics import rings
from dvfb_stream.simulation.visibility import distinct_rings, labels_of

PLAIN = SimulationSettings(gaps=0.0, window=0.0, masked_beamstop=0.0, middle=1.0, binning=1)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """A plain detector with the beam near its middle."""
    return draw_experiment(np.random.default_rng(8), 0, PLAIN)


def maximum(experiment, *, height, radius=50.0, width=5.0, order=0, sharpness=0.6, kind=FeatureKind.RING):
    radial = height * rings.gaussian_peak(experiment.radii, center=radius, fwhm=width)
    angular = (
        rings.angular_profile(experiment.azimuths, order=order, sharpness=sharpness, phase=0.3)
        if order
        else None
    )
    term = Term(radial=radial, angular=angular)
    feature = Feature(kind=kind, term=term, radius=radius, width=width, order=order, textured=True)
    return Component(name="by_hand", parameters={}, terms=(term,), features=(feature,))


def labels(experiment, *components, background=1.0):
    pattern = torch.zeros(len(experiment.azimuths), len(experiment.radii))
    for component in components:
        for term in component.terms:
            angular = torch.ones(len(experiment.azimuths)) if term.angular is None else term.angular
            pattern = pattern + angular[:, None] * term.radial
    image = (experiment.on_pixels(pattern) + background) * experiment.transmission
    return labels_of(components, experiment.in_bins(image), experiment)


def test_a_bright_ring_is_seen_and_a_faint_one_is_not(experiment):
    assert labels(experiment, maximum(experiment, height=3.0)) == ("rings",)
    assert labels(experiment, maximum(experiment, height=0.01)) == ()


def test_a_ring_below_the_grey_step_is_not_seen_however_many_photons_there_are(experiment):
    assert labels(experiment, maximum(experiment, height=1000.0), background=1e5) == ()
    assert labels(experiment, maximum(experiment, height=1000.0), background=1e3) == ("rings",)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (2, ("rings", "symmetry_rings", "two_fold")),
        (4, ("rings", "symmetry_rings", "four_fold")),
        (6, ("rings", "symmetry_rings", "six_fold")),
        (8, ("rings", "symmetry_rings")),
        (20, ("rings", "symmetry_rings")),
    ],
)
def test_the_fold_is_the_exact_order_and_no_other(experiment, order, expected):
    assert labels(experiment, maximum(experiment, height=30.0, order=order)) == expected


def test_a_weak_texture_is_isotropic_to_the_eye(experiment):
    assert labels(experiment, maximum(experiment, height=30.0, order=2, sharpness=0.05)) == ("rings",)


def test_an_oriented_halo_is_a_symmetric_halo_with_its_fold(experiment):
    halo = maximum(experiment, height=30.0, width=25.0, order=4, sharpness=0.3, kind=FeatureKind.HALO)
    assert labels(experiment, halo) == ("halo", "symmetry_halo", "four_fold")


def test_two_rings_of_one_structure_are_higher_orders_and_of_two_structures_are_not(experiment):
    first, second = (maximum(experiment, height=10.0, radius=radius) for radius in (40.0, 80.0))
    both = Component(
        name="both",
        parameters={},
        terms=first.terms + second.terms,
        features=first.features + second.features,
    )
    assert labels(experiment, both) == ("higher_orders", "rings")
    assert labels(experiment, first, second) == ("rings",)


def test_rings_that_run_into_each_other_count_once(experiment):
    close = [maximum(experiment, height=10.0, radius=radius).features[0] for radius in (50.0, 52.0, 90.0)]
    assert distinct_rings(close) == 2


def test_a_quarter_of_the_circle_does_not_tell_two_fold():
    corner = next(
        drawn
        for drawn in (
            draw_experiment(
                np.random.default_rng(seed), 0, SimulationSettings(middle=0.0, gaps=0.0, window=0.0)
            )
            for seed in range(200)
        )
        if max(drawn.geometry.center_x, drawn.geometry.center_y) < 10
    )
    two = labels(corner, maximum(corner, height=100.0, radius=120.0, width=8.0, order=2))
    six = labels(corner, maximum(corner, height=100.0, radius=120.0, width=8.0, order=6))
    assert "rings" in two
    assert "two_fold" not in two
    assert "six_fold" in six


@pytest.mark.parametrize(("radius", "seen"), [(40.0, True), (6.0, False)])
def test_diffuse_scattering_needs_four_hundred_pixels(experiment, radius, seen):
    radial = 200.0 * torch.exp(-0.5 * (experiment.radii / (radius / 2)) ** 2)
    term = Term(radial=radial)
    glow = Component(
        name="glow", parameters={}, terms=(term,), features=(Feature(kind=FeatureKind.LOW_Q, term=term),)
    )
    assert ("diffuse_low_q" in labels(experiment, glow, background=10.0)) is seen


def test_ten_counts_on_four_hundred_pixels_are_the_limit_of_the_diffuse_label(experiment):
    # a flat disk just large enough, on nothing: visible at 12 counts, not at 8
    pixels = experiment.bin_transmission.sum(dim=0).cumsum(dim=0)
    radius = int(torch.nonzero(pixels > 410.0)[0])
    for height, seen in ((12.0, True), (8.0, False)):
        term = Term(radial=torch.where(experiment.radii <= radius, height, 0.0))
        disk = Component(
            name="disk", parameters={}, terms=(term,), features=(Feature(kind=FeatureKind.LOW_Q, term=term),)
        )
        assert ("diffuse_low_q" in labels(experiment, disk, background=0.0)) is seen


def test_flat_intensity_is_background_and_no_diffuse_high_q(experiment):
    for length, seen in ((1.0 / experiment.q_at(50.0), True), (1.0 / experiment.q_at(2.0), False)):
        term = Term(radial=100.0 * (1.0 - torch.exp(-((experiment.q * length) ** 2))))
        rise = Component(
            name="rise", parameters={}, terms=(term,), features=(Feature(kind=FeatureKind.HIGH_Q, term=term),)
        )
        assert ("diffuse_high_q" in labels(experiment, rise)) is seen


def test_a_pattern_is_sampled_where_its_radius_and_azimuth_say(experiment):
    image = experiment.on_pixels(experiment.azimuths.cos()[:, None] * experiment.radii)
    # r cos χ is x
    torch.testing.assert_close(image, experiment.x, atol=0.02, rtol=0.0)
    assert math.isclose(experiment.radius_at(experiment.q_at(77.0)), 77.0, rel_tol=1e-5)
