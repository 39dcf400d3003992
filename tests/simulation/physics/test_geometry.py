"""A flat detector against what follows from its drawing; `references` has pyFAI's."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dvfb_stream.simulation.physics.geometry import DetectorPose, q_of, two_theta_of

UPRIGHT = {"center_x": 30.25, "center_y": 41.5, "distance_mm": 200.0, "pixel_mm": (0.172, 0.172)}


def pixels():
    y, x = torch.meshgrid(torch.arange(90.0).double(), torch.arange(70.0).double(), indexing="ij")
    return x, y


def test_an_upright_detector_sees_the_projects_azimuth_and_the_arctangent_of_the_radius():
    x, y = pixels()
    pose = DetectorPose(**UPRIGHT)
    torch.testing.assert_close(pose.azimuth(x, y), torch.atan2(y - 41.5, x - 30.25))
    torch.testing.assert_close(
        pose.two_theta(x, y), torch.atan(torch.hypot(x - 30.25, y - 41.5) * 0.172 / 200.0)
    )
    torch.testing.assert_close(pose.solid_angle(x, y), torch.cos(pose.two_theta(x, y)) ** 3)


@given(rot1=st.floats(-0.4, 0.4), rot2=st.floats(-0.4, 0.4))
def test_a_tilt_turns_the_detector_about_the_direct_beam(rot1, rot2):
    pose = DetectorPose(**UPRIGHT, rot1=rot1, rot2=rot2)
    beam = torch.tensor(30.25, dtype=torch.float64), torch.tensor(41.5, dtype=torch.float64)
    assert float(pose.two_theta(*beam)) == 0.0
    assert float(pose.solid_angle(*beam)) == 1.0
    # Where each pixel lies, from its direction and its distance from the sample: as far from the beam as ever.
    x, y = pixels()
    two_theta, azimuth = pose.two_theta(x, y), pose.azimuth(x, y)
    away = 200.0 * pose.solid_angle(x, y) ** (-1.0 / 3.0)
    across, along = away * torch.sin(two_theta), away * torch.cos(two_theta)
    at = torch.stack((across * torch.cos(azimuth), across * torch.sin(azimuth), along - 200.0))
    torch.testing.assert_close(at.norm(dim=0), 0.172 * torch.hypot(x - 30.25, y - 41.5))


def test_the_side_that_a_tilt_brings_nearer_is_seen_at_a_larger_angle():
    right, left = (torch.tensor(30.25 + step, dtype=torch.float64) for step in (400.0, -400.0))
    below, above = (torch.tensor(41.5 + step, dtype=torch.float64) for step in (400.0, -400.0))
    x, y = torch.tensor(30.25, dtype=torch.float64), torch.tensor(41.5, dtype=torch.float64)
    about_vertical = DetectorPose(**UPRIGHT, rot1=0.2)
    assert about_vertical.two_theta(right, y) > about_vertical.two_theta(left, y)
    about_horizontal = DetectorPose(**UPRIGHT, rot2=0.2)
    assert about_horizontal.two_theta(x, below) < about_horizontal.two_theta(x, above)


def test_the_pixels_of_a_wide_detector_cover_nearly_half_the_sphere():
    # Σ dΩ of a plane is 2π (1 - cos of its edge); a disk of 40 distances, of pixels a tenth of the distance.
    pose = DetectorPose(center_x=0.0, center_y=0.0, distance_mm=10.0, pixel_mm=(1.0, 1.0))
    line = torch.arange(-400.0, 401.0).double()
    y, x = torch.meshgrid(line, line, indexing="ij")
    inside = torch.hypot(x, y) <= 400.0
    total = float((pose.solid_angle(x, y)[inside] * (1.0 / 10.0) ** 2).sum())
    assert total == pytest.approx(2.0 * math.pi * (1.0 - math.cos(math.atan(40.0))), rel=1e-3)


def test_a_polarised_beam_scatters_nothing_along_its_polarisation_at_a_right_angle():
    pose = DetectorPose(center_x=0.0, center_y=0.0, distance_mm=1e-9, pixel_mm=(1.0, 1.0))
    sideways = (
        torch.tensor([100.0, 0.0], dtype=torch.float64),
        torch.tensor([0.0, 100.0], dtype=torch.float64),
    )
    assert pose.polarisation(*sideways, 1.0).tolist() == pytest.approx([0.0, 1.0])
    assert pose.polarisation(*sideways, -1.0).tolist() == pytest.approx([1.0, 0.0])
    assert pose.polarisation(*sideways, 0.0).tolist() == pytest.approx([0.5, 0.5])


@given(q=st.floats(1e-4, 8.0), wavelength=st.floats(0.3, 1.5))
def test_scattering_vectors_and_angles_are_each_others_inverse(q, wavelength):
    angle = two_theta_of(torch.tensor(q, dtype=torch.float64), wavelength)
    assert float(q_of(angle, wavelength)) == pytest.approx(q, rel=1e-9)


def test_braggs_law():
    # λ = 2 d sin θ at q = 2π / d
    angle = two_theta_of(torch.tensor(2.0 * math.pi / 3.0, dtype=torch.float64), 1.2)
    assert 2.0 * 3.0 * math.sin(0.5 * float(angle)) == pytest.approx(1.2)
