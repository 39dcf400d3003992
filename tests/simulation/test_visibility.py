"""Labels follow what can be seen, on frames composed by hand around one feature."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvfb_stream.labels import ALL_LABELS, IMPLICATIONS, LABELS
from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.beamline.raster import SECTORS
from dvfb_stream.simulation.components import Diffuse, Drawn, Maxima, Pattern, Terms, oriented, peaks
from dvfb_stream.simulation.rendering import BinnedEvaluation, Evaluation
from dvfb_stream.simulation.settings import BY_CONTRAST, BY_DIFFUSE
from dvfb_stream.simulation.visibility import labels_of

PLAIN = {
    "detectors": {"plain": {"shape": [256, 256], "pixel_mm": 0.3}},
    "wide_angle": 0.0,
    "tilted": 0.0,
    "grazing": 0.0,
    "window": 0.0,
    "masked_beamstop": 0.0,
}


@pytest.fixture(scope="module")
def experiment():
    """A plain detector, whose pixels are the view's, with the beam near its middle."""
    return draw_experiment(8, 0, SimulationSettings(**PLAIN, middle=1.0))


def column(value, count):
    return np.broadcast_to(np.asarray(value, dtype=float), (count,)).copy()


def maxima(
    *, height, radius=50.0, width=5.0, order=0, sharpness=0.6, phase=0.3, frame=0, structure=0, textured=True
):
    """Rings or haloes, one for each of what is given in lists."""
    given_values = (height, radius, width, order, sharpness, phase, frame, structure)
    count = max(np.size(value) for value in given_values)
    height, radius, width, order, sharpness, phase, frame, structure = (
        column(v, count) for v in given_values
    )
    order = order.astype(np.int64)
    terms = Terms(
        frame=frame.astype(np.int64),
        radial=peaks(radius, width, height),
        angular=oriented(order, sharpness, phase),
    )
    return Maxima(
        terms=terms,
        structure=structure.astype(np.int64),
        radius=radius,
        width=width,
        order=order,
        textured=np.full(count, textured),
    )


def stretched(height, *, aspect=3.0, phase=0.4, frame=0, size=25.0):
    """A Gaussian glow, wider along `phase`; a row for each of `height` and `frame`."""
    height, frame = np.atleast_1d(np.asarray(height, dtype=float)), np.atleast_1d(frame)

    def full(table):
        along = torch.cos(table.azimuths - phase)[:, None] ** 2
        squared = (table.radii / size) ** 2 * (along / aspect + aspect * (1.0 - along))
        return torch.from_numpy(height)[:, None, None] * torch.exp(-0.5 * squared)

    return Diffuse(intensity=Pattern(frame=frame, full=full), rises=False, order=2)


def diffuse(radial, *, rises=False):
    return Diffuse(intensity=Terms(frame=np.zeros(1, dtype=np.int64), radial=radial), rises=rises)


STYLES = ("rings_isotropic", "rings_oriented", "rings_spotted")


def all_labels(
    experiment, *parts, background=1.0, frames=1, fold_rule=BY_DIFFUSE, taken_off=0.0, known=LABELS
):
    drawn = Drawn()
    for part in parts:
        if isinstance(part, Maxima):
            drawn.maxima.append(part)
            drawn.terms.append(part.terms)
        else:
            drawn.diffuse.append(part)
            (drawn.patterns if isinstance(part.intensity, Pattern) else drawn.terms).append(part.intensity)
    binned = BinnedEvaluation(Evaluation(experiment.view_table), experiment.bins)
    total = (binned.total(drawn.terms, drawn.patterns, frames) + background) * experiment.bins.seen
    found = labels_of(drawn, total, binned, fold_rule=fold_rule, taken_off=taken_off)
    rows = [dict(zip(ALL_LABELS, row, strict=True)) for row in found.tolist()]
    return [tuple(label for label in known if row[label]) for row in rows]


def labels(experiment, *parts, **chosen):
    return all_labels(experiment, *parts, **chosen)[0]


def test_a_bright_ring_is_seen_and_a_faint_one_is_not(experiment):
    assert labels(experiment, maxima(height=3.0)) == ("rings",)
    assert labels(experiment, maxima(height=0.01)) == ()
    assert labels(experiment, maxima(height=0.0), background=0.0) == ()


def test_a_ring_below_the_grey_step_is_not_seen_however_many_photons_there_are(experiment):
    assert labels(experiment, maxima(height=1000.0), background=1e5) == ()
    assert labels(experiment, maxima(height=1000.0), background=1e3) == ("rings",)


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
    assert labels(experiment, maxima(height=30.0, order=order)) == expected


