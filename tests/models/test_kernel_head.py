"""Kernel heads: scikit-learn's SVMs as plain arrays, stored in a bundle and judging some of its labels."""

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.svm import SVC

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.errors import BundleError
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.labels import LABELS
from dvfb_stream.models import load_bundle, save_bundle
from dvfb_stream.models.bundle_description import LabelCalibration
from dvfb_stream.models.kernel_head import KernelHeads, unit_max


def _heads(length=32, count=40):
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(count, length))).astype(np.float32)
    support = unit_max(features)
    dual, gammas, intercepts, machines = [], [], [], []
    for gamma in (0.5, 2.0):
        machine = SVC(C=3.0, gamma=gamma).fit(support, rng.random(count) < 0.4)
        column = np.zeros(count, np.float32)
        column[machine.support_] = machine.dual_coef_[0]
        dual.append(column)
        gammas.append(gamma)
        intercepts.append(float(machine.intercept_[0]))
        machines.append(machine)
    heads = KernelHeads(("rings", "halo"), tuple(gammas), tuple(intercepts), support, np.stack(dual, axis=1))
    return heads, machines


def test_decisions_are_those_of_scikit_learn():
    heads, machines = _heads()
    fresh = np.abs(np.random.default_rng(1).normal(size=(20, 32))) * 7.0
    for k, machine in enumerate(machines):
        np.testing.assert_allclose(
            heads.decision(fresh)[:, k], machine.decision_function(unit_max(fresh)), atol=1e-5
        )


@pytest.fixture
def adapted(tiny_bundle, tmp_path):
    tiny = load_bundle(tiny_bundle)
    description = tiny.description
    calibrations = dict(zip(LABELS, tiny.calibrations, strict=True))
    calibrations["rings"] = LabelCalibration(2.0, -0.5, 0.5)
    return save_bundle(
        tmp_path / "adapted",
        name="adapted",
        version="1",
        network=tiny.network,
        architecture=description.architecture,
        calibrations=calibrations,
        novelty=tiny.novelty,
        view=description.view,
        fbt=FourierBesselSettings(),
        training={},
        card="# adapted\n",
        heads=_heads()[0],
    )


def test_a_bundle_brings_its_heads_back_and_they_judge_their_labels_alone(adapted, tiny_bundle, tmp_path):
    frame = Frame(
        np.random.default_rng(2).poisson(50, (64, 64)), Geometry(shape=(64, 64), center_x=30, center_y=30)
    )
    annotator = Annotator(adapted, device="cpu")
    (changed,) = annotator.annotate([frame])
    (before,) = Annotator.load(tiny_bundle, device="cpu").annotate([frame])
    for label in LABELS:
        if label not in ("rings", "halo"):
            assert changed.scores[label] == before.scores[label]
    examined = adapted.heads.decision(_features(annotator, frame))
    assert changed.scores["rings"] == pytest.approx(float(expit(2.0 * examined[0, 0] - 0.5)), abs=1e-6)


def _features(annotator, frame):
    seen = []
    network = annotator._network
    hook = network.register_forward_hook(lambda module, inputs, outputs: seen.append(outputs[1].numpy()))
    annotator.annotate([frame])
    hook.remove()
    return seen[0]


def test_heads_that_do_not_fit_are_refused(adapted, tmp_path):
    heads, _ = _heads(length=31)
    with pytest.raises(BundleError, match="heads compare 31 features, but the network has 32"):
        save_bundle(
            tmp_path / "short",
            name="short",
            version="1",
            network=adapted.network,
            architecture=adapted.description.architecture,
            calibrations=dict(zip(LABELS, adapted.calibrations, strict=True)),
            novelty=adapted.novelty,
            view={},
            fbt=FourierBesselSettings(),
            training={},
            card="",
            heads=heads,
        )
    folder = tmp_path / "adapted"
    path = folder / "model.json"
    values = json.loads(path.read_text())
    del values["heads"]["halo"]
    path.write_text(json.dumps(values))
    with pytest.raises(BundleError, match="heads of 1 labels have support"):
        load_bundle(folder)
