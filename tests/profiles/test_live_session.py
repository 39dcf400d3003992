"""Two lines in a beamline's own start-up are enough."""

from __future__ import annotations

import numpy as np
import pytest
from bluesky import plans as bp

from dvfb_stream.catalog import read_annotations
from dvfb_stream.catalog.arrays import read_array
from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.profiles.exposures import SimulatedExposures
from dvfb_stream.profiles.live_session import annotate_live
from dvfb_stream.profiles.simulated_detector import SimulatedDetector

from .conftest import PATIENCE


def described(model, detectors=""):
    return f'name = "trial"\nmodel = "{model}"\n[catalog]\nuri = "http://localhost:1"\n{detectors}'


@pytest.fixture
def on_server(catalog, monkeypatch):
    """The environment of a session for which a Tiled server runs already."""
    monkeypatch.setenv("TILED_URI", catalog.uri)
    monkeypatch.setenv("TILED_API_KEY", catalog.context.api_key)


def test_every_run_is_annotated_on_the_server_that_the_environment_names(
    run_engine, describe, tiny_bundle, on_server, catalog
):
    detector = SimulatedDetector(SimulatedExposures(), name="cam")
    geometry = f"shape = [256, 256]\ncenter_x = {detector.geometry.center_x}\ncenter_y = {detector.geometry.center_y}"
    text = described(tiny_bundle, f"[detectors.cam_image]\n{geometry}\n")
    live = annotate_live(run_engine, describe('arrays = ["features"]\n' + text))
    (uid,) = run_engine(bp.count([detector], 3))
    assert live.wait(PATIENCE)
    live.close()
    rows = read_annotations(catalog, uid)
    assert [row["status"] for row in rows] == ["ok"] * 3
    frames, features = read_array(catalog, rows[0]["analysis_uid"], "features")
    assert frames.tolist() == [0, 1, 2]
    assert np.isfinite(features).all()


def test_a_beamline_without_detectors_gets_rows_that_say_what_is_missing(
    run_engine, describe, tiny_bundle, on_server, catalog
):
    live = annotate_live(run_engine, describe(described(tiny_bundle)))
    (uid,) = run_engine(bp.count([SimulatedDetector(SimulatedExposures(), name="cam")]))
    assert live.wait(PATIENCE)
    live.close()
    (row,) = read_annotations(catalog, uid)
    assert "no geometry is known for 'cam_image'" in row["reason"]


def test_what_cannot_be_started_is_one_clear_error(run_engine, describe, tiny_bundle, on_server, monkeypatch):
    with pytest.raises(BundleError, match="no model 'gone'"):
        annotate_live(run_engine, describe(described("gone")))
    with pytest.raises(SettingsError, match="unknown array 'labels'; there are coefficients, features"):
        annotate_live(run_engine, describe(described(tiny_bundle)), arrays=["labels"])
    monkeypatch.setenv("TILED_API_KEY", "0123456789abcdef")
    with pytest.raises(
        SettingsError, match=r"the catalog http.* cannot be opened .*TILED_API_KEY"
    ) as refused:
        annotate_live(run_engine, describe(described(tiny_bundle)))
    assert "0123456789abcdef" not in str(refused.value)
