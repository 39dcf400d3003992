"""Detectors are those that pyFAI defines, and those that a settings file describes."""

import numpy as np
import pytest

from dvfb_stream.errors import SettingsError
from dvfb_stream.simulation.beamline.detectors import DETECTORS, DetectorModel, covered_lines

PYFAI = {
    "pilatus_100k": "Pilatus100k",
    "pilatus_300k": "Pilatus300k",
    "pilatus_1m": "Pilatus1M",
    "pilatus_2m": "Pilatus2M",
    "eiger_1m": "Eiger1M",
    "eiger_4m": "Eiger4M",
}
ROUND = {"mar_165": "Mar165"}
"""pyFAI masks what lies beyond the phosphor; here the outline of an experiment says so."""


@pytest.mark.parametrize(("ours", "theirs"), PYFAI.items())
def test_shape_pixels_and_gaps_are_pyfais(ours, theirs):
    detectors = pytest.importorskip(
        "pyFAI.detectors", reason="pyFAI is not installed; the extra `files` brings it"
    )
    model, reference = DETECTORS[ours], detectors.detector_factory(theirs)
    assert model.shape == reference.shape
    assert reference.pixel1 == reference.pixel2 == pytest.approx(model.pixel_mm * 1e-3)
    # pyFAI marks what is not valid.
    np.testing.assert_array_equal(model.mask, reference.mask == 0)
    np.testing.assert_array_equal(model.mask, np.outer(model.valid_rows, model.valid_columns))


@pytest.mark.parametrize(("ours", "theirs"), ROUND.items())
def test_shape_and_pixels_of_a_binned_ccd_are_pyfais(ours, theirs):
    detectors = pytest.importorskip(
        "pyFAI.detectors", reason="pyFAI is not installed; the extra `files` brings it"
    )
    model, reference = DETECTORS[ours], detectors.detector_factory(theirs)
    reference.binning = (2, 2)
    assert model.shape == reference.shape
    assert reference.pixel1 == reference.pixel2 == pytest.approx(model.pixel_mm * 1e-3)


def test_every_detector_but_the_papers_is_compared():
    assert set(DETECTORS) - set(PYFAI) - set(ROUND) == {"ccd"}
    assert DETECTORS["ccd"].mask.all()


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_on_its_side_is_the_transposed_one(name):
    model = DETECTORS[name]
    np.testing.assert_array_equal(model.sideways.mask, model.mask.T)
    assert model.sideways.sideways == model
    assert (model.sideways.name, model.sideways.pixel_mm) == (model.name, model.pixel_mm)


def test_a_described_detector_has_its_modules_and_gaps():
    model = DetectorModel.from_dict(
        "mine", {"shape": [43, 50], "pixel_mm": 0.1, "module": [20, 15], "gap": [3, 2]}
    )
    rows, columns = np.ones(43, dtype=bool), np.ones(50, dtype=bool)
    rows[20:23] = False
    columns[[15, 16, 32, 33, 49]] = False  # the third module's gap begins on the last column
    np.testing.assert_array_equal(model.mask, np.outer(rows, columns))


def test_a_table_changes_a_known_detector_and_leaves_the_rest():
    changed = DetectorModel.from_dict("pilatus_1m", {"saturation": 1000})
    assert changed.saturation == 1000
    np.testing.assert_array_equal(changed.mask, DETECTORS["pilatus_1m"].mask)
    assert DETECTORS["pilatus_1m"].saturation != 1000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pixel_mm": float("nan")}, "pixel_mm must be a number from 0.0001 to 10, not nan"),
        ({"pixel_mm": True}, "pixel_mm must be a number from 0.0001 to 10, not True"),
        (
            {"module": (500, 500)},
            r"a module of \(500, 500\) pixels is larger than the detector, \(100, 120\)",
        ),
        (
            {"module": (50, 50), "gap": (-1, 0)},
            r"gap must be \[rows, columns\] from 0 to 1000, not \(-1, 0\)",
        ),
        ({"module": (50, 50.0)}, r"module must be \[rows, columns\] from 4 to 16384, not \(50, 50.0\)"),
        ({"shape": (10**9, 10)}, r"shape must be \[rows, columns\] from 16 to 16384, not \(1000000000, 10\)"),
        ({"saturation": 2**31}, "saturation must be a number from 1 to"),
        ({"point_spread": -0.1}, "point_spread must be a number from 0 to 20, not -0.1"),
        ({"uniformity": 0.9}, "uniformity must be a number from 0 to 0.5, not 0.9"),
    ],
)
def test_a_detector_that_cannot_be_is_refused(values, message):
    with pytest.raises(SettingsError, match=f"detector mine: {message}"):
        DetectorModel(**{"name": "mine", "shape": (100, 120), "pixel_mm": 0.1, **values})


@pytest.mark.parametrize("size", [32, 100, 256, 400])
def test_lines_of_a_view_share_the_detectors_lines_among_them(size):
    """Each line of a view covers as much as a fine ruler finds."""
    valid = DETECTORS["pilatus_2m"].valid_rows
    scale, offset = 1679 / 256 * 256 / size, 0.3
    covered = covered_lines(len(valid), valid.tobytes(), scale, offset, size)
    fine = (np.arange(size * 2000) + 0.5) / 2000
    at = np.floor((fine - offset) * scale).astype(int)
    inside = (at >= 0) & (at < len(valid))
    found = (
        np.where(inside, valid[at.clip(0, len(valid) - 1)], False).reshape(size, 2000).mean(axis=1) * scale
    )
    np.testing.assert_allclose(covered, found, atol=2 * scale / 2000)
