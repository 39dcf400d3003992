"""Settings say what is wrong with them, and how it is put right."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dvfb_stream.errors import SettingsError
from dvfb_stream.simulation import SimulationSettings, Simulator
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


def test_settings_of_real_beamlines_can_be_changed_by_name():
    settings = SimulationSettings.real_beamlines(glow=0.0, size=64)
    assert (settings.glow, settings.size, settings.fold_rule) == (0.0, 64, "contrast")
    assert (
        SimulationSettings.from_dict(json.loads(json.dumps(settings.as_dict()))).as_dict()
        == settings.as_dict()
    )
    with pytest.raises(SettingsError, match="did you mean glow"):
        SimulationSettings.real_beamlines(glo=0.5)


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
        ({"round_detector": 0.6, "cropped_detector": 0.5}, "add up to 1.1; lower one"),
        ({"central": 0.6, "off_detector": 0.5}, "add up to 1.1; lower one"),
        ({"small_pattern": 0.6, "large_pattern": 0.5}, "add up to 1.1; lower one"),
        ({"pedestal": 0.6, "dark_subtracted": 0.5}, "add up to 1.1; lower one"),
        ({"fold_rule": "size"}, "fold_rule must be 'diffuse' or 'contrast', not 'size'"),
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


@pytest.mark.parametrize(
    "name",
    [
        *(
            "middle",
            "wide_angle",
            "tilted",
            "grazing",
            "sideways",
            "masked_beamstop",
            "window",
            "diffuse_only",
        ),
        *("blank", "sample", "diffuse", "low_q", "anisotropic_low_q", "high_q", "parasitic", "background"),
        *("streaks", "zingers", "round_detector", "cropped_detector", "declared_outline", "arms", "shadows"),
        *("central", "off_detector", "small_pattern", "large_pattern", "glow", "low_q_beneath", "misaligned"),
        *("stray", "films", "hot_pixels", "panel_steps", "pedestal", "dark_subtracted", "normalised"),
    ],
)
def test_every_share_lies_from_nothing_to_all(name):
    rest = {"diffuse_only": 0.0, "blank": 0.0}
    for share in (0, 0.0, 0.5, 1.0, 1):
        assert getattr(SimulationSettings(**{**rest, name: share}), name) == share
    for share in (-1e-9, 1.0 + 1e-9, math.nan, math.inf, "0.5", True, None, [0.5]):
        with pytest.raises(SettingsError, match=f"{name} is a share and must lie from 0 to 1, not "):
            SimulationSettings.from_dict({name: share})


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_subnormal=False)
    | st.text(max_size=5)
    | st.sampled_from(["ccd", "sphere", "view"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ccd", "sphere", "mine", "shape", "pixel_mm", "weight"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@hypothesis_settings(max_examples=300, deadline=None)
@given(values=st.dictionaries(st.sampled_from(list(SimulationSettings().as_dict())), anything, max_size=3))
def test_whatever_a_file_says_is_taken_or_refused_in_words(values):
    try:
        settings = SimulationSettings.from_dict(values)
    except SettingsError:
        return
    assert SimulationSettings.from_dict(settings.as_dict()).as_dict() == settings.as_dict()
    assert all(weight >= 0 for _, weight in settings.detector_models())


described = st.fixed_dictionaries(
    {"shape": st.lists(st.integers(16, 90), min_size=2, max_size=2), "pixel_mm": st.floats(1e-4, 10.0)},
    optional={
        "module": st.lists(st.integers(4, 90), min_size=2, max_size=2),
        "gap": st.lists(st.integers(0, 20), min_size=2, max_size=2),
        "saturation": st.integers(1, 2**31 - 2),
        "point_spread": st.floats(0.0, 20.0),
        "uniformity": st.floats(0.0, 0.5),
    },
)


@hypothesis_settings(max_examples=20, deadline=None)
@given(detector=described, raster=st.sampled_from(["view", "detector"]))
def test_a_detector_that_is_taken_can_be_simulated(detector, raster):
    try:
        settings = SimulationSettings(detectors={"mine": detector}, raster=raster, size=32)
    except SettingsError:
        return
    frame = Simulator(0, settings=settings).frame(0)
    rows, columns = (32, 32) if raster == "view" else detector["shape"]
    assert frame.pixels.shape in ((rows, columns), (columns, rows))
    assert math.isfinite(float(frame.pixels.sum()))
    assert frame.pixels.min() >= 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"grazing": 10**400},
        {"more_structures": 10**400},
        {"exposure": [1, 10**400]},
        {"structures": {"sphere": 10**400}},
        {"detectors": {"mine": {**OWN, "pixel_mm": 10**400}}},
    ],
)
def test_a_number_of_any_length_is_refused_in_words(wrong):
    with pytest.raises(SettingsError):
        SimulationSettings.from_dict(wrong)


def test_odds_whose_sum_is_infinite_are_refused():
    with pytest.raises(SettingsError):
        SimulationSettings(structures={"sphere": 1e308, "lattice": 1e308})
