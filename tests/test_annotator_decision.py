"""What an annotator makes of measured folds. The network knows nothing, and states one half of all labels."""

import dataclasses

import numpy as np
import pytest
import torch

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.azimuthal.ring_statistics import VERSION as RINGS_VERSION
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.models import load_bundle, save_bundle
from dvfb_stream.models.bundle_description import LabelCalibration
from dvfb_stream.models.decision import NOT_GATED, Decision
from dvfb_stream.models.networks import build_network
from dvfb_stream.models.novelty import Novelty, number_of_statistics
from dvfb_stream.training.augmentation import turned
from dvfb_stream.view import FULL_SCALE, MAXIMUM, VIEW_SIZE

ARCHITECTURE = {
    "rings": {"name": "compact"},
    "coefficient": {"name": "invariant", "widths": [4, 4, 4, 4]},
    "hidden": [8],
    "outputs": len(ALL_LABELS),
}
DECISION = Decision(
    measured=3.0,
    network=0.5,
    offset=0.0,
    doubtful_from=0.3,
    accepted_from=0.5,
    contradiction=0.7,
    novel_from=0.999,
)
GEOMETRY = Geometry(shape=(400, 380), center_x=170.0, center_y=210.0, counts_per_unit=1.0)
FOLDS = {"two_fold": 2, "four_fold": 4, "six_fold": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    network = build_network(ARCHITECTURE)
    for parameter in network.later[-1].parameters():
        torch.nn.init.zeros_(parameter)
    inputs = network.hidden + number_of_statistics(invariant=True)
    folder = tmp_path_factory.mktemp("knows-nothing")
    save_bundle(
        folder,
        name="knows-nothing",
        version="1",
        network=network,
        architecture=ARCHITECTURE,
        calibrations={label: LabelCalibration(1.0, 0.0, 0.6) for label in ALL_LABELS},
        novelty=Novelty(np.zeros(inputs, np.float32), np.zeros(1, np.float32), np.array([-1, 1], np.float32)),
        view={"size": VIEW_SIZE, "maximum": MAXIMUM, "full_scale": FULL_SCALE, "rings": RINGS_VERSION},
        fbt=FourierBesselSettings(),
        training={},
        card="",
        decision=DECISION,
    )
    return folder


@pytest.fixture(scope="module")
def annotator(folder):
    return Annotator.load(folder)


def frame(order=0, contrast=0.7, geometry=GEOMETRY, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.indices(geometry.shape)
    radius = np.hypot(x - geometry.center_x, y - geometry.center_y)
    azimuth = np.arctan2(y - geometry.center_y, x - geometry.center_x)
    ring = (
        80
        * np.exp(-(((radius - 90) / 9) ** 2))
        * (1 + contrast * np.cos(order * azimuth - 0.5) * (order > 0))
    )
    return Frame(rng.poisson(ring + 2 + 30 * np.exp(-radius / 30)).astype(np.int32), geometry)


@pytest.mark.parametrize("fold", FOLDS)
def test_a_fold_that_is_measured_is_accepted(annotator, fold):
    (found,) = annotator.annotate([frame(FOLDS[fold])])
    assert {fold, "symmetry_rings", "rings"} <= set(found.labels)
    assert not set(FOLDS) - {fold} & set(found.labels)
    assert found.measured_order == FOLDS[fold]
    # The ring lies on a background, which takes away from its contrast of 0.7 / sqrt(2).
    assert 0.35 < found.measured_contrast < 0.7 / np.sqrt(2)
    assert found.scores[fold] > 0.9


def test_an_isotropic_frame_has_no_fold(annotator):
    (found,) = annotator.annotate([frame()])
    assert not set(FOLDS) & {*found.labels, *found.doubtful}
    assert found.measured_order == 0
    assert found.scores["two_fold"] < 0.01
    assert found.measured_contrast < 0.03


def test_what_the_network_halves_is_doubtful(annotator):
    (found,) = annotator.annotate([frame(2)])
    assert list(found.scores) == list(ALL_LABELS)
    assert found.scores["halo"] == pytest.approx(0.5)
    assert "halo" in found.doubtful
    assert not set(found.labels) & set(found.doubtful)


@pytest.mark.parametrize("symmetry", range(1, 8))
def test_no_turn_or_mirror_image_changes_a_row(annotator, symmetry):
    whole, other = annotator.annotate([frame(2), turned(frame(2), symmetry)])
    assert other.labels == whole.labels
    assert other.doubtful == whole.doubtful
    assert other.measured_order == whole.measured_order
    np.testing.assert_allclose(list(other.scores.values()), list(whole.scores.values()), atol=2e-3)


def test_where_no_opposite_side_is_seen_a_fold_is_doubtful(annotator):
    strip = Geometry(shape=(400, 380), center_x=-5.0, center_y=210.0, counts_per_unit=1.0)
    (found,) = annotator.annotate([frame(2, geometry=strip)])
    assert np.isnan(found.measured_contrast)
    assert set(FOLDS) <= set(found.doubtful)


def test_pixels_that_one_frame_lost_do_not_change_its_folds(annotator):
    whole = frame(4)
    spoilt = whole.pixels.copy()
    spoilt[np.random.default_rng(1).random(spoilt.shape) < 0.002] = -1
    good, other = annotator.annotate([whole, dataclasses.replace(whole, pixels=spoilt)])
    assert "four_fold" in other.labels
    assert other.measured_contrast == pytest.approx(good.measured_contrast, rel=0.1)
    assert other.masked_pixels > 200


def test_a_novel_frame_has_only_doubtful_labels(folder):
    bundle = load_bundle(folder)
    novelty = dataclasses.replace(bundle.novelty, quantiles=np.array([-9, -8], np.float32))
    (found,) = Annotator(dataclasses.replace(bundle, novelty=novelty)).annotate([frame(2)])
    assert found.novelty == 1
    assert set(found.labels) <= set(NOT_GATED)  # what is said of a frame's quality holds
    assert {"two_fold", "symmetry_rings"} <= set(found.doubtful)


def test_a_bundle_without_a_decision_has_no_doubtful_labels(tiny_bundle):
    (found,) = Annotator.load(tiny_bundle).annotate([frame(2)])
    assert found.doubtful == ()
    assert found.measured_order == 2
    assert len(found.scores) == 10


def test_the_decision_is_in_the_provenance(annotator):
    assert annotator.provenance()["decision"] == DECISION.as_dict()
    assert annotator.provenance()["labels"] == list(ALL_LABELS)
