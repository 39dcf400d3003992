"""Detectors are those that pyFAI defines."""

import numpy as np
import pytest

from dvfb_stream.files.detectors import detector_mask
from dvfb_stream.simulation.beamline.detectors import DETECTORS, covered_lines

PYFAI = {
    "pilatus_300k": "Pilatus300k",
    "pilatus_1m": "Pilatus1M",
    "pilatus_2m": "Pilatus2M",
    "eiger_1m": "Eiger1M",
    "eiger_4m": "Eiger4M",
}


@pytest.mark.parametrize(("ours", "theirs"), PYFAI.items())
def test_shape_pixels_and_gaps_are_pyfais(ours, theirs):
    import pyFAI.detectors

    model = DETECTORS[ours]
    np.testing.assert_array_equal(model.mask, detector_mask(theirs))
    reference = pyFAI.detectors.detector_factory(theirs)
    assert reference.pixel1 == reference.pixel2 == pytest.approx(model.pixel_mm * 1e-3)


def test_every_detector_but_the_papers_is_compared():
    assert set(DETECTORS) - set(PYFAI) == {"ccd"}


def test_a_detector_on_its_side_is_the_transposed_one():
    model = DETECTORS["pilatus_1m"]
    np.testing.assert_array_equal(model.sideways.mask, model.mask.T)


def test_lines_of_a_view_add_up_to_the_detectors():
    valid = DETECTORS["pilatus_2m"].valid_rows
    covered = covered_lines(len(valid), valid.tobytes(), 1679 / 256, 0.0, 256)
    assert covered.sum() == pytest.approx(valid.sum())
    assert covered.max() == pytest.approx(1679 / 256)