def test_spots_of_single_grains_are_no_texture_but_have_their_fold(experiment):
    spotted = maxima(height=30.0, order=6, textured=False)
    assert labels(experiment, spotted) == ("rings", "six_fold")


def test_a_frame_may_have_several_folds(experiment):
    mixed = maxima(height=30.0, radius=[30.0, 90.0], width=[15.0, 4.0], order=[2, 6], structure=[0, 1])
    assert labels(experiment, mixed) == (
        *("halo", "rings", "symmetry_halo", "symmetry_rings"),
        *("two_fold", "six_fold"),
    )


def test_a_stretched_glow_is_diffuse_and_two_fold_and_a_round_one_is_not(experiment):
    assert labels(experiment, stretched(300.0)) == ("diffuse_low_q", "two_fold")
    assert labels(experiment, stretched(300.0, aspect=1.0)) == ("diffuse_low_q",)
    assert labels(experiment, stretched(0.01)) == ()


def test_a_weak_texture_is_isotropic_to_the_eye(experiment):
    assert labels(experiment, maxima(height=30.0, order=2, sharpness=0.05)) == ("rings",)


def test_an_oriented_halo_is_a_symmetric_halo_with_its_fold(experiment):
    halo = maxima(height=30.0, width=25.0, order=4, sharpness=0.3)
    assert labels(experiment, halo) == ("halo", "symmetry_halo", "four_fold")


def test_two_rings_of_one_structure_are_higher_orders_and_of_two_structures_are_not(experiment):
    of_one = maxima(height=10.0, radius=[40.0, 80.0])
    of_two = maxima(height=10.0, radius=[40.0, 80.0], structure=[0, 1])
    assert labels(experiment, of_one) == ("higher_orders", "rings")
    assert labels(experiment, of_two) == ("rings",)


def test_rings_that_run_into_each_other_count_once(experiment):
    assert labels(experiment, maxima(height=10.0, radius=[50.0, 54.0])) == ("rings",)
    assert labels(experiment, maxima(height=10.0, radius=[50.0, 54.0, 90.0])) == ("higher_orders", "rings")


def test_a_quarter_of_the_circle_does_not_tell_two_fold():
    chosen = SimulationSettings(**PLAIN, middle=0.0)
    corner = next(
        drawn
        for drawn in (draw_experiment(seed, 0, chosen) for seed in range(2000))
        if max(drawn.raster.geometry.center_x, drawn.raster.geometry.center_y) < 20
    )
    two = labels(corner, maxima(height=100.0, radius=120.0, width=8.0, order=2))
    six = labels(corner, maxima(height=100.0, radius=120.0, width=8.0, order=6))
    assert "rings" in two
    assert "two_fold" not in two
    assert "six_fold" in six


@pytest.mark.parametrize(("radius", "seen"), [(40.0, True), (6.0, False)])
def test_diffuse_scattering_needs_four_hundred_pixels(experiment, radius, seen):
    glow = diffuse(lambda table: 200.0 * torch.exp(-0.5 * (table.radii / (radius / 2)) ** 2)[None])
    assert ("diffuse_low_q" in labels(experiment, glow, background=10.0)) is seen


def test_ten_counts_on_four_hundred_pixels_are_the_limit_of_the_diffuse_label(experiment):
    # a flat disk just large enough, on nothing: visible at 12 counts, not at 8
    pixels = experiment.bins.seen.sum(dim=0).cumsum(dim=0)
    radius = int(torch.nonzero(pixels > 410.0)[0])
    for height, seen in ((12.0, True), (8.0, False)):
        disk = diffuse(
            lambda table, height=height: torch.where(table.radii <= radius, height, 0.0).double()[None]
        )
        assert ("diffuse_low_q" in labels(experiment, disk, background=0.0)) is seen


def test_flat_intensity_is_background_and_no_diffuse_high_q(experiment):
    for length, seen in ((1.0 / experiment.q_at(50.0), True), (1.0 / experiment.q_at(2.0), False)):
        rise = diffuse(
            lambda table, length=length: 100.0 * (1.0 - torch.exp(-((table.q * length) ** 2)))[None],
            rises=True,
        )
        assert ("diffuse_high_q" in labels(experiment, rise)) is seen


ring = st.fixed_dictionaries(
    {
        "height": st.floats(0.01, 300.0),
        "radius": st.floats(15.0, 100.0),
        "width": st.floats(1.5, 40.0),
        "order": st.sampled_from([0, 2, 4, 6, 8, 12]),
        "sharpness": st.floats(0.02, 0.95),
        "phase": st.floats(0.0, 6.3),
    }
)


def together(rings, **more):
    return maxima(**{key: [one[key] for one in rings] for key in rings[0]}, **more)


