"""Heads: what is kept is what cross-validation finds better, and copies of a frame are never on both sides."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import LABELS
from dvfb_stream.models import load_bundle
from dvfb_stream.models.kernel_head import KernelHeads
from dvfb_stream.training.adaptation import LabelledFeatures, LabelOutcome, adapt, save_adapted
from dvfb_stream.training.adaptation.bundle import next_version
from dvfb_stream.training.adaptation.heads import UNKNOWN, joined

RINGS, HALO, FOUR = (LABELS.index(label) for label in ("rings", "halo", "four_fold"))


def population(seed, frames=60, copies=3, length=32):
    """Features in which three labels show, some frames' labels unknown, and a base model that knows only haloes."""
    rng = np.random.default_rng(seed)
    has = rng.random((frames, len(LABELS))) < 0.4
    own = np.abs(rng.normal(size=(frames, length)))
    for column, place in ((RINGS, 0), (HALO, 4), (FOUR, 8)):
        own[has[:, column], place : place + 4] += 1.2
    activations = (own + 0.05 * rng.normal(size=(copies, frames, length))).astype(np.float32)
    scores = rng.random(has.shape)
    scores[:, HALO] = has[:, HALO]
    truth = np.full(has.shape, UNKNOWN, dtype=np.int8)
    for column in (RINGS, HALO):
        truth[:, column] = has[:, column]
    truth[::7, RINGS] = UNKNOWN
    few = np.flatnonzero(has[:, FOUR])[:3]
    truth[few, FOUR] = 1
    truth[~has[:, FOUR], FOUR] = 0
    return has, LabelledFeatures(
        activations=activations, truth=truth, scores=scores, labels=("rings", "halo", "four_fold")
    )


@pytest.fixture(scope="module")
def adaptation():
    return adapt(population(0)[1])


def test_a_label_that_gets_better_has_a_head_and_the_others_keep_theirs(adaptation):
    halo, rings, four_fold = adaptation.outcomes
    assert adaptation.heads.labels == ("rings",)
    assert set(adaptation.calibrations) == {"rings"}
    assert rings.kept
    assert rings.adapted > 0.8 > rings.base
    assert rings.positive + rings.negative == 60 - 9
    assert rings.certainty > 0.9
    assert halo.certainty == 0.0
    assert not halo.kept
    assert halo.base == 1.0
    assert str(halo).endswith("not better, the base model's head is kept")
    assert four_fold.adapted is None
    assert str(four_fold) == (
        "only 3 positive frames of four_fold; at least 8 are needed; the base model's head is kept"
    )


def test_the_head_ranks_frames_that_it_has_not_seen(adaptation):
    has, fresh = population(1, frames=300)
    decisions = adaptation.heads.decision(fresh.activations[0])[:, 0]
    found = average_precision_score(has[:, RINGS], decisions)
    (rings,) = (outcome for outcome in adaptation.outcomes if outcome.label == "rings")
    assert found == pytest.approx(rings.adapted, abs=0.12)


def test_labels_that_mean_nothing_are_not_learnt_by_heart():
    """Copies of a frame on both sides would make pure chance look like knowledge."""
    rng = np.random.default_rng(3)
    own = np.abs(rng.normal(size=(80, 32)))
    truth = np.full((80, len(LABELS)), UNKNOWN, dtype=np.int8)
    truth[:, RINGS] = rng.random(80) < 0.3
    labelled = LabelledFeatures(
        activations=np.repeat(own[None], 8, axis=0).astype(np.float32),
        truth=truth,
        scores=rng.random(truth.shape),
        labels=("rings",),
    )
    (outcome,) = adapt(labelled).outcomes
    assert outcome.adapted < 0.55


def test_a_head_that_may_be_better_by_chance_is_not_taken():
    outcome = LabelOutcome(
        label="rings", positive=9, negative=30, base=0.7, adapted=0.75, certainty=0.6, kept=False
    )
    assert str(outcome) == (
        "rings: average precision 0.700 -> 0.750; better in 60% of resamples only, the base model's head is kept"
    )
    # A base model as good as the head: which ranks better on a handful of frames is chance.
    kept = 0
    for seed in range(6):
        _, labelled = population(seed, frames=40, copies=1)
        rivals = labelled.activations[0][:, :4].sum(1) + 0.2 * np.random.default_rng(seed).normal(size=40)
        scores = labelled.scores.copy()
        scores[:, RINGS] = 1 / (1 + np.exp(-rivals))
        (outcome,) = adapt(dataclasses.replace(labelled, scores=scores, labels=("rings",))).outcomes
        kept += outcome.kept
    assert kept <= 2


