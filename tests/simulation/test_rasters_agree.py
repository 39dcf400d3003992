"""A frame is the same whatever raster shows it: the detector's own pixels, seen through a view, or the view at once.

Both count photons anew, so they agree to counting noise. Besides, the direct view takes the intensity in the middle
of its pixels where the detector's are averaged. That is no difference where intensity runs straight, and up to a
tenth of it where it bends most: at edges of beamstops and gaps and on spots as small as a pixel.
"""

import math

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter

from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.view import FULL_SCALE, MAXIMUM, ViewResampler

EVEN = {"grazing": 0.0, "window": 0.0, "zingers": 0.0}
"""Without what hides or brightens single pixels."""
SMOOTH = {
    "symmetry_halo": 1.0,
    "mesostructure": 1.0,
    "sphere": 1.0,
    "symmetry_ring": 1.0,
    "ad_hoc_rings": 1.0,
}
"""Structures without spots and speckles as small as a pixel."""


class Twice:
    """One frame on both rasters."""

    def __init__(self, index, *, seed=8, **chosen):
        settings = SimulationSettings(**chosen, raster="detector")
        self.whole = Simulator(seed, settings=settings).frame(index)
        self.direct = Simulator(seed, settings=SimulationSettings(**chosen)).frame(index)
        self.plan = ViewResampler(self.whole.geometry)
        self.view = self.plan.view(self.whole.pixels)
        mask = self.direct.geometry.mask
        self.mask = np.ones((256, 256), dtype=bool) if mask is None else mask
        self.both = self.mask & self.view.mask
        self.through = np.expm1(self.view.image.astype(float) * (FULL_SCALE / MAXIMUM))
        """Mean counts seen through the view of the detector's frame."""
        self.at_once = self.direct.pixels.astype(float)
        number = index // settings.frames_per_experiment
        self.experiment = draw_experiment(seed, number, SimulationSettings(**chosen))
        self.depth = self.experiment.raster.depth.double().numpy()
        """Detector pixels that a view pixel averages."""

    @property
    def away_from_edges(self):
        """Valid pixels, three from the shade of a beamstop, two from what is invalid or clipped."""
        reaching = self.experiment.raster.transmission.numpy()
        shaded = reaching < 0.95 * np.median(reaching[self.mask])
        # Pixels that clip one by one are less than their mean, clipped.
        full = self.whole.pixels >= self.experiment.detector.saturation
        clipped = self.plan.view(full.astype(np.float32)).image > 0
        return (
            self.both
            & ~binary_dilation(shaded, iterations=3)
            & ~binary_dilation(~self.both | clipped, iterations=2)
        )


@pytest.mark.parametrize(
    ("detector", "frames"),
    [
        # Of experiments with 0.03, 15 and 15,000 counts a pixel, and one at grazing incidence.
        ("ccd", [3, 12, 18, 21]),
        ("pilatus_1m", [3, 12, 18, 21]),
        ("pilatus_300k", [3, 12, 18, 21]),
        ("eiger_4m", [12]),
    ],
)
def test_frames_of_any_exposure_agree_to_counting_noise(detector, frames):
    for index in frames:
        twice = Twice(index, detectors={detector: 1.0}, frames_per_experiment=3, zingers=0.0)
        whole, direct = twice.whole, twice.direct
        assert whole.labels == direct.labels
        assert whole.components == direct.components
        assert whole.experiment == direct.experiment
        assert (twice.plan.center_x, twice.plan.center_y) == pytest.approx(
            (direct.geometry.center_x, direct.geometry.center_y), abs=1e-9
        )
        # A view pixel is valid with a quarter of its area; the direct view asks its middle whether a masked
        # beamstop covers it.
        assert np.mean(twice.mask != twice.view.mask) < 0.004

        both, depth = twice.both, twice.depth
        difference = twice.through - twice.at_once
        # Expected counts are those of the neighbourhood: a single pixel without counts would seem to have no noise.
        around = gaussian_filter(np.where(both, twice.through + twice.at_once, 0.0), 1.5) / 2
        around /= np.maximum(gaussian_filter(both.astype(float), 1.5), 1e-9)
        photons = 2 * np.maximum(around, 1e-3) / depth
        # 3 %: bilinear interpolation, and pixels that respond unevenly, by 1.5 % at most.
        variance = photons + (0.03 * np.maximum(twice.through, twice.at_once)) ** 2
        chi_square = (difference**2 / variance)[both]
        assert chi_square.mean() < 1.1, index
        assert np.mean(chi_square > 16) < 0.005, index
        # The sum: four deviations of its photons, and half a percent of interpolation. The direct beam's own tail is
        # steeper than that.
        valid = twice.away_from_edges & (twice.experiment.raster.radius.numpy() > 25)
        noise = math.sqrt(((twice.through + twice.at_once) / depth)[valid].sum())
        assert abs(difference[valid].sum()) < 4 * noise + 0.005 * twice.at_once[valid].sum() + 1, index


