"""Pixels lie where the geometry puts them, and count what a view of the detector would."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.simulation.beamline.detectors import DETECTORS
from dvfb_stream.simulation.beamline.experiment import WAVELENGTH, draw_experiment
from dvfb_stream.view import ViewResampler

OPEN = {"window": 0.0, "masked_beamstop": 0.0, "grazing": 0.0}


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("sideways", [0.0, 1.0])
def test_a_view_raster_is_the_view_of_the_detector(name, sideways):
    chosen = {**OPEN, "detectors": {name: 1.0}, "sideways": sideways}
    view = draw_experiment(3, 5, SimulationSettings(**chosen)).raster
    whole = draw_experiment(3, 5, SimulationSettings(**chosen, raster="detector")).raster
    plan = ViewResampler(whole.geometry)
    assert (view.geometry.center_x, view.geometry.center_y) == pytest.approx((plan.center_x, plan.center_y))
    assert view.view_center == pytest.approx((plan.center_x, plan.center_y))
    mask = np.ones((256, 256), dtype=bool) if view.geometry.mask is None else view.geometry.mask
    np.testing.assert_array_equal(mask, plan.mask)
    # Dead pixels take a few of the detector's from the plan's count.
    depth = plan.covered_pixels
    assert np.abs(view.depth.numpy() - np.maximum(depth, 1.0))[mask].max() <= 4


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("tilted", [0.0, 1.0])
@pytest.mark.parametrize("wide_angle", [0.0, 1.0])
def test_q_and_azimuth_of_a_pixel_are_pyfais(number, tilted, wide_angle):
    from pyFAI.geometry import Geometry

    chosen = SimulationSettings(
        **OPEN,
        raster="detector",
        detectors={"own": {"shape": [90, 70], "pixel_mm": 1.1}},
        wide_angle=wide_angle,
        tilted=tilted,
    )
    experiment = draw_experiment(11, number, chosen)
    raster, (rot1, rot2) = experiment.raster, experiment.tilt
    assert (abs(rot1) + abs(rot2) > 0.01) == bool(tilted)
    # pyFAI turns about the point of normal incidence; ours is the direct beam's.
    pixel, distance = 1.1e-3, experiment.distance_mm * 1e-3 * math.cos(rot1) * math.cos(rot2)
    beam = (raster.geometry.center_y + 0.5) * pixel, (raster.geometry.center_x + 0.5) * pixel
    reference = Geometry(
        dist=distance,
        poni1=beam[0] - distance * math.tan(rot2) / math.cos(rot1),
        poni2=beam[1] + distance * math.tan(rot1),
        rot1=rot1,
        rot2=rot2,
        pixel1=pixel,
        pixel2=pixel,
        wavelength=WAVELENGTH * 1e-10,
    )
    shape = raster.geometry.shape  # sideways or not
    q = reference.qArray(shape) / 10.0
    np.testing.assert_allclose(
        experiment.q_of_radii(raster.radius.double().numpy()), q, rtol=2e-5, atol=2e-5 * q.max()
    )
    chi = reference.chiArray(shape)
    away = np.hypot(raster.x.numpy(), raster.y.numpy()) > 5
    assert np.abs(np.angle(np.exp(1j * (raster.azimuth.numpy() - chi))))[away].max() < 1e-3


def test_a_pattern_is_sampled_where_its_radius_and_azimuth_say():
    experiment = draw_experiment(1, 0, SimulationSettings(**OPEN, wide_angle=0.0, tilted=0.0))
    table, raster = experiment.table, experiment.raster
    pattern = (table.azimuths.cos()[:, None] * table.radii).float()
    image = table.on_pixels(torch.cat((pattern, pattern[:1]))[None])[0]
    # r cos χ is x, but for the scattering angle's tangent, 1e-4 at these distances.
    torch.testing.assert_close(image, raster.x, atol=0.05, rtol=1e-3)


def test_bins_hold_every_valid_pixel_once():
    experiment = draw_experiment(1, 2, SimulationSettings(**OPEN))
    assert float(experiment.bins.pixels.sum()) == float(experiment.raster.valid.sum())
    reaching = (experiment.raster.transmission * experiment.raster.valid).double().sum()
    assert float(experiment.bins.seen.sum()) == pytest.approx(float(reaching), rel=1e-6)


def test_at_grazing_incidence_the_yoneda_line_is_brightest_and_the_horizon_dark():
    settings = SimulationSettings(window=0.0, masked_beamstop=0.0, grazing=1.0, middle=1.0)
    on_detector = 0
    for number in range(10):
        experiment = draw_experiment(4, number, settings)
        surface, raster = experiment.grazing, experiment.raster
        height = raster.x * math.cos(surface.normal) + raster.y * math.sin(surface.normal)
        per_radian = experiment.distance_mm / experiment.view_pixel_mm
        horizon, yoneda = (
            math.tan(angle) * per_radian
            for angle in (surface.incidence, surface.incidence + surface.critical)
        )
        assert float(raster.from_sample[height < horizon - 1].max()) == 0.0
        if yoneda > float(height.max()) - 3:
            continue
        on_detector += 1
        brightest = height[raster.from_sample == raster.from_sample.max()]
        assert float(brightest.mean()) == pytest.approx(yoneda, abs=1.5)
        assert 1.5 < float(raster.from_sample.max()) <= 4.0
    assert on_detector > 4


def test_experiments_cover_shares_and_exposures_evenly():
    """Forty experiments are enough for their shares: what is drawn for them runs through evenly spread points."""
    settings = SimulationSettings(size=32, detectors={"own": {"shape": [32, 32], "pixel_mm": 2.0}})
    drawn = [draw_experiment(9, number, settings) for number in range(100)]
    decade = np.log10([experiment.exposure for experiment in drawn])
    low, high = np.log10(settings.exposure)
    assert np.histogram(decade, bins=5, range=(low, high))[0].tolist() == pytest.approx([20] * 5, abs=3)
    assert sum(experiment.kind != "structured" for experiment in drawn) == pytest.approx(7, abs=2)
    assert sum(experiment.grazing is not None for experiment in drawn) == pytest.approx(5, abs=2)


def integrated_by_pyfai(frame):
    """Return q in 1/Å and mean counts, as pyFAI integrates a frame of the detector's pixels."""
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    told = frame.experiment
    pixel, rot1, rot2 = told["pixel_mm"] * 1e-3, told["rot1"], told["rot2"]
    distance = told["distance_mm"] * 1e-3 * math.cos(rot1) * math.cos(rot2)
    integrator = AzimuthalIntegrator(
        dist=distance,
        poni1=(frame.geometry.center_y + 0.5) * pixel - distance * math.tan(rot2) / math.cos(rot1),
        poni2=(frame.geometry.center_x + 0.5) * pixel + distance * math.tan(rot1),
        rot1=rot1,
        rot2=rot2,
        pixel1=pixel,
        pixel2=pixel,
        wavelength=WAVELENGTH * 1e-10,
    )
    return integrator.integrate1d(
        frame.pixels.astype(float),
        1000,
        mask=None if frame.geometry.mask is None else ~frame.geometry.mask,
        unit="q_A^-1",
        correctSolidAngle=False,
        method=("full", "csr", "cython"),
    )


