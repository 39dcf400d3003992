"""Aims are printed beside what was measured, and reached where the figure keeps to the bound."""

from __future__ import annotations

import pytest

from dvfb_stream.cli.measure import aims
from dvfb_stream.cli.measure.aims import Aim
from dvfb_stream.cli.measure.real_sheets import ALTERATIONS, SHARES
from dvfb_stream.labels import ALL_LABELS


@pytest.mark.parametrize(
    ("aim", "value", "told"),
    [
        (Aim(0.9), 0.9, ">= 0.90, reached"),
        (Aim(0.9), 0.899, ">= 0.90, missed"),
        (Aim(0.06, at_most=True), 0.06, "<= 0.06, reached"),
        (Aim(0.06, at_most=True), 0.061, "<= 0.06, missed"),
        (Aim(0.9), None, ">= 0.90"),
    ],
)
def test_a_figure_reaches_its_aim_or_misses_it(aim, value, told):
    assert aim.beside(value) == told
    assert aim.reached(value) == told.endswith("reached")


def test_aims_are_of_what_is_measured():
    assert set(aims.OF_ALTERATIONS) == set(ALTERATIONS)
    assert set(aims.OF_REAL_FRAMES) <= set(SHARES)
    assert {*aims.OF_ROC_AREA, *aims.OF_GRAZING_FRAMES} <= set(ALL_LABELS)