@settings(max_examples=60, deadline=None)
@given(rings=st.lists(ring, min_size=1, max_size=5), background=st.floats(0.0, 100.0))
def test_rules_hold_for_any_rings_and_haloes(experiment, rings, background):
    found = labels(experiment, together(rings), background=background)
    for label, implied in IMPLICATIONS.items():
        assert label not in found or implied in found
    assert "higher_orders" not in found or "rings" in found
    orders = {one["order"] for one in rings}
    for order, label in ((2, "two_fold"), (4, "four_fold"), (6, "six_fold")):
        assert label not in found or order in orders


@settings(max_examples=40, deadline=None)
@given(rings=st.lists(ring, min_size=2, max_size=5))
def test_what_a_frame_shows_does_not_depend_on_the_frames_beside_it(experiment, rings):
    count = len(rings)
    beside = all_labels(
        experiment, together(rings, frame=np.arange(count), structure=np.arange(count)), frames=count
    )
    assert beside == [labels(experiment, together([one])) for one in rings]


@settings(max_examples=40, deadline=None)
@given(one=ring, exposure=st.floats(1.0, 100.0))
def test_a_longer_exposure_hides_nothing(experiment, one, exposure):
    short = labels(experiment, together([one]), background=2.0)
    long = labels(
        experiment, together([{**one, "height": one["height"] * exposure}]), background=2.0 * exposure
    )
    assert set(short) <= set(long)


@settings(max_examples=30, deadline=None)
@given(one=ring, sectors=st.integers(1, SECTORS))
def test_on_a_full_circle_the_direction_of_a_structure_does_not_matter(experiment, one, sectors):
    bins = experiment.bins
    # A detector that sees every direction alike.
    even = bins.seen.mean(dim=0, keepdim=True).expand_as(bins.seen) * 0 + bins.seen.mean(dim=0).clamp(min=1.0)
    full = type(bins)(pixels=even, seen=even, seen_beamline=even, depth=bins.depth, coverage=bins.coverage)
    turned = {**one, "phase": one["phase"] + sectors * 2 * np.pi / SECTORS}
    found = []
    for way in (one, turned):
        part = together([way])
        drawn = Drawn(terms=[part.terms], maxima=[part])
        binned = BinnedEvaluation(Evaluation(experiment.view_table), full)
        found.append(labels_of(drawn, (binned.total(drawn.terms, [], 1) + 1.0) * full.seen, binned).tolist())
    assert found[0] == found[1]


@settings(max_examples=40, deadline=None)
@given(rings=st.lists(ring, min_size=1, max_size=4), background=st.floats(0.0, 100.0))
def test_what_has_no_intensity_has_no_label_and_takes_none(experiment, rings, background):
    nothing = [{**one, "height": 0.0} for one in rings]
    count = len(rings)
    assert labels(experiment, together(nothing), stretched(0.0), background=background) == ()
    numbers = np.arange(count)
    seen = labels(experiment, together(rings, structure=numbers), background=background)
    beside = labels(
        experiment,
        together(rings, structure=numbers),
        together(nothing, structure=numbers),  # of the same structures
        stretched(0.0),
        background=background,
    )
    assert beside == seen


@settings(max_examples=40, deadline=None)
@given(
    heights=st.lists(st.floats(0.01, 1000.0), min_size=2, max_size=5),
    rings=st.lists(ring, min_size=5, max_size=5),
)
def test_diffuse_scattering_of_one_frame_is_not_seen_in_another(experiment, heights, rings):
    count = len(heights)
    numbers = np.arange(count)
    beside = all_labels(
        experiment,
        together(rings[:count], frame=numbers, structure=numbers),
        stretched(heights[::-1], frame=numbers[::-1].copy()),
        frames=count,
    )
    assert beside == [
        labels(experiment, together([one]), stretched(height))
        for one, height in zip(rings, heights, strict=False)
    ]


@settings(max_examples=40, deadline=None)
@given(
    rings=st.lists(ring, min_size=1, max_size=4), glow=st.floats(0.01, 300.0), exposure=st.floats(1.0, 100.0)
)
def test_a_longer_exposure_of_a_mixture_hides_no_ring(experiment, rings, glow, exposure):
    longer = [{**one, "height": one["height"] * exposure} for one in rings]
    short = labels(experiment, together(rings), stretched(glow), background=2.0)
    long = labels(experiment, together(longer), stretched(glow * exposure), background=2.0 * exposure)
    assert set(short) <= set(long)


