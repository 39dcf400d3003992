"""Labels that depend on how a frame is mounted, exposed or masked are found out, and those that do not are not."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.training.real_frames.invariance import measure_invariance
from dvfb_stream.training.real_frames.ways import ALTERATIONS, QUICK, THOROUGH, draws_of

MODEL = ModelIdentity(name="stand-in", version="1", sha256="0" * 64)


def labelled_by(rule):
    """A model that labels each frame by a rule, doubtfully where that ends with `?`; None fails it."""

    def annotate(frames):
        found = [rule(frame) for frame in frames]
        return [
            Annotation.failed("not this one", model=MODEL)
            if labels is None
            else Annotation(
                status="ok",
                model=MODEL,
                labels=tuple(label for label in labels if not label.endswith("?")),
                doubtful=tuple(label[:-1] for label in labels if label.endswith("?")),
            )
            for labels in found
        ]

    return annotate


def frames(count=4):
    """The first of a set-up of its own, with a wide detector; the others square, of another."""
    for number in range(count):
        shape = (64, 64) if number else (64, 90)
        counts = np.random.default_rng(number).poisson(20, shape)
        geometry = Geometry(shape=shape, center_x=30, center_y=31)
        yield f"frame {number}", "square" if number else "wide", Frame(counts, geometry)


def test_a_model_that_sees_no_change_is_unchanged():
    found = measure_invariance(labelled_by(lambda frame: ("two_fold",)), frames(), draws=20)
    assert found["frames"] == 4
    assert set(found["alterations"]) == set(ALTERATIONS)
    for name, share in found["alterations"].items():
        if name == "beamstop":  # there is none
            continue
        assert share["frames"] == 4, name
        assert share["unchanged"] == share["each"] == {"value": 1.0, "interval": [1.0, 1.0]}
        assert set(share["labels"].values()) == {0.0}
    # But it gives isotropic twins a fold.
    assert found["isotropic"]["fold_or_symmetry"]["value"] == 1
    assert [found["alterations"][name]["altered"] for name in ("symmetries", "rotations", "centre_off")] == [
        28,
        12,
        16,
    ]


def test_labels_that_depend_on_the_mounting_are_found_out():
    """Wide frames have rings: of the seven, four symmetries make a wide frame a tall one."""
    rule = labelled_by(
        lambda frame: ("rings",) if frame.pixels.shape[1] > frame.pixels.shape[0] else ("halo",)
    )
    found = measure_invariance(rule, frames(), draws=20)
    share = found["alterations"]["symmetries"]
    assert share["unchanged"]["value"] == pytest.approx(1 / 2)  # of two set-ups one
    assert share["each"]["value"] == pytest.approx((3 / 7 + 1) / 2)
    assert share["labels"]["rings"] == share["labels"]["halo"] == pytest.approx((4 / 7 + 0) / 2)
    assert share["labels"]["two_fold"] == 0
    wide = found["outcomes"][0]
    assert wide["labels"] == ["rings"]
    assert sum(changed == ["halo", "rings"] for changed in wide["changed"]["symmetries"]) == 4
    assert found["isotropic"]["fold_or_symmetry"]["value"] == 0


def test_labels_that_depend_on_exposure_are_found_out():
    rule = labelled_by(lambda frame: ("rings",) if frame.pixels.max() > 100 else ())
    found = measure_invariance(rule, frames(), draws=20)["alterations"]
    assert found["counts_tenfold"]["unchanged"]["value"] == 0
    assert found["counts_tenth"]["unchanged"]["value"] == 1
    assert found["larger_detector"]["unchanged"]["value"] == 1


def test_frames_that_cannot_be_annotated_are_told_and_left_out():
    told, advanced = [], []
    rule = labelled_by(lambda frame: None if frame.pixels.shape[1] > frame.pixels.shape[0] else ("rings",))
    found = measure_invariance(
        rule, frames(), draws=20, failed=told.append, advance=lambda: advanced.append(1)
    )
    assert found["frames"] == 3
    assert told[0] == "frame 0: not this one"
    assert len(advanced) == 4
    assert found["alterations"]["symmetries"]["frames"] == 3


def test_a_measurement_can_be_repeated():
    rule = labelled_by(lambda frame: ("rings",) if frame.pixels.mean() > 19.9 else ())
    assert measure_invariance(rule, frames(), draws=20) == measure_invariance(rule, frames(), draws=20)


def test_a_label_that_becomes_doubtful_changes_but_is_not_contradicted():
    def rule(frame):
        brightest = frame.pixels.max()
        if brightest > 100:
            return ("rings?", "two_fold")
        return ("rings?", "halo") if brightest < 15 else ("rings",)

    found = measure_invariance(labelled_by(rule), frames(2), draws=20)
    longer, shorter = (found["alterations"][name] for name in ("counts_tenfold", "counts_tenth"))
    assert longer["each"]["value"] == longer["not_contradicted"]["value"] == 0  # two_fold is new
    doubtful = measure_invariance(
        labelled_by(lambda frame: ("rings?",) if frame.pixels.max() > 100 else ("rings",)),
        frames(2),
        draws=20,
    )
    longer = doubtful["alterations"]["counts_tenfold"]
    assert (longer["each"]["value"], longer["not_contradicted"]["value"]) == (0, 1)
    (outcome, _) = found["outcomes"]
    assert outcome["changed"]["counts_tenth"] == [["halo", "rings"]]
    assert outcome["contradicted"]["counts_tenth"] == [["halo"]]
    assert (outcome["labels"], outcome["doubtful"]) == (["rings"], [])
    assert shorter["labels"]["halo"] == 1


def test_further_labels_are_told_but_need_not_stay():
    rule = labelled_by(lambda frame: ("rings", "weak") if frame.pixels.max() < 15 else ("rings",))
    shorter = measure_invariance(rule, frames(), draws=20)["alterations"]["counts_tenth"]
    assert shorter["unchanged"]["value"] == 1
    assert shorter["labels"]["weak"] == 1
    assert "saturated" not in shorter["labels"]  # of no frame


def test_twins_are_told_by_label():
    twins = measure_invariance(labelled_by(lambda frame: ("four_fold", "rings")), frames(), draws=20)[
        "isotropic"
    ]
    assert twins["labels"] == {
        "symmetry_halo": 0,
        "symmetry_rings": 0,
        "two_fold": 0,
        "four_fold": 1,
        "six_fold": 0,
    }


def test_a_quick_measurement_takes_fewer_ways():
    found = measure_invariance(labelled_by(lambda frame: ()), frames(), ways=QUICK, draws=20)["alterations"]
    assert [found[name]["altered"] for name in ("symmetries", "rotations", "centre_off")] == [8, 4, 4]


def test_the_symmetries_of_a_quick_measurement_generate_all_seven():
    """As permutations of a square's corners."""
    corners = np.arange(4).reshape(2, 2)

    def turn(square, quarters, mirrored):
        return np.rot90(square[:, ::-1] if mirrored else square, quarters)

    reached = {corners.tobytes()}
    squares = [corners]
    for square in squares:
        for way in QUICK.symmetries:
            after = np.ascontiguousarray(turn(square, *way))
            if after.tobytes() not in reached:
                reached.add(after.tobytes())
                squares.append(after)
    assert reached == {corners.tobytes()} | {
        np.ascontiguousarray(turn(corners, *way)).tobytes() for way in THOROUGH.symmetries
    }
    assert len(reached) == 8


