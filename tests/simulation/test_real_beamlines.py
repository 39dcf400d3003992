"""Frames of real beamlines: each thing is there where it is asked for, and nothing changes where it is not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dvfb_stream.labels import ALL_LABELS, FURTHER_LABELS, LABELS, close_under_implication
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.simulation.beamline.circumstances import draw_circumstances
from dvfb_stream.simulation.beamline.experiment import draw_experiment

SQUARE = {"square": {"shape": [512, 512], "pixel_mm": 0.15, "uniformity": 0.0}}
BLACK = dict.fromkeys(
    ("diffuse_only", "streaks", "zingers", "window", "grazing", "wide_angle", "tilted", "masked_beamstop"),
    0.0,
) | {"blank": 1.0}
"""Background and beam alone."""


def experiments(count=24, **chosen):
    settings = SimulationSettings(detectors=SQUARE, **{**BLACK, **chosen})
    return [draw_experiment(7, number, settings) for number in range(count)]


def at(experiment):
    """Where view pixels lie from the middle of the detector, in units of half its side."""
    y, x = np.mgrid[:256, :256]
    return (x - 127.5) / 128.0, (y - 127.5) / 128.0


@pytest.mark.parametrize("declared", [0.0, 1.0])
def test_a_round_detector_sees_a_circle_and_nothing_beyond(declared):
    for experiment in experiments(round_detector=1.0, declared_outline=declared):
        told = experiment.described()["outline"]
        x, y = at(experiment)
        distance = np.hypot(x - told["shift"][0], y - told["shift"][1])
        inside, beyond = distance < told["radius"] - 0.02, distance > told["radius"] + 0.02
        valid, reached = experiment.raster.valid.numpy(), experiment.raster.transmission.numpy()
        assert valid[inside].all()
        assert valid[beyond].any() == (not declared and beyond.any())
        if not declared:
            assert not reached[beyond].any()
            assert reached[inside].mean() > 0.5


def test_a_cropped_detector_is_convex_and_keeps_its_middle():
    for experiment in experiments(cropped_detector=1.0, declared_outline=1.0):
        valid = experiment.raster.valid.numpy()
        assert valid[96:160, 96:160].all()
        assert 0.4 < valid.mean() < 1.0
        for line in (*valid, *valid.T):  # no line leaves it and comes back
            assert np.count_nonzero(np.diff(np.concatenate(([0], line, [0])))) in (0, 2)


def test_beams_close_to_the_middle_and_beside_the_detector():
    central = [e.raster.geometry for e in experiments(central=1.0)]
    places = np.array([(g.center_x, g.center_y) for g in central]) / 255 - 0.5
    assert np.abs(places).max() < 0.31
    assert 0.04 < places.std() < 0.08
    for experiment in experiments(off_detector=1.0):
        geometry = experiment.raster.geometry
        assert not (0 <= geometry.center_x <= 255 and 0 <= geometry.center_y <= 255)
        assert not experiment.obstruction.stop


def test_beamstops_on_arms_come_from_any_direction_and_some_bend():
    arms = [e.obstruction.on_arm for e in experiments(120, arms=1.0, central=1.0)]
    directions = np.array([arm.direction for arm in arms]) % (0.5 * math.pi)
    assert np.histogram(directions, bins=4, range=(0.0, 0.5 * math.pi))[0].min() > 12
    assert {bool(arm.bend) for arm in arms} == {True, False}
    assert {bool(arm.half_width) for arm in arms} == {True, False}


def test_what_an_arm_hides_lies_along_it():
    for experiment in experiments(30, arms=1.0, central=1.0):
        arm, raster = experiment.obstruction.on_arm, experiment.raster
        x, y, through = raster.x.numpy(), raster.y.numpy(), raster.transmission.numpy()
        far = np.hypot(x, y) > arm.radius + 12 * arm.edge + 2
        if not arm.half_width:
            assert through[far].min() > 0.999
            continue
        # Walk along the arm, bend included, and leave its neighbourhood out.
        length = np.linspace(0.0, 400.0, 1601)
        knee = np.minimum(length, arm.bend_at if arm.bend else np.inf)
        rest, turned = length - knee, arm.direction + arm.bend
        on_x = knee * math.cos(arm.direction) + rest * math.cos(turned)
        on_y = knee * math.sin(arm.direction) + rest * math.sin(turned)
        rows, columns = (
            np.rint(c + o).astype(int) for c, o in ((127.5 - y.mean(), on_y), (127.5 - x.mean(), on_x))
        )
        there = (rows >= 0) & (rows < 256) & (columns >= 0) & (columns < 256)
        near = np.zeros((256, 256), bool)
        reach = math.ceil(arm.half_width + 12 * arm.edge + 2)
        for row, column in zip(rows[there], columns[there], strict=True):
            near[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1] = True
            if arm.half_width > 1.5 and arm.edge < 0.3:
                assert through[row, column] < arm.arm_leak + 0.2 * (1 - arm.arm_leak)
        assert through[far & ~near].min() > 0.999


def test_declared_arms_are_masked_and_others_are_not():
    for experiment in experiments(60, arms=1.0, central=1.0, masked_beamstop=1.0):
        raster, arm = experiment.raster, experiment.obstruction.on_arm
        valid = raster.valid.numpy()
        disk = np.hypot(raster.x.numpy(), raster.y.numpy()) < arm.radius
        assert not valid[disk].any()
        if not (arm.half_width and arm.arm_declared):
            outside = np.hypot(raster.x.numpy(), raster.y.numpy()) > arm.radius + 12 * arm.edge
            assert valid[outside].all()
    for experiment in experiments(20, arms=1.0, central=1.0, masked_beamstop=0.0):
        assert experiment.raster.valid.all()


def test_shadows_hold_back_a_part_at_one_side():
    for experiment in experiments(shadows=1.0, central=1.0):
        raster, shadows = experiment.raster, experiment.circumstances.shadows
        assert 1 <= len(shadows) <= 3
        for shadow in shadows:
            x, y = raster.x.double().numpy(), raster.y.double().numpy()
            along = x * math.cos(shadow.direction) + y * math.sin(shadow.direction)
            across = y * math.cos(shadow.direction) - x * math.sin(shadow.direction)
            deep = (
                np.hypot(along - shadow.distance, across) < shadow.radius - 8 * shadow.edge
                if shadow.radius
                else along > shadow.distance + 8 * shadow.edge
            )
            if deep.any():
                assert raster.transmission.numpy()[deep].max() <= shadow.through + 1e-3


def test_a_wrong_centre_is_stated_and_everything_else_stays():
    right = experiments(central=1.0)
    wrong = experiments(central=1.0, misaligned=1.0)
    for one, other in zip(right, wrong, strict=True):
        shift = np.array(other.circumstances.misalignment)
        stated = np.array([other.raster.geometry.center_x, other.raster.geometry.center_y])
        actual = np.array([one.raster.geometry.center_x, one.raster.geometry.center_y])
        np.testing.assert_allclose(stated - actual, shift)
        assert 2.0 <= np.hypot(*shift) <= 60.0
        np.testing.assert_array_equal(one.raster.radius, other.raster.radius)
        np.testing.assert_array_equal(one.raster.transmission, other.raster.transmission)


@pytest.mark.parametrize("kind", ["single_ring", "symmetry_halo", "lattice", "mesostructure"])
def test_small_patterns_lie_nearer_to_the_beam(kind):
    def radii(**chosen):
        settings = SimulationSettings(
            detectors=SQUARE, structures={kind: 1.0}, sample=1.0, diffuse=0.0, diffuse_only=0.0, blank=0.0,
            more_structures=0.0, frames_per_experiment=4, middle=1.0, wide_angle=0.0, **chosen,
        )  # fmt: skip
        frames = Simulator(3, settings=settings).frames(0, 60)
        return np.median([p["radius"] for f in frames for p in f.components if p["name"] == kind])

    assert radii(small_pattern=1.0) < 0.65 * radii()
    assert radii(large_pattern=1.0) > 1.1 * radii()


def test_a_glow_falls_from_the_beam_by_its_law():
    settings = SimulationSettings(
        detectors=SQUARE,
        **{**BLACK, "blank": 0.0},
        sample=0.0,
        diffuse=0.0,
        glow=1.0,
        background=0.0,
        parasitic=0.0,
        central=1.0,
        exposure=(500.0, 500.0),
        frames_per_experiment=4,
    )
    for frame in Simulator(5, settings=settings).frames(0, 12):
        (glow,) = (part for part in frame.components if part["name"] == "glow")
        y, x = np.mgrid[:256, :256]
        right, down = x - frame.geometry.center_x, y - frame.geometry.center_y
        radius, stop = np.hypot(right, down), frame.experiment["beamstop"]["stop_radius"]
        # Away from the side that the beamstop comes from.
        away = np.cos(np.arctan2(down, right) - frame.experiment["beamstop"]["direction"]) < 0.3
        near = frame.pixels[away & (np.abs(radius - stop - 5) < 0.7)].mean()
        far = frame.pixels[away & (radius > stop + 60)].mean()
        assert near > 2 * far

        def law(r, glow=glow):
            return (1 + (r / glow["core"]) ** 2) ** (glow["exponent"] / 2)

        expected = glow["height"] * law(stop + 5) / law(max(stop + 1, 2))
        assert near == pytest.approx(expected, rel=0.2, abs=0.2)


def test_single_rings_have_no_higher_orders_and_lie_on_a_slope():
    settings = SimulationSettings.real_beamlines(
        structures={"single_ring": 1.0}, grazing=0.0, low_q_beneath=1.0, more_structures=0.0, diffuse=0.0, sample=1.0,
        blank=0.0, diffuse_only=0.0, frames_per_experiment=4, exposure=(100.0, 1000.0),
    )  # fmt: skip
    frames = list(Simulator(2, settings=settings).frames(0, 80))
    assert not any("higher_orders" in frame.labels for frame in frames)
    assert sum("rings" in frame.labels for frame in frames) > 30
    assert all({"single_ring", "low_q"} <= {part["name"] for part in frame.components} for frame in frames)


def test_the_spots_of_a_coarse_powder_do_not_repeat():
    settings = SimulationSettings(structures={"powder_grains": 1.0}, more_structures=0.0, diffuse=0.0, sample=1.0,
                                  blank=0.0, diffuse_only=0.0, frames_per_experiment=2, exposure=(100.0, 1000.0),
                                  grazing=0.0, fold_rule="contrast")  # fmt: skip
    found = Simulator(2, settings=settings).all_labels(0, 120).numpy()
    shown = dict(zip(ALL_LABELS, found.T, strict=True))
    assert shown["rings_spotted"].mean() > 0.5
    assert not any(shown[fold].any() for fold in ("two_fold", "four_fold", "six_fold", "symmetry_rings"))


def test_every_label_is_met_on_real_beamlines_and_frames_are_well_formed():
    simulator = Simulator(11, settings=SimulationSettings.real_beamlines(frames_per_experiment=3))
    found = simulator.all_labels(0, 400).numpy()
    assert (found.mean(axis=0) > 0.005).all(), dict(zip(ALL_LABELS, found.mean(axis=0), strict=True))
    for number, frame in enumerate(simulator.frames(0, 30)):
        assert frame.pixels.shape == frame.geometry.shape == (256, 256)
        assert np.isfinite(frame.pixels).all()
        if frame.geometry.mask is not None:
            assert not frame.pixels[~frame.geometry.mask].any()
        everything = (*frame.labels, *frame.further_labels)
        assert close_under_implication(everything) == everything
        assert everything == tuple(np.array(ALL_LABELS)[found[number]])
        json.dumps([frame.components, frame.experiment])


def test_labels_of_whole_frames_exclude_each_other_where_they_must():
    found = Simulator(12, settings=SimulationSettings.real_beamlines(frames_per_experiment=2)).all_labels(
        0, 500
    )
    shown = dict(zip(ALL_LABELS, found.numpy().T, strict=True))
    for label in (*LABELS, "grazing", "weak"):
        assert not (shown["empty"] & shown[label]).any()
    styles = shown["rings_isotropic"] | shown["rings_oriented"] | shown["rings_spotted"]
    np.testing.assert_array_equal(styles, shown["rings"])
    assert not (shown["symmetry_rings"] & ~shown["rings_oriented"]).any()
    for fold in ("two_fold", "four_fold", "six_fold"):
        assert not (shown["grazing"] & shown[fold]).any()


def test_with_the_defaults_nothing_is_drawn_of_it():
    for number in range(20):
        circumstances = draw_circumstances(3, number, SimulationSettings())
        assert circumstances.described() == {}
        assert (circumstances.beam, circumstances.arm) == (None, None)


def test_frames_of_the_defaults_are_those_of_the_releases_before():
    """Labels, masks and centres to the bit; of the pixels their sums, since torch may count photons otherwise."""
    known = json.loads((Path(__file__).parent / "references" / "default_frames.json").read_text())
    frames = list(Simulator(0, settings=SimulationSettings(frames_per_experiment=4)).frames(0, len(known)))
    for frame, before in zip(frames, known, strict=True):
        assert list(frame.labels) == before["labels"]
        mask = frame.geometry.mask
        assert (65536 if mask is None else int(mask.sum())) == before["valid"]
        assert frame.geometry.center_x == pytest.approx(before["center"][0], abs=1e-9)
        assert frame.geometry.center_y == pytest.approx(before["center"][1], abs=1e-9)
        assert [part["name"] for part in frame.components] == before["components"]
        assert float(frame.pixels.sum(dtype=np.float64)) == pytest.approx(before["sum"], rel=1e-3, abs=5.0)
    assert len(FURTHER_LABELS) == 8


def flat(**chosen):
    """Frames of an even background of some hundred counts on a square detector."""
    return SimulationSettings(
        **{
            **BLACK,
            "detectors": SQUARE,
            "parasitic": 0.0,
            "background": 1.0,
            "middle": 1.0,
            "exposure": (300.0, 300.0),
            "frames_per_experiment": 2,
            **chosen,
        }
    )


def test_what_is_left_of_a_subtracted_dark_frame_is_nothing_on_average_and_noisy():
    chosen = flat(dark_subtracted=1.0, background=0.0, raster="detector")
    for frame in Simulator(6, settings=chosen).frames(0, 12):
        readout = frame.experiment["readout"]
        assert frame.pixels.dtype == np.float32
        corner = frame.pixels[:100, :100]
        assert readout["subtracted"]
        assert corner.mean() == pytest.approx(0.0, abs=5 * math.sqrt(readout["pedestal"] / 1e4) + 0.04)
        assert corner.var() == pytest.approx(readout["pedestal"], rel=0.1, abs=0.05)
        assert corner.min() < 0


def test_a_pedestal_stays_in_the_frames():
    chosen = flat(pedestal=1.0, background=0.0, raster="detector")
    for frame in Simulator(6, settings=chosen).frames(0, 12):
        assert frame.pixels.dtype == np.int32
        assert 2.0 <= frame.experiment["readout"]["pedestal"] <= 60.0
        assert frame.pixels[:100, :100].mean() == pytest.approx(
            frame.experiment["readout"]["pedestal"], rel=0.1
        )


@pytest.mark.parametrize("raster", ["view", "detector"])
def test_normalised_frames_are_those_of_counts_in_another_unit(raster):
    counts = list(Simulator(6, settings=flat(raster=raster)).frames(0, 12))
    divided = list(Simulator(6, settings=flat(raster=raster, normalised=1.0)).frames(0, 12))
    for one, other in zip(counts, divided, strict=True):
        unit = other.experiment["readout"]["unit"]
        np.testing.assert_allclose(other.pixels, one.pixels * np.float32(unit), rtol=1e-5)
        assert one.labels == other.labels
        stated = other.geometry.counts_per_unit
        if raster == "detector":
            assert stated is None
        else:
            assert 0.6 < stated * unit < 1.6


def test_hot_pixels_are_the_same_in_every_frame_and_on_every_raster():
    def added(raster):
        hot, cold = (
            list(Simulator(6, settings=flat(raster=raster, hot_pixels=share)).frames(0, 6))
            for share in (1.0, 0.0)
        )
        return [one.pixels.astype(float) - other.pixels for one, other in zip(hot, cold, strict=True)], hot

    on_detector, frames = added("detector")
    on_view, _ = added("view")
    for index, (fine, coarse, frame) in enumerate(zip(on_detector, on_view, frames, strict=True)):
        assert 1 <= np.count_nonzero(fine) <= frame.experiment["hot_pixels"]
        if index % 2:  # the second frame of an experiment
            np.testing.assert_array_equal(fine != 0, on_detector[index - 1] != 0)
        if fine.max() < 60_000:  # else it clips
            means = fine.reshape(256, 2, 256, 2).mean(axis=(1, 3))
            np.testing.assert_allclose(coarse, means, atol=1.0)


def test_quadrants_of_a_ccd_and_modules_differ_in_gain():
    chosen = flat(panel_steps=1.0, exposure=(3000.0, 3000.0), raster="detector")
    steps = []
    for frame in Simulator(6, settings=chosen).frames(0, 40):
        top, bottom = frame.pixels[150:250, :200].mean(), frame.pixels[262:362, :200].mean()
        steps.append(abs(top - bottom) / (top + bottom))
        assert 0.01 <= frame.experiment["panel_steps"] <= 0.1
    assert np.median(steps) > 0.004


def test_stray_light_lies_on_one_side():
    lit = list(Simulator(6, settings=flat(stray=1.0, central=1.0, background=0.0)).frames(0, 24))
    dark = list(Simulator(6, settings=flat(central=1.0, background=0.0)).frames(0, 24))
    for one, other in zip(lit, dark, strict=True):
        assert one.labels == ()
        assert "empty" in one.further_labels
        assert one.pixels.sum() > other.pixels.sum()
        assert 1 <= len(one.experiment["stray_light"]) <= 3