@pytest.mark.parametrize("tilted", [0.0, 1.0])
@pytest.mark.parametrize("wide_angle", [0.0, 1.0])
def test_rings_lie_where_pyfai_finds_their_radii(tilted, wide_angle):
    pytest.importorskip("pyFAI", reason="pyFAI is not installed; the extra `files` brings it")
    nothing = ("background", "streaks", "zingers", "parasitic", "diffuse", "diffuse_only", "blank")
    chosen = SimulationSettings(
        **OPEN,
        **dict.fromkeys(nothing, 0.0),
        raster="detector",
        detectors={"own": {"shape": [400, 360], "pixel_mm": 0.25}},
        tilted=tilted,
        wide_angle=wide_angle,
        sample=1.0,
        more_structures=0.0,
        structures={"ad_hoc_rings": 1.0},
        exposure=(1000.0, 1000.0),
        frames_per_experiment=1,
        middle=1.0,
    )
    compared = 0
    for frame in Simulator(5, settings=chosen).frames(0, 8):
        (powder,) = frame.components
        radii, width = np.array(powder["radii"]), powder["width"]
        per_radius = frame.experiment["pixel_mm"] * 400 / 256 / frame.experiment["distance_mm"]
        q, counts = integrated_by_pyfai(frame)
        for radius in radii:
            low, middle, high = (
                4 * math.pi / WAVELENGTH * math.sin(0.5 * math.atan(at * per_radius))
                for at in (radius - width / 2, radius, radius + width / 2)
            )
            near = (q > low) & (q < high)
            alone = np.sum(np.abs(radii - radius) < 2 * width) == 1
            if not alone or near.sum() < 4 or counts[near].min() < 20:
                continue
            compared += 1
            # A parabola in the logarithm is a Gaussian. Its place in units of its full width: polarisation and solid
            # angle, which fall along it, move it by less than a hundredth.
            bend, slope, _ = np.polyfit((q[near] - middle) / (high - low), np.log(counts[near]), 2)
            assert -slope / (2 * bend) == pytest.approx(0.0, abs=0.01)
    assert compared >= 6
