"""``dvfb models`` lists the bundles that ``--model`` knows."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from dvfb_stream.models import find_bundle


def test_a_bundle_is_listed_with_its_facts(dvfb, tiny_bundle: Path) -> None:
    weights = (tiny_bundle / "weights.safetensors").read_bytes()
    outcome = dvfb("models", "--json")
    assert outcome.status == 0
    tiny = next(facts for facts in outcome.rows if facts["name"] == "tiny")
    assert tiny == {
        "name": "tiny",
        "version": "0.0.1",
        "labels": 10,
        "weights_bytes": len(weights),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "folder": str(tiny_bundle),
        "hidden": False,
    }


def test_the_table_has_the_short_hash(dvfb, tiny_bundle: Path) -> None:
    sha256 = json.loads((tiny_bundle / "model.json").read_text())["weights_sha256"]
    outcome = dvfb("models")
    assert sha256[:12] in outcome.stdout
    assert sha256[:13] not in outcome.stdout
    assert "tiny" in outcome.stdout


@pytest.mark.parametrize("damage", ["model.json", "weights.safetensors"])
def test_a_damaged_bundle_costs_a_line_and_the_others_are_listed(
    dvfb, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "whole")
    shutil.copytree(tiny_bundle, tmp_path / "broken")
    if damage == "model.json":
        (tmp_path / "broken" / damage).write_text("{}")
    else:
        (tmp_path / "broken" / damage).unlink()
    monkeypatch.setenv("DVFB_MODELS", str(tmp_path))
    outcome = dvfb("models", "--json")
    assert outcome.status == 1
    assert "whole" in [facts["name"] for facts in outcome.rows]
    assert "broken" not in [facts["name"] for facts in outcome.rows]
    (error,) = outcome.errors
    assert "broken" in error


def test_the_users_own_folder_is_looked_into(dvfb, tiny_bundle: Path, tmp_path: Path, monkeypatch) -> None:
    shelf = tmp_path / "dvfb_stream" / "models"
    shutil.copytree(tiny_bundle, shelf / "mine")
    shutil.copytree(tiny_bundle, shelf / "tiny")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    rows = dvfb("models", "list", "--json").rows
    assert [row["hidden"] for row in rows if row["name"] == "mine"] == [False]
    # DVFB_MODELS comes before the user's folder.
    assert [(row["folder"], row["hidden"]) for row in rows if row["name"] == "tiny"] == [
        (str(tiny_bundle), False),
        (str(shelf / "tiny"), True),
    ]
    assert "tiny (hidden)" in dvfb("models", "list").stdout


def test_a_bundle_is_shown_with_what_it_can_do_and_what_it_was_made_of(dvfb) -> None:
    shown = dvfb("models", "show", "default").stdout
    for word in ("36000 simulated frames", "multiply-adds", "Rings", "4-fold symmetry", "sha256"):
        assert word in shown
    card = dvfb("models", "show", "default", "--card").stdout
    assert card.startswith("# Model `default`")
    described = json.loads(dvfb("models", "show", "default", "--json").stdout)["description"]
    assert described["training"]["test"]["average_precision"]["rings"]["mean"] > 0.7
    # A bundle without any facts has a page all the same.
    assert dvfb("models", "show", "tiny").status == 0


@pytest.mark.parametrize(
    "facts",
    [
        {"test": 3},
        {"test": {"average_precision": [], "output": ["joint"], "expected_calibration_error": "small"}},
        {"cost": {"multiply_adds": "few"}, "frames_taken": {"train": 7}, "history": 3},
        {"adapted_from": "the other", "frames_taken": None},
    ],
)
def test_facts_of_another_form_are_passed_over(dvfb, tiny_bundle: Path, tmp_path: Path, facts) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "odd")
    described = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(
        json.dumps({**described, "training": facts, "architecture": {"hidden": 7}})
    )
    shown = dvfb("models", "show", str(folder))
    assert shown.status == 0
    assert "fully connected 7" in shown.stdout


def test_unknown_bundles_are_refused_in_one_line(dvfb) -> None:
    for word in ("show", "verify"):
        outcome = dvfb("models", word, "nonesuch")
        assert outcome.status == 1
        (error,) = outcome.errors
        assert "no model 'nonesuch'" in error


def test_whole_bundles_are_verified(dvfb, tiny_bundle: Path) -> None:
    outcome = dvfb("models", "verify", "tiny", str(tiny_bundle))
    assert outcome.status == 0
    assert outcome.stdout.count("whole") == 2
    assert dvfb("models", "verify", "tiny", "--json").rows == [
        {"name": "tiny", "folder": str(tiny_bundle), "problems": []}
    ]


@pytest.mark.parametrize(
    ("part", "content", "problem"),
    [
        ("weights.safetensors", b"changed", "altered"),
        ("model.json", b"{}", "format None"),
        ("CARD.md", b" ", "is empty"),
        ("CARD.md", b"\xff", "no readable CARD.md"),
    ],
)
def test_every_part_of_a_bundle_is_verified(
    dvfb, tiny_bundle: Path, tmp_path: Path, part: str, content: bytes, problem: str
) -> None:
    folder = shutil.copytree(tiny_bundle, tmp_path / "damaged")
    (folder / part).write_bytes(content)
    outcome = dvfb("models", "verify", str(folder), "tiny")
    assert outcome.status == 1
    (error,) = outcome.errors
    assert problem in error
    assert "tiny: whole" in outcome.stdout


def test_weights_that_are_no_numbers_are_refused(dvfb, tiny_bundle: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_bundle, tmp_path / "poisoned")
    weights = folder / "weights.safetensors"
    tensors = load_file(weights)
    tensors["first.bias"] = tensors["first.bias"] * float("nan")
    save_file(tensors, weights)
    described = json.loads((folder / "model.json").read_text())
    described["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(described))
    outcome = dvfb("models", "verify", str(folder))
    assert outcome.status == 1
    assert "first.bias holds numbers that are not finite" in outcome.stderr


def real_results(model, point="best_f1"):
    statistic = {"value": 0.5, "interval": [0.25, 0.75]}
    counts = {"have_it": 2, "have_it_not": 3, "right": 1, "wrong": 1, "missed": 1}
    ranked = {"average_precision": statistic, "roc_area": statistic}
    over_all = ("all_right", "precision", "recall", "mean_average_precision", "expected_calibration_error")
    return {
        "kind": "real", "model": model, "date": "2026-11-30", "operating_point": point, "frames": 5,
        "setups": {"a": {}, "b": {}}, **dict.fromkeys(over_all, statistic),
        "labels": {"rings": {**counts, **ranked}, "halo": {**counts, **ranked, "have_it": 0}},
    }  # fmt: skip


def test_a_card_is_written_anew_with_what_was_measured_on_real_frames(dvfb, tmp_path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(find_bundle("default"), folder)
    described = json.loads((folder / "model.json").read_text())
    model = f"{described['name']} {described['version']} ({described['weights_sha256'][:12]})"
    before = dvfb("models", "show", folder, "--json").stdout
    files = []
    for point in ("best_f1", "high_precision"):
        files += ["--real", tmp_path / f"{point}.json"]
        files[-1].write_text(json.dumps(real_results(model, point)))
    assert dvfb("models", "card", folder, *files, "--out", folder / "CARD.md").status == 0
    card = (folder / "CARD.md").read_text()
    assert "| rings | 2 | 3 | 1 | 1 | 1 | 0.50 (0.25 to 0.75) | 0.50 (0.25 to 0.75) |" in card
    assert "on 5 frames of 2 set-ups" in card
    assert "No frame has halo: how well" in card
    assert "Ranked little better than by chance (ROC area below 0.75): rings, halo." in card
    assert "here 50 % of what was accepted is right." in card
    # It is no part of what the bundle is.
    assert dvfb("models", "show", folder, "--json").stdout == before
    assert dvfb("models", "verify", folder).status == 0
    # Without results it says that there are none.
    assert "It was not measured on labelled real frames" in dvfb("models", "card", folder).stdout


@pytest.mark.parametrize(
    ("results", "told"),
    [
        (
            real_results("other 1.0.0 (0123456789ab)"),
            "is of the model other 1.0.0 (0123456789ab), not of default",
        ),
        ({"kind": "novelty"}, "results of the kinds real and invariance, not novelty"),
        ({"kind": "invariance", "alterations": {}, "isotropic": {}}, "no results on real frames; make them"),
        ({"kind": "real"}, "no card can be written of default"),
        (None, "holds no results"),
    ],
)
def test_results_that_no_card_can_be_written_with_are_refused(dvfb, tmp_path, results, told) -> None:
    file = tmp_path / "results.json"
    described = json.loads((find_bundle("default") / "model.json").read_text())
    model = f"{described['name']} {described['version']} ({described['weights_sha256'][:12]})"
    file.write_text("no JSON" if results is None else json.dumps({"model": model, **results}))
    done = dvfb("models", "card", "default", "--real", file)
    assert done.status == 1
    assert told in done.errors[0]


def test_a_card_of_a_bundle_without_facts_is_refused(dvfb) -> None:
    assert (
        "`training` of its model.json must be what `dvfb train` writes"
        in dvfb("models", "card", "tiny").errors[0]
    )
