"""The rule of what is visible, on patterns whose labels anybody would agree on."""

import math

import numpy as np
import pytest

pytest.importorskip("pyFAI", reason="pyFAI is not installed; the extra `evaluate` brings it")

from dvfb_stream.labels import LABELS
from dvfb_stream.reproduction.independent_sets.component import AZIMUTH, AZIMUTHS, Component, textured
from dvfb_stream.reproduction.independent_sets.labelling import labels_of
from dvfb_stream.reproduction.independent_sets.setup import Pose, build
from dvfb_stream.reproduction.independent_sets.visibility import symmetry_order

NONE = math.inf


@pytest.fixture(scope="module")
def setup():
    return build(Pose(detector="perkin", center=(0.5, 0.5), distance=2.0, wavelength=1.0))


@pytest.fixture(scope="module")
def quadrant():
    return build(Pose(detector="perkin", center=(0.0, 0.0), distance=2.0, wavelength=1.0))


def peak(setup, place, relative_width, height=100.0, order=0, strength=1.0):
    sigma = relative_width * place / 2.3548
    profile = height * np.exp(-0.5 * ((setup.q / setup.far - place) / sigma) ** 2)
    around = textured(order, AZIMUTH, strength=strength, phase=0.2) if order else np.ones(AZIMUTHS)
    return around[:, None] * profile


def flat(level):
    return Component(kind="surroundings", table=np.full((AZIMUTHS, 448), level))


def ten(setup, *tables, background=1.0, grains=False):
    components = [Component(kind="correlation", table=table, grains=grains) for table in tables]
    return set(labels_of([*components, flat(background)], setup, speckle_modes=NONE)[0]) & set(LABELS)


def shown(setup, component, background=1.0, fold_rule="diffuse"):
    return set(labels_of([component, flat(background)], setup, speckle_modes=NONE, fold_rule=fold_rule)[0])


def test_a_narrow_maximum_is_a_ring_and_a_broad_one_a_halo(setup):
    assert ten(setup, peak(setup, 0.5, 0.05)) == {"rings"}
    assert ten(setup, peak(setup, 0.5, 0.25)) == {"rings"}
    assert ten(setup, peak(setup, 0.4, 0.5)) == {"halo"}


@pytest.mark.parametrize(("order", "fold"), [(2, "two_fold"), (4, "four_fold"), (6, "six_fold")])
def test_a_texture_gives_its_order_and_no_other(setup, order, fold):
    assert ten(setup, peak(setup, 0.5, 0.1, order=order)) == {"rings", "symmetry_rings", fold}
    assert ten(setup, peak(setup, 0.4, 0.5, order=order)) == {"halo", "symmetry_halo", fold}


def test_an_order_without_a_label_is_a_symmetry_alone(setup):
    assert ten(setup, peak(setup, 0.5, 0.1, order=8)) == {"rings", "symmetry_rings"}


def test_the_order_is_not_known_from_half_a_period(quadrant):
    # A quadrant is half a period of two-fold and a whole one of four-fold.
    assert ten(quadrant, peak(quadrant, 0.5, 0.1, order=2)) == {"rings", "symmetry_rings"}
    assert ten(quadrant, peak(quadrant, 0.5, 0.1, order=4)) == {"rings", "symmetry_rings", "four_fold"}


def test_a_faint_texture_is_isotropic(setup):
    assert ten(setup, peak(setup, 0.5, 0.1, order=4, strength=0.1)) == {"rings"}


def test_two_rings_of_one_structure_are_higher_orders_and_of_two_are_none(setup):
    one, two = peak(setup, 0.3, 0.05), peak(setup, 0.6, 0.025)
    assert ten(setup, one + two) == {"rings", "higher_orders"}
    assert ten(setup, one, two) == {"rings"}


@pytest.mark.parametrize(("height", "visible"), [(20.0, True), (2.0, False)])
def test_a_ring_must_stand_out_from_the_background(setup, height, visible):
    # 20 % and 2 % of it, where 5 % are asked for; photons there are plenty.
    assert ("rings" in ten(setup, peak(setup, 0.5, 0.1, height=height), background=100.0)) == visible


@pytest.mark.parametrize(("height", "visible"), [(0.05, True), (0.0005, False)])
def test_a_ring_must_have_photons(setup, height, visible):
    # On black, a ring of 20,000 pixels: 1000 and 10 photons, where 81 are asked for.
    found = ten(setup, peak(setup, 0.5, 0.1, height=height), background=0.0)
    assert ("rings" in found) == visible


def test_spots_of_grains_are_rings_without_texture(setup):
    spots = np.zeros(AZIMUTHS)
    spots[np.random.default_rng(1).integers(0, AZIMUTHS, 20)] = 20.0
    around = np.convolve(np.tile(spots, 3), np.hanning(7), mode="same")[AZIMUTHS : 2 * AZIMUTHS]
    table = peak(setup, 0.5, 0.1) * around[:, None]
    assert ten(setup, table, grains=True) == {"rings"}


