"""A beamline's description is believed only where every word of it is known."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyFAI.detectors import detector_factory

from dvfb_stream.errors import SettingsError
from dvfb_stream.profiles.beamline_description import SIMULATED, Beamline, read_beamline

LEAST = 'name = "trial"\n[catalog]\nfolder = "catalog"\n'


def test_without_a_word_it_is_the_simulated_beamline(monkeypatch):
    monkeypatch.delenv("DVFB_BEAMLINE", raising=False)
    beamline = read_beamline()
    assert beamline.path == SIMULATED
    assert beamline.description.simulation.detector == "det"


def test_the_environment_names_another_file_and_an_argument_wins(monkeypatch, describe):
    monkeypatch.setenv("DVFB_BEAMLINE", str(describe(LEAST)))
    assert read_beamline().description.name == "trial"
    assert read_beamline(SIMULATED).description.name == "simulated"


def test_the_example_for_a_real_beamline_describes_its_detector():
    beamline = read_beamline(SIMULATED.with_name("pilatus.toml"))
    geometry = beamline.geometries["pilatus1M_image"]
    assert (geometry.center_x, geometry.center_y) == (490.2, 630.9)
    np.testing.assert_array_equal(geometry.mask, detector_factory("Pilatus1M").calc_mask() == 0)


def test_paths_start_from_the_file_wherever_it_is_read_from(describe, tmp_path, tiny_bundle, monkeypatch):
    np.save(tmp_path / "mask.npy", np.eye(4, dtype=bool))
    (tmp_path / "model").symlink_to(tiny_bundle)
    path = describe(f'model = "model"\n{LEAST}[detectors.image]\nmask="mask.npy"\ncenter_x=1\ncenter_y=2\n')
    monkeypatch.chdir("/")
    beamline = read_beamline(path)
    np.testing.assert_array_equal(beamline.geometries["image"].mask, ~np.eye(4, dtype=bool))
    assert Path(beamline.model) == tmp_path / "model"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (LEAST + "colour = 3\n", "catalog.colour: there is no such key"),
        ('name = "trial"\n', "catalog: Field required"),
        ('name = "trial"\n[catalog]\n', "give one of uri and folder"),
        (LEAST + 'uri = "http://localhost:8000"\n', "give one of uri and folder"),
        ('name = "t"\n[catalog]\nuri = "http://h/api/v1?api_key=secret"\n', "TILED_API_KEY"),
        ('name = "t"\n[catalog]\nuri = "localhost:8000"\n', "must begin with http"),
        ('policy = "wait"\n' + LEAST, "policy: Input should be 'drop-newest', 'sample' or 'block'"),
        (
            'arrays = ["feature"]\n' + LEAST,
            "arrays: unknown array 'feature'; there are coefficients, features",
        ),
        (LEAST + "[detectors.image]\ncenter_x = 1\n", "detectors.image: center_y is missing"),
        (LEAST + "[detectors.image]\nfrom_file = true\n", "detectors.image: from_file is for files"),
        (LEAST + '[detectors.image]\nmask = "gone.npy"\ncenter_x = 1\ncenter_y = 2\n', "gone.npy"),
        ("name = trial", "is not TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_message_that_names_the_file(describe, text, fault):
    path = describe(text)
    with pytest.raises(SettingsError) as refused:
        read_beamline(path)
    assert fault in str(refused.value)
    assert str(path) in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot read the beamline .*gone\.toml: No such file"):
        read_beamline(tmp_path / "gone.toml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(content=st.binary(max_size=80) | st.text(alphabet='name=[catlog]"\n.1', max_size=80).map(str.encode))
def test_any_bytes_are_a_beamline_or_a_settings_error(tmp_path, content):
    path = tmp_path / "any.toml"
    path.write_bytes(content)
    with suppress(SettingsError):
        assert isinstance(read_beamline(path), Beamline)
