"""``dvfb models`` lists the bundles that ``--model`` knows."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest


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
