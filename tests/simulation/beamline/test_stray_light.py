"""Stray light lies on one side of the beam: flares along a direction, arcs around another point."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.simulation.beamline.stray_light import ARC, FLARE, Stray

directions = st.floats(0.0, 2.0 * math.pi)


def at(stray, x, y):
    return float(stray.at(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)))


@given(direction=directions, length=st.floats(5.0, 60.0), width=st.floats(0.7, 4.0))
def test_a_flare_halves_at_its_length_and_leaves_the_other_side_dark(direction, length, width):
    flare = Stray(
        kind=FLARE, direction=direction, length=length, width=width, opening=0.0, bulge=1.0, height=2.0
    )
    along = math.cos(direction), math.sin(direction)
    assert at(flare, length * along[0], length * along[1]) == pytest.approx(1.0, rel=1e-6)
    assert at(flare, -length * along[0], -length * along[1]) == 0.0
    beside = length * along[0] - width * along[1], length * along[1] + width * along[0]
    assert at(flare, *beside) == pytest.approx(math.exp(-0.5), rel=1e-6)


def test_a_flare_that_widens_keeps_its_light():
    """Across, the integral falls as the flare does without opening."""
    across = torch.linspace(-200.0, 200.0, 40_001, dtype=torch.float64)
    for distance in (10.0, 50.0):
        sums = [
            float(
                Stray(
                    kind=FLARE, direction=0.0, length=30.0, width=2.0, opening=opening, bulge=1.0, height=1.0
                )
                .at(torch.full_like(across, distance), across)
                .sum()
            )
            for opening in (0.0, 0.1)
        ]
        assert sums[0] == pytest.approx(sums[1], rel=1e-6)


@given(direction=directions, distance=st.floats(12.0, 110.0), bulge=st.floats(0.4, 3.0))
def test_an_arc_is_brightest_at_its_distance_and_falls_off_it(direction, distance, bulge):
    arc = Stray(
        kind=ARC, direction=direction, length=distance, width=2.0, opening=0.3, bulge=bulge, height=3.0
    )
    along = math.cos(direction), math.sin(direction)
    assert at(arc, distance * along[0], distance * along[1]) == pytest.approx(3.0, rel=1e-6)
    off = distance + 2.0
    assert at(arc, off * along[0], off * along[1]) == pytest.approx(3.0 * math.exp(-0.5), rel=1e-5)
    # On its circle it has the same radius from its own middle, and fades by the angle there.
    middle = distance * (1.0 - bulge)
    turned = direction + 0.3
    x = middle * along[0] + bulge * distance * math.cos(turned)
    y = middle * along[1] + bulge * distance * math.sin(turned)
    assert at(arc, x, y) == pytest.approx(3.0 * math.exp(-0.5), rel=1e-5)