@settings(max_examples=40, deadline=None)
@given(one=ring, order=st.sampled_from([8, 10, 12, 14, 16, 18, 20]))
def test_other_orders_have_no_fold(experiment, one, order):
    found = labels(experiment, together([{**one, "order": order, "height": 300.0}]))
    assert not {"two_fold", "four_fold", "six_fold"}.intersection(found)


@pytest.mark.parametrize(
    ("ring", "styles"),
    [
        ({"order": 0}, ("rings_isotropic",)),
        ({"order": 2}, ("rings_oriented",)),
        ({"order": 8}, ("rings_oriented",)),
        ({"order": 2, "sharpness": 0.05}, ("rings_isotropic",)),
        ({"order": 4, "textured": False}, ("rings_spotted",)),
        ({"order": 1, "textured": False}, ("rings_spotted",)),
        ({"order": 2, "width": 25.0}, ()),  # a halo
    ],
)
def test_the_style_of_a_ring_is_how_it_varies_along_the_azimuth(experiment, ring, styles):
    assert labels(experiment, maxima(height=30.0, **ring), known=STYLES) == styles
    assert labels(experiment, maxima(height=1e-3, **ring), known=STYLES) == ()


def test_a_frame_may_have_rings_of_several_styles(experiment):
    mixed = maxima(height=30.0, radius=[40.0, 90.0], order=[0, 2], structure=[0, 1])
    assert labels(experiment, mixed, known=STYLES) == ("rings_isotropic", "rings_oriented")


def streak(height, *, width=3.0, decay=30.0, phase=0.4):
    """An equatorial streak, as a fibre gives: narrow along `phase`."""

    def full(table):
        across = table.radii * torch.sin(table.azimuths - phase)[:, None]
        along = table.radii * torch.cos(table.azimuths - phase)[:, None]
        return (height * torch.exp(-0.5 * (across / width) ** 2) / (1.0 + (along / decay) ** 2))[None]

    return Diffuse(intensity=Pattern(frame=np.zeros(1, dtype=np.int64), full=full), rises=False, order=2)


def slope(height, *, decay=20.0):
    return diffuse(lambda table: height / (1.0 + (table.radii / decay) ** 2)[None])


def test_a_streak_over_isotropic_scattering_has_its_fold_by_contrast(experiment):
    fibre = (streak(200.0), slope(1000.0))
    assert labels(experiment, *fibre, fold_rule=BY_DIFFUSE) == ("diffuse_low_q",)
    assert labels(experiment, *fibre, fold_rule=BY_CONTRAST) == ("diffuse_low_q", "two_fold")


@pytest.mark.parametrize("rule", [BY_DIFFUSE, BY_CONTRAST])
def test_no_rule_sees_a_fold_in_what_is_isotropic_faint_or_weakly_stretched(experiment, rule):
    assert "two_fold" not in labels(experiment, slope(1000.0), stretched(300.0, aspect=1.0), fold_rule=rule)
    # 12 % of the mean, 6 % of all that is there, a signal to noise of 10
    assert "two_fold" not in labels(experiment, stretched(300.0, aspect=1.02), fold_rule=rule)
    assert "two_fold" not in labels(experiment, stretched(3.0), background=300.0, fold_rule=rule)
    assert "two_fold" not in labels(experiment, stretched(0.01), background=0.01, fold_rule=rule)
    assert "two_fold" not in labels(experiment, streak(0.02), background=0.0, fold_rule=rule)


@settings(max_examples=40, deadline=None)
@given(
    rings=st.lists(ring, min_size=1, max_size=4), background=st.floats(0.0, 100.0), glow=st.floats(0.1, 300.0)
)
def test_by_contrast_folds_are_added_and_nothing_else_changes(experiment, rings, background, glow):
    parts = (together(rings), stretched(glow))
    before = labels(experiment, *parts, background=background)
    by_contrast = labels(experiment, *parts, background=background, fold_rule=BY_CONTRAST)
    folds = {"two_fold", "four_fold", "six_fold"}
    assert set(before) - folds == set(by_contrast) - folds
    alone = labels(experiment, together(rings), background=background)
    assert set(alone) <= set(
        labels(experiment, together(rings), background=background, fold_rule=BY_CONTRAST)
    )


def test_against_a_dark_frame_that_was_subtracted_nothing_need_stand_out(experiment):
    faint = maxima(height=60.0, order=2, sharpness=0.3)
    assert labels(experiment, faint, background=4000.0) == ()
    found = labels(experiment, faint, background=4000.0, taken_off=4000.0)
    assert found == ("rings", "symmetry_rings", "two_fold")
    # Its noise is there as before.
    fainter = maxima(height=6.0, order=2, sharpness=0.3)
    assert labels(experiment, fainter, background=4000.0, taken_off=4000.0) == ()