def test_what_falls_from_the_beam_is_low_q_and_what_rises_to_the_edge_high_q(setup):
    share = setup.q / setup.far
    falling, rising = (
        np.tile(p, (AZIMUTHS, 1)) for p in (np.exp(-((share / 0.3) ** 2)), 1 - np.exp(-((share / 0.7) ** 2)))
    )
    assert ten(setup, 50.0 * falling) == {"diffuse_low_q"}
    assert ten(setup, 50.0 * rising) == {"diffuse_high_q"}
    assert ten(setup, np.full((AZIMUTHS, 448), 50.0)) == set()


def test_a_glow_smaller_than_400_pixels_is_none(setup):
    # On a view of 256 x 256, a radius of 11 pixels; the edge of the frame is at about 128.
    glow = np.tile(np.exp(-((setup.q / setup.far / 0.03) ** 2)), (AZIMUTHS, 1))
    assert ten(setup, 5.0 * glow) == set()


def test_stretched_scattering_at_low_q_is_two_fold(setup):
    stretch = np.sqrt(np.cos(AZIMUTH) ** 2 + 4.0 * np.sin(AZIMUTH) ** 2)
    table = 50.0 * np.exp(-((stretch[:, None] * setup.q / setup.far / 0.4) ** 2))
    found, fine = labels_of([Component(kind="diffuse", table=table), flat(1.0)], setup, speckle_modes=NONE)
    assert found == ("diffuse_low_q", "two_fold")
    assert fine == ("low_q_anisotropic",)


def test_a_maximum_that_no_direction_has_is_none(setup):
    # In two quadrants intensity rises, in the others it falls: the mean has a maximum between.
    share = setup.q / setup.far
    rising, falling = np.tanh(4.0 * share), np.exp(-((share / 0.8) ** 6))
    table = np.where((AZIMUTH % math.pi < 0.5 * math.pi)[:, None], rising, falling)
    middle = len(share) // 3
    assert table.mean(axis=0)[middle] > 1.5 * max(table.mean(axis=0)[0], table.mean(axis=0)[-1])
    assert not ten(setup, 50.0 * table) & {"halo", "rings"}


def test_speckles_hide_what_photons_would_show(setup):
    table = peak(setup, 0.4, 0.5, height=0.6)
    components = [Component(kind="correlation", table=table), flat(1.0)]
    assert labels_of(components, setup, speckle_modes=NONE)[0] == ("halo",)
    assert labels_of(components, setup, speckle_modes=1e-3)[0] == ()


def test_rings_have_the_style_that_their_azimuth_shows(setup):
    even, arcs = peak(setup, 0.5, 0.1), peak(setup, 0.5, 0.1, order=4)
    assert shown(setup, Component(kind="powder", table=even)) == {"rings", "rings_isotropic"}
    assert "rings_oriented" in shown(setup, Component(kind="powder", table=arcs))
    spotted = shown(setup, Component(kind="powder", table=arcs, grains=True))
    assert spotted == {"rings", "rings_spotted", "four_fold"}


def fibre(setup, share):
    """Intensity that falls along the radius, stretched two-fold, as a component of small height."""
    falling = np.exp(-setup.q / (0.25 * setup.far))
    return Component(
        kind="diffuse", table=share * textured(2, AZIMUTH, strength=1.5, phase=0.3)[:, None] * falling
    )


def test_a_fold_by_contrast_needs_no_visible_structure(setup):
    # A fifth of what is there at the beam, and less farther out, is below the quarter that diffuse scattering needs.
    faint = fibre(setup, 12.0)
    assert shown(setup, faint, background=100.0) == set()
    assert shown(setup, faint, background=100.0, fold_rule="contrast") == {"two_fold"}


def test_a_fold_by_contrast_is_seen_in_rings_as_well(setup):
    ring = Component(kind="powder", table=peak(setup, 0.5, 0.1, order=6))
    assert shown(setup, ring, fold_rule="contrast") == shown(setup, ring)


def test_what_varies_too_little_or_in_too_few_photons_has_no_fold_by_contrast(setup):
    ring = peak(setup, 0.5, 0.1, order=4)
    weak = Component(kind="powder", table=0.05 * ring)
    assert "four_fold" not in shown(setup, weak, background=1000.0, fold_rule="contrast")
    few = Component(kind="powder", table=1e-5 * ring)
    assert shown(setup, few, background=1e-7, fold_rule="contrast") == set()
    even = Component(kind="powder", table=peak(setup, 0.5, 0.1))
    assert not shown(setup, even, fold_rule="contrast") & {"two_fold", "four_fold", "six_fold"}


def test_a_fold_by_contrast_is_not_known_from_half_a_period(quadrant):
    ring = Component(kind="powder", table=peak(quadrant, 0.5, 0.1, order=2))
    assert "two_fold" not in shown(quadrant, ring, fold_rule="contrast")
    assert "four_fold" in shown(
        quadrant, Component(kind="powder", table=peak(quadrant, 0.5, 0.1, order=4)), fold_rule="contrast"
    )


@pytest.mark.parametrize("order", [2, 3, 4, 5, 6, 8, 9, 10, 12])
def test_the_order_of_a_table_is_found(order):
    table = textured(order, AZIMUTH, strength=2.0, phase=0.1)[:, None] * np.ones(3)
    assert symmetry_order(table) == order
    assert symmetry_order(np.ones((AZIMUTHS, 3))) == 0
    assert symmetry_order(np.eye(AZIMUTHS)[:, :3]) == 1
