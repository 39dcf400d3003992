"""Rods of films lie along the normal of the surface, at their places on both sides."""

import math

import numpy as np
import pytest
import torch

from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.sample.films import MOST_RODS, Rods

ONLY = {
    "sample": 1.0,
    **dict.fromkeys(("blank", "diffuse_only", "diffuse", "streaks", "zingers", "background", "window"), 0.0),
    **dict.fromkeys(("parasitic", "wide_angle", "tilted"), 0.0),
}


def rods(**chosen):
    count = 1 + MOST_RODS
    values = {
        "frame": np.zeros(1, dtype=np.int64), "normal": -0.5 * math.pi, "horizon": 10.0, "specular": 20.0,
        "yoneda": 15.0, "place": np.zeros((1, count)), "width": np.ones((1, count)),
        "length": np.full((1, count), 20.0), "height": np.zeros((1, count)), "exponent": np.full((1, count), 2.0),
        "reflection": np.zeros(1), "stripe": np.array([[0.0, 10.0]]),
    }  # fmt: skip
    return Rods(**{**values, **chosen})


def at(figure, x, y):
    # Up is towards smaller y.
    point = (torch.tensor([float(x)], dtype=torch.float64), torch.tensor([-float(y)], dtype=torch.float64))
    return float(figure.at(*point, 0, step=0.0))


def first(values):
    return np.array([[*values, *[0.0] * (1 + MOST_RODS - len(values))]])


def test_a_rod_stands_at_its_place_on_both_sides_and_falls_above_the_horizon():
    figure = rods(place=first([0.0, 30.0]), height=first([5.0, 2.0]))
    assert at(figure, 0.0, 10.0) == pytest.approx(5.0, rel=1e-6)
    for side in (-30.0, 30.0):
        assert at(figure, side, 10.0) == pytest.approx(2.0, rel=1e-6)
        assert at(figure, side + 1.0, 10.0) == pytest.approx(2.0 * math.exp(-0.5), rel=1e-6)
        assert at(figure, side, 30.0) == pytest.approx(1.0, rel=1e-6)  # 1 / (1 + (20 / 20)²)
    assert at(figure, 15.0, 20.0) < 1e-6


def test_the_specular_reflection_and_the_stripe_lie_at_their_heights():
    assert at(rods(reflection=np.array([7.0])), 0.0, 20.0) == pytest.approx(7.0)
    stripe = rods(stripe=np.array([[4.0, 10.0]]))
    assert at(stripe, 0.0, 15.0) == pytest.approx(4.0)
    assert at(stripe, -10.0, 15.0) == pytest.approx(2.0)
    assert at(stripe, 0.0, 17.0) == pytest.approx(4.0 * math.exp(-0.5))


def test_a_broader_pixel_keeps_what_a_rod_scatters():
    across = torch.linspace(-50.0, 50.0, 10_001, dtype=torch.float64)
    figure = rods(height=first([5.0]))
    sums = [
        float(figure.at(across, torch.full_like(across, -10.0), 0, step=step).sum()) for step in (0.0, 4.0)
    ]
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)


def settings(**chosen):
    return SimulationSettings(
        **{
            **ONLY,
            "grazing": 1.0,
            "films": 1.0,
            "frames_per_experiment": 2,
            "exposure": (300.0, 300.0),
            **chosen,
        }
    )


def test_the_beam_of_a_film_falls_near_the_edge_below_the_sample():
    for number in range(16):
        experiment = draw_experiment(3, number, settings(detectors={"ccd": 1.0}))
        geometry, normal = experiment.raster.geometry, experiment.grazing.normal
        height = (geometry.center_x - 127.5) * math.cos(normal) + (geometry.center_y - 127.5) * math.sin(
            normal
        )
        assert -0.46 * 256 < height < -0.09 * 256


def test_films_show_grazing_incidence_and_no_folds_and_nothing_of_them_lies_below_the_horizon():
    simulator = Simulator(4, settings=settings(fold_rule="contrast", structures={"sphere": 1.0}))
    found = dict(zip(ALL_LABELS, simulator.all_labels(0, 40).numpy().T, strict=True))
    assert found["grazing"].mean() > 0.8
    assert not any(found[fold].any() for fold in ("two_fold", "four_fold", "six_fold"))
    for frame in simulator.frames(0, 12):
        described = frame.experiment["grazing_incidence"]
        y, x = np.mgrid[:256, :256]
        right, down = x - frame.geometry.center_x, y - frame.geometry.center_y
        height = right * math.cos(described["normal"]) + down * math.sin(described["normal"])
        hidden = (height < -2) & (np.hypot(right, down) > 30)
        if frame.geometry.mask is not None:
            hidden &= frame.geometry.mask
        assert not hidden.any() or frame.pixels[hidden].mean() < 0.1


def test_structures_of_a_film_are_aligned_to_its_surface():
    simulator = Simulator(5, settings=settings(structures={"symmetry_ring": 1.0}, more_structures=0.0))
    seen = 0
    for frame in simulator.frames(0, 30):
        for part in frame.components:
            if part["name"] == "symmetry_ring":
                off = (part["phase"] - frame.experiment["grazing_incidence"]["normal"]) % (0.5 * math.pi)
                assert min(off, 0.5 * math.pi - off) < 0.06
                seen += 1
    assert seen > 4