def test_frames_of_one_geometry_share_angles_and_not_their_noise():
    geometry = Geometry(shape=(64, 64), center_x=30, center_y=31)
    other = Geometry(shape=(64, 64), center_x=30, center_y=30)
    drawn = [
        draws_of(Frame(np.zeros((64, 64)), g), 0, n) for g, n in ((geometry, 0), (geometry, 1), (other, 2))
    ]
    angles = [draws.mounting.uniform(0, 360) for draws in drawn]
    assert angles[0] == angles[1] != angles[2]
    assert len({draws.counts.uniform() for draws in drawn}) == 3


def test_an_alteration_that_leaves_nothing_is_told_and_left_out():
    mask = np.zeros((64, 64), bool)
    mask[::2, ::2] = True  # no 2 x 2 pixels are all valid
    geometry = Geometry(shape=mask.shape, center_x=30, center_y=31, mask=mask)
    frame = Frame(np.random.default_rng(0).poisson(20, mask.shape), geometry)
    told = []
    found = measure_invariance(
        labelled_by(lambda frame: ()), [("comb", "a", frame)], draws=5, failed=told.append
    )
    assert found["alterations"]["binned"]["frames"] == 0
    assert found["alterations"]["binned"]["unchanged"] == {"value": None, "interval": None}
    assert found["alterations"]["symmetries"]["frames"] == 1
    assert len(told) == 1
    assert "comb: the mask leaves no valid pixel" in told[0]
