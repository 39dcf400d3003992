"""Module masks against the detectors' own drawings, and shapes of beamstops."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.simulation.physics import beamline


def test_a_pilatus_1m_at_its_own_resolution_has_the_gaps_of_its_manual():
    mask = beamline.module_mask(beamline.DETECTORS["pilatus_1m"], size=1043, offset=(0, 0))
    gap_rows = np.flatnonzero(~mask[:, 0])
    assert list(gap_rows[:17]) == list(range(195, 212))
    assert len(gap_rows) == 4 * 17
    assert list(np.flatnonzero(~mask[0])) == list(range(487, 494)) + list(range(981, 1043))
    assert mask.sum() == 10 * 195 * 487


def test_a_view_of_a_detector_keeps_its_sensitive_share():
    modules = beamline.DETECTORS["eiger_4m"]
    mask = beamline.module_mask(modules, size=256, offset=(0, 5))
    sensitive = 8 * modules.module[0] * modules.module[1] / 2167**2
    assert mask.mean() == pytest.approx(sensitive, abs=0.02)
    assert not mask[:, :5].any()


def test_beamstops_cover_the_beam_and_leave_the_opposite_side_free():
    y, x = torch.meshgrid(torch.arange(-50.0, 51.0), torch.arange(-50.0, 51.0), indexing="ij")
    for shape in (
        beamline.bar(x, y, direction=0.0, half_width=4.0),
        beamline.disk_on_arm(x, y, direction=0.0, radius=6.0, arm=1.0),
        beamline.wedge(x, y, direction=0.0, half_angle=math.radians(15.0), overlap=6.0),
    ):
        hidden = shape < 0
        assert hidden[50, 50]
        assert hidden[50, 100]  # the holder comes from the right
        assert not hidden[50, :40].any()
        assert not hidden[:20, 50].any()


def test_zingers_only_add():
    counts = np.ones((64, 64), dtype=np.float32)
    beamline.add_zingers(np.random.default_rng(0), counts, brightness=100.0)
    assert counts.min() == 1.0
    assert 3 <= (counts > 1).sum() < 400
