"""Settings: named, stored, hashed, and refused where they cannot be meant."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import CentreRounding, FourierBessel, FourierBesselSettings, PenaltyReading, Solver

some_settings = st.builds(
    FourierBesselSettings,
    view_shape=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    center_rounding=st.sampled_from(CentreRounding),
    radius=st.floats(1e-3, 1e6),
    n_radial=st.integers(1, 1200),
    orders=st.lists(st.integers(0, 60), min_size=1, unique=True).map(tuple),
    downsample=st.integers(1, 9),
    penalty=st.floats(0, 1e3),
    l1_ratio=st.floats(0, 1),
    reading=st.sampled_from(PenaltyReading),
    solver=st.sampled_from(Solver),
    tolerance=st.floats(1e-15, 1.0),
)


@given(some_settings)
def test_settings_survive_json_with_their_digest(settings):
    stored = json.loads(json.dumps(settings.as_dict()))
    assert stored["sha256"] == settings.digest
    assert FourierBesselSettings.from_dict(stored) == settings
    assert FourierBesselSettings.from_dict(stored).digest == settings.digest


@given(some_settings, some_settings)
def test_digests_are_equal_for_equal_settings_alone(one, other):
    assert (one.digest == other.digest) == (one == other)


def test_altered_settings_are_noticed():
    stored = {**FourierBesselSettings().as_dict(), "penalty": 2e-4}
    with pytest.raises(SettingsError, match="altered"):
        FourierBesselSettings.from_dict(stored)


def test_settings_stored_before_there_were_so_many_are_read():
    """Bundles in the field name neither view, solver nor digest."""
    old = {"radius": 256.0, "n_radial": 40, "orders": list(range(0, 21, 2)), "downsample": 2, "penalty": 1e-4}
    assert FourierBesselSettings.from_dict(old) == FourierBesselSettings()


def test_presets_are_the_two_readings():
    default, paper = (FourierBesselSettings.preset(name) for name in ("default", "paper"))
    assert default == FourierBesselSettings()
    assert (paper.reading, paper.penalty, paper.l1_ratio) == (PenaltyReading.UNIT_NORM, 1e-4, 0.8)
    assert paper.center_rounding is CentreRounding.PIXEL
    with pytest.raises(SettingsError, match="'best'; known: default, paper"):
        FourierBesselSettings.preset("best")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"view_shape": (256,)}, "view_shape must be two positive integers"),
        ({"view_shape": (256, 2.5)}, "must be integers"),
        ({"solver": "magic"}, "solver must be one of admm, fista, not 'magic'"),
        ({"center_rounding": "up"}, "center_rounding must be one of exact, pixel, not 'up'"),
        ({"n_radial": 1201}, "n_radial must be from 1 to 1200, not 1201"),
        ({"orders": (0, 5000)}, "orders must be distinct and from 0 to 2000"),
        ({"penalty": 1e300}, r"penalty must be from 0 to 1e\+12, not 1e\+300"),
        ({"penalty": "much"}, "penalty must be a number, not 'much'"),
        ({"tolerance": 0}, "tolerance must be positive"),
    ],
)
def test_settings_that_nobody_can_mean_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        FourierBesselSettings(**values)


def test_the_centre_is_rounded_only_where_the_settings_say_so():
    small = FourierBesselSettings(view_shape=(32, 40), radius=40.0, n_radial=3, orders=(0, 2), downsample=1)
    exact = FourierBessel.from_settings(small, center_x=10.4, center_y=11.5)
    assert (exact.center_x, exact.center_y) == (10.4, 11.5)
    rounded = FourierBessel.from_settings(
        small.changed(center_rounding=CentreRounding.PIXEL), center_x=10.4, center_y=11.5
    )
    assert (rounded.center_x, rounded.center_y) == (10.0, 12.0)
    image = np.random.default_rng(0).random((1, 32, 40))
    on_the_pixel = FourierBessel.from_settings(small, center_x=10.0, center_y=12.0)
    np.testing.assert_array_equal(rounded.estimate(image), on_the_pixel.estimate(image))
