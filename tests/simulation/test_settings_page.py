"""The page on simulation names every setting with its default."""

import tomllib
from dataclasses import fields
from pathlib import Path

from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.detectors import DetectorModel

PAGE = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()


def test_the_table_has_every_setting_and_its_default():
    rows = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {name.strip(" `"): tomllib.loads(f"x = {default.strip(' `')}")["x"] for name, default in rows}
    assert told == SimulationSettings().as_dict()


def test_the_example_of_a_settings_file_is_taken_and_shows_every_key_of_a_detector():
    example = tomllib.loads(PAGE.partition("```toml\n")[2].partition("```")[0])
    settings = SimulationSettings.from_dict(example)
    assert len(settings.detector_models()) == 2
    assert set(example["detectors"]["mine"]) == {field.name for field in fields(DetectorModel)} - {"name"} | {
        "weight"
    }
