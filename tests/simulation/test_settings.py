"""Settings say what is wrong with them, and how it is put right."""

import json
import math

import pytest

from dvfb_stream.errors import SettingsError
from dvfb_stream.simulation import SimulationSettings
from dvfb_stream.simulation.beamline.detectors import DETECTORS

OWN = {"shape": [100, 120], "pixel_mm": 0.1}


def test_settings_survive_json():
    chosen = SimulationSettings(
        raster="detector",
        detectors={"pilatus_1m": 1.0, "mine": {**OWN, "weight": 2.0, "module": [30, 120], "gap": [5, 0]}},
        exposure=(1.0, 10.0),
        structures={"sphere": 1.0},
    )
    for settings in (SimulationSettings(), chosen):
        back = SimulationSettings.from_dict(json.loads(json.dumps(settings.as_dict())))
        assert back.as_dict() == settings.as_dict()
        assert back.detector_models() == settings.detector_models()


def test_a_table_changes_a_known_detector():
    settings = SimulationSettings(detectors={"pilatus_1m": {"uniformity": 0.0}})
    ((model, weight),) = settings.detector_models()
    assert (model.shape, model.uniformity, weight) == (DETECTORS["pilatus_1m"].shape, 0.0, 1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 16}, "size must be an integer from 32 to 2048, not 16"),
        ({"size": 256.0}, "size must be an integer from 32 to 2048, not 256.0"),
        ({"frames_per_experiment": 0}, "frames_per_experiment must be an integer from 1"),
        ({"raster": "pixels"}, "raster must be 'view' or 'detector', not 'pixels'"),
        ({"exposure": [10.0, 1.0]}, r"exposure must be \(lowest, highest\) counts a pixel"),
        ({"exposure": [-5.0, 1.0]}, r"exposure must be \(lowest, highest\) counts a pixel"),
        ({"exposure": [math.nan, 1.0]}, r"exposure must be \(lowest, highest\) counts a pixel"),
        ({"exposure": 5}, "not 5"),
        ({"grazing": 1.5}, "grazing is a share and must lie from 0 to 1, not 1.5"),
        ({"sample": math.nan}, "sample is a share and must lie from 0 to 1, not nan"),
        ({"sample": "often"}, "sample is a share and must lie from 0 to 1, not 'often'"),
        ({"window": True}, "window is a share and must lie from 0 to 1, not True"),
        ({"more_structures": -1}, "more_structures must lie from 0 to 3, not -1"),
        ({"blank": 0.6, "diffuse_only": 0.6}, "add up to 1.2; lower one"),
        ({"grasing": 0.1}, "there is no simulation setting 'grasing'; did you mean grazing?"),
        ({"structures": {"spheres": 1.0}}, "structures: there is no 'spheres'; did you mean sphere?"),
        ({"structures": {"sphere": -1.0}}, "the odds of sphere must be a number, 0 or more, not -1.0"),
        ({"structures": {"sphere": 0.0}}, "structures: at least one must have odds above 0"),
        ({"structures": ["sphere"]}, "structures must be a table of names and odds"),
        ({"detectors": {"pilatus1m": 1.0}}, "detectors: there is no 'pilatus1m'; did you mean pilatus_1m?"),
        ({"detectors": {"ccd": "often"}}, "the odds of ccd must be a number, 0 or more, not 'often'"),
        ({"detectors": {}}, "detectors: at least one must have odds above 0"),
        ({"detectors": "ccd"}, "detectors must be a table of names and odds, not 'ccd'"),
        ({"detectors": {"mine": {"shape": [100, 120]}}}, "detector mine needs pixel_mm"),
        (
            {"detectors": {"mine": {**OWN, "colour": 1}}},
            "detector mine: there is no key 'colour'; there are shape",
        ),
        (
            {"detectors": {"mine": {**OWN, "module": [200, 120]}}},
            r"a module of \(200, 120\) pixels is larger than the detector, \(100, 120\)",
        ),
        ({"detectors": {"mine": {**OWN, "gap": [3, 3]}}}, r"has a gap of \(3, 3\) but no module"),
        ({"detectors": {"mine": {**OWN, "gap": [-3, 3], "module": [30, 30]}}}, "gap must be"),
        ({"detectors": {"mine": {**OWN, "shape": [100]}}}, "shape must be"),
        ({"detectors": {"mine": {**OWN, "shape": [10**6, 10**6]}}}, "shape must be"),
        ({"detectors": {"mine": {**OWN, "shape": [True, 100]}}}, "shape must be"),
        (
            {"detectors": {"mine": {**OWN, "pixel_mm": -0.1}}},
            "pixel_mm must be a number from 0.0001 to 10, not -0.1",
        ),
        ({"detectors": {"mine": {**OWN, "pixel_mm": math.inf}}}, "pixel_mm must be a number"),
        ({"detectors": {"mine": {**OWN, "saturation": 1.5}}}, "saturation must be an integer, not 1.5"),
    ],
)
def test_wrong_settings_are_refused_with_the_value_and_the_cure(wrong, message):
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        SimulationSettings.from_dict(wrong)