def test_adapting_is_repeatable(adaptation):
    again = adapt(population(0)[1])
    np.testing.assert_array_equal(again.heads.dual, adaptation.heads.dual)
    assert again.calibrations == adaptation.calibrations


def test_features_and_labels_must_belong_to_the_same_frames():
    labelled = population(0)[1]
    with pytest.raises(SettingsError, match="do not belong to the same frames"):
        dataclasses.replace(labelled, truth=labelled.truth[1:])


@pytest.fixture
def saved(adaptation, tiny_bundle, tmp_path):
    return save_adapted(
        load_bundle(tiny_bundle),
        adaptation,
        tmp_path / "saved",
        name="mine",
        version="0.0.2",
        frames=60,
        copies=3,
        source={"labels": "night.csv"},
    )


def test_the_adapted_bundle_says_what_it_is(saved, tiny_bundle, adaptation, tmp_path):
    base = load_bundle(tiny_bundle)
    assert (saved.identity.name, saved.identity.version) == ("mine", "0.0.2")
    assert saved.identity.sha256 != base.identity.sha256
    facts = saved.description.training
    assert facts["adapted_from"] == dataclasses.asdict(base.identity)
    assert facts["base"] == base.description.training
    assert list(saved.description.heads) == ["rings"]
    card = (tmp_path / "saved" / "CARD.md").read_text()
    for outcome in adaptation.outcomes:
        row = next(line for line in card.splitlines() if line.startswith(f"| {outcome.label} |"))
        assert f"| {outcome.positive} | {outcome.negative} |" in row
        assert row.endswith("the new head |" if outcome.kept else "the base model |")
    json.dumps(facts, allow_nan=False)


def test_only_adapted_labels_are_judged_anew(saved, tiny_bundle):
    rng = np.random.default_rng(4)
    logits, features = rng.normal(size=(5, 10)), np.abs(rng.normal(size=(5, 32)))
    judged = saved.heads.in_place_of(logits, features)
    others = [column for column in range(10) if column != RINGS]
    np.testing.assert_array_equal(judged[:, others], logits[:, others])
    np.testing.assert_allclose(judged[:, RINGS], saved.heads.decision(features)[:, 0])
    for k in others:
        assert saved.calibrations[k] == load_bundle(tiny_bundle).calibrations[k]


def test_an_adapted_bundle_adapted_again_keeps_the_heads_that_are_not_replaced():
    rng = np.random.default_rng(5)

    def heads(*labels, count):
        return KernelHeads(
            labels=labels,
            gammas=tuple(rng.uniform(0.5, 2, len(labels)).tolist()),
            intercepts=tuple(rng.normal(size=len(labels)).tolist()),
            support=rng.random((count, 6)).astype(np.float32),
            dual=rng.normal(size=(count, len(labels))).astype(np.float32),
        )

    old, new = heads("rings", "halo", count=7), heads("halo", "four_fold", count=4)
    both, features = joined(old, new), rng.random((3, 6))
    assert both.labels == ("rings", "halo", "four_fold")
    np.testing.assert_allclose(both.decision(features)[:, 0], old.decision(features)[:, 0], atol=1e-6)
    np.testing.assert_allclose(both.decision(features)[:, 1:], new.decision(features), atol=1e-6)
    assert joined(None, new) is new
    assert joined(old, None) is old
    assert joined(heads("halo", count=2), new) is new


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.2.0", "0.2.1"),
        ("1.9", "1.10"),
        ("7", "8"),
        ("1.0rc2", "1.0rc3"),
        ("2.0-beta", "2.1-beta"),
        ("x", "x.1"),
    ],
)
def test_the_version_goes_up(before, after):
    assert next_version(before) == after
