"""Labels that depend on how a frame is mounted, exposed or masked are found out, and those that do not are not."""

from __future__ import annotations

import numpy as np
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.frames import Frame, Geometry
from dvfb_stream.training.real_frames.invariance import ALTERATIONS, measure_invariance

MODEL = ModelIdentity(name="stand-in", version="1", sha256="0" * 64)


def labelled_by(rule):
    """A model that labels each frame by a rule; None fails it."""

    def annotate(frames):
        found = [rule(frame) for frame in frames]
        return [
            Annotation.failed("not this one", model=MODEL)
            if labels is None
            else Annotation(status="ok", model=MODEL, labels=labels)
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
