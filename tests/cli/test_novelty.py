"""Unfamiliar frames stand out from simulated ones, and what was measured of that can be printed and drawn."""

import json

import numpy as np
import pytest

pytest.importorskip("skimage", reason="scikit-image is not installed; the extra `evaluate` brings it")
pytest.importorskip("matplotlib", reason="matplotlib is not installed; the extra `files` brings it")

from dvfb_stream.cli.measure.charts import novelty_figure
from dvfb_stream.cli.measure.sheets import print_results
from dvfb_stream.errors import SettingsError
from dvfb_stream.models import find_bundle, load_bundle
from dvfb_stream.reproduction import KINDS, novelty_of_kinds, oddity
from dvfb_stream.reproduction.novelty_of_kinds import SCORES, SHARES, measure_novelty
from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.training.outliers import LABELLED
from dvfb_stream.training.results import described

SMALL = SimulationSettings(frames_per_experiment=5, raster="detector", detectors={"pilatus_300k": 1.0})


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def measured(told):
    return measure_novelty(
        load_bundle(find_bundle("default")),
        frames=40,
        seed=6,
        domains=(),
        simulation=SMALL,
        report=lambda what, done, total: told.append((what, done, total)),
    )


def test_every_kind_has_a_fifth_as_many_frames_and_an_area_for_either_score(measured):
    assert measured["familiar_frames"] == 40
    assert 0 < measured["labelled_frames"] <= 40
    assert tuple(measured["kinds"]) == KINDS
    for found in measured["kinds"].values():
        assert found["frames"] + found["failed"] == 8
        assert set(found["auroc"]) == {*SCORES, *(f"{score}_against_labelled" for score in SCORES)}
        assert all(0 <= area <= 1 for area in found["auroc"].values())
        for score in SCORES:
            assert found["quantiles"][score] == sorted(found["quantiles"][score])
            assert len(found["quantiles"][score]) == len(SHARES)


def test_unfamiliar_frames_stand_out(measured):
    for kind, found in measured["kinds"].items():
        if kind in LABELLED:  # has a label of its own, and is scattering like any other
            continue
        assert found["auroc"]["novelty_against_labelled"] > 0.8, kind
    assert measured["familiar_scores"]["mean"]["novelty"] < 0.75


def test_progress_is_reported(measured, told):
    assert [done for _, done, _ in told] == list(range(0, 40, 5))
    assert {total for _, _, total in told} == {40}


def test_results_are_json_and_are_printed_and_drawn_from_it(measured, capsys, tmp_path):
    results = json.loads(
        json.dumps(described("novelty", measured, seconds=1.0, device="cpu"), allow_nan=False)
    )
    print_results(results)
    printed = capsys.readouterr().out
    assert all(kind in printed for kind in KINDS)
    path = tmp_path / "novelty.png"
    figure = novelty_figure(results)
    figure.savefig(path)
    assert path.stat().st_size > 10_000
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["simulated", *KINDS]


def test_a_kind_whose_frames_all_fail_has_no_scores_and_is_drawn_as_such(capsys, monkeypatch):
    monkeypatch.setattr(novelty_of_kinds, "KINDS", ("blank", "nothing"))
    monkeypatch.setattr(
        novelty_of_kinds,
        "oddity",
        lambda kind, source, rng: (
            oddity(kind, source, rng=rng) if kind == "blank" else np.full(source.geometry.shape, np.nan)
        ),
    )
    found = measure_novelty(
        load_bundle(find_bundle("default")), frames=10, seed=6, domains=(), simulation=SMALL
    )
    failed = found["kinds"]["nothing"]
    assert (failed["frames"], failed["failed"], failed["mean"]["novelty"]) == (0, 2, None)
    assert set(failed["auroc"].values()) == {None}
    results = json.loads(json.dumps(described("novelty", found, seconds=1.0, device="cpu"), allow_nan=False))
    print_results(results)
    assert "nothing" in capsys.readouterr().out
    figure = novelty_figure(results)
    assert [text.get_text() for text in figure.axes[0].texts if "failed" in text.get_text()] == [
        "all 2 frames failed"
    ]


def test_scattering_of_another_program_is_measured_beside_them():
    pytest.importorskip("sasmodels", reason="sasmodels is not installed; the extra `evaluate` brings it")
    found = measure_novelty(
        load_bundle(find_bundle("default")), frames=10, seed=6, domains=("mixed",), simulation=SMALL
    )
    assert found["domains"]["mixed"]["frames"] == 2
    assert "auroc" in found["domains"]["mixed"]


def test_frames_that_show_nothing_are_not_enough(tiny_bundle):
    with pytest.raises(SettingsError, match="none of 0 simulated frames shows anything"):
        measure_novelty(load_bundle(tiny_bundle), frames=0, seed=6, domains=())