@pytest.mark.parametrize("side", [512, 768, 1024])
def test_the_difference_is_no_less_than_counting_noise(side):
    """Where nothing else differs, chi-square is 1: the direct view counts as many photons as its pixel averages.

    On detectors whose pixels fall into a view's whole; one that two view pixels share is averaged twice.
    """
    twice = Twice(
        0,
        **EVEN,
        detectors={"even": {"shape": [side, side], "pixel_mm": 76.8 / side, "uniformity": 0.0}},
        blank=1.0,
        diffuse_only=0.0,
        streaks=0.0,
        tilted=0.0,
        wide_angle=0.0,
        background=1.0,
        exposure=(2000.0, 2000.0),
    )
    valid = twice.away_from_edges
    difference = (twice.through - twice.at_once)[valid]
    variance = ((twice.through + twice.at_once) / twice.depth)[valid]
    assert twice.at_once[valid].mean() > 2.0
    # Four deviations of a mean of chi-squares.
    assert np.mean(difference**2 / variance) == pytest.approx(1.0, abs=4 * math.sqrt(2 / valid.sum()))


@pytest.mark.parametrize("detector", ["ccd", "pilatus_1m", "pilatus_300k"])
def test_bright_frames_agree_beyond_noise(detector):
    """Blurred by two pixels, noise taken off: all but a hundredth within 1 %, and all within a tenth."""
    sigma = 2.0
    for index in (0, 1, 5):
        twice = Twice(
            index,
            **EVEN,
            seed=30,
            detectors={detector: 1.0},
            frames_per_experiment=1,
            blank=0.0,
            diffuse_only=0.0,
            sample=1.0,
            structures=SMOOTH,
            anisotropic_low_q=0.0,
            background=1.0,
            exposure=(500.0, 500.0),
        )
        valid = twice.away_from_edges
        weight = gaussian_filter(valid.astype(float), sigma)
        through, at_once = (
            gaussian_filter(np.where(valid, image, 0.0), sigma) / np.maximum(weight, 1e-9)
            for image in (twice.through, twice.at_once)
        )
        shown = valid & (weight > 0.5) & (at_once > 1.0)
        assert shown.sum() > 10_000
        # A blurred pixel has the photons of 4πσ² pixels.
        noise = np.sqrt(2 * at_once[shown] / twice.depth[shown] / (4 * math.pi * sigma**2))
        apart = np.maximum(np.abs(through - at_once)[shown] - 4 * noise, 0.0) / at_once[shown]
        assert np.quantile(apart, 0.99) < 0.01, index
        assert apart.max() < 0.1, index


@pytest.mark.parametrize("size", [100, 400])
def test_a_view_of_another_size_shows_the_same(size):
    chosen = {
        **EVEN,
        "detectors": {"plain": {"shape": [1024, 1024], "pixel_mm": 0.075, "uniformity": 0.0}},
        "exposure": (500.0, 500.0),
        "frames_per_experiment": 1,
        "masked_beamstop": 0.0,
        "structures": SMOOTH,
        "background": 1.0,
    }
    usual = Simulator(3, settings=SimulationSettings(**chosen))
    other = Simulator(3, settings=SimulationSettings(**chosen, size=size))
    for index in range(3):
        one, two = usual.frame(index), other.frame(index)
        assert one.labels == two.labels
        assert one.components == two.components
        assert two.pixels.shape == (size, size)
        centres = [np.array([f.geometry.center_x, f.geometry.center_y]) + 0.5 for f in (one, two)]
        np.testing.assert_allclose(centres[0] / 256, centres[1] / size, rtol=1e-9)
        # The upper and the lower quarter, away from the beamstop.
        quarters = [f.pixels.reshape(4, -1, f.pixels.shape[1]).mean(axis=(1, 2)) for f in (one, two)]
        np.testing.assert_allclose(quarters[0][[0, 3]], quarters[1][[0, 3]], rtol=0.02, atol=0.01)
