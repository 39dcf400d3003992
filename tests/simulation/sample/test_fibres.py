"""Fibres repeat every half turn, and are called so wherever they can be seen."""

import json

import numpy as np
import pytest

from dvfb_stream.labels import LABELS
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.simulation.beamline.experiment import draw_experiment
from dvfb_stream.simulation.components import Drawn
from dvfb_stream.simulation.draws import Draws, Stream
from dvfb_stream.simulation.sample.fibres import fibre
from dvfb_stream.simulation.sample.structure_request import StructureRequest

FIBRES = 20


@pytest.fixture(scope="module")
def drawn():
    """Twenty fibres, the table they are drawn on, and what was told of them."""
    experiment = draw_experiment(1, 0, SimulationSettings(detectors={"ccd": 1.0}, wide_angle=0.0, tilted=0.0))
    result, rows = Drawn(), np.arange(FIBRES)
    draws, level = Draws(0, Stream.STRUCTURE, rows, 360), np.full(FIBRES, 100.0)
    fibre(result, StructureRequest(draws, experiment, rows, rows, level))
    return experiment.view_table, result, [result.records[0].row(row) for row in range(FIBRES)]


def along(values, angle):
    """Return a pattern's values along the ray nearest to an angle."""
    return values[round((angle % (2.0 * np.pi)) / (2.0 * np.pi) * len(values)) % len(values)]


def test_a_half_turn_leaves_a_fibre_as_it_is(drawn):
    table, result, _ = drawn
    for part in result.patterns:
        pattern = part.full(table)
        assert bool((pattern >= 0).all())
        np.testing.assert_allclose(
            pattern, pattern.roll(len(table.azimuths) // 2, dims=1), rtol=1e-6, atol=1e-9
        )


def test_what_a_fibre_lacks_is_told_as_nothing(drawn):
    _, _, told = drawn
    json.dumps(told, allow_nan=False)
    assert any(fact["layers"] and fact["spacing"] is not None for fact in told)
    for fact in told:
        assert (fact["spacing"] is None) == (fact["layers"] == 0)
        assert (fact["radius"] is None) == (fact["q"] is None) == (fact["width"] is None)
    assert {fact["radius"] is None for fact in told} == {True, False}


def test_the_streak_lies_across_the_axis_and_falls_outwards(drawn):
    table, result, told = drawn
    pattern = result.patterns[0].full(table).numpy()
    for values, fact in zip(pattern, told, strict=True):
        equator, meridian = (along(values, angle) for angle in (fact["axis"] + 0.5 * np.pi, fact["axis"]))
        assert (np.diff(equator[20:]) <= 1e-9 * equator[20]).all()
        outside = table.radii.numpy() > 5.0 * fact["thickness"]
        assert (equator[outside] > meridian[outside]).all()


def test_layer_lines_cross_the_meridian_at_multiples_of_their_spacing(drawn):
    table, result, told = drawn
    _, lines = result.patterns
    radii = table.radii.numpy()
    sharp = 0
    for values, row in zip(lines.full(table).numpy(), lines.frame, strict=True):
        fact = told[row]
        if fact["spacing"] < 8.0 * fact["thickness"] or fact["spacing"] > radii[-1]:
            continue
        # Beside the meridian: of some fibres there is nothing on it.
        beside = along(values, fact["axis"] + 0.05)
        near = np.abs(radii - fact["spacing"]) < 0.4 * fact["spacing"]
        assert radii[near][np.argmax(beside[near])] == pytest.approx(fact["spacing"], rel=0.1)
        sharp += 1
    assert sharp > 2


def test_reflections_lie_on_the_equator_where_hexagonal_packing_has_them(drawn):
    _, result, told = drawn
    maxima = result.maxima[0]
    packed = [
        row
        for row, fact in enumerate(told)
        if fact["radius"] is not None and fact["radius"] == fact["radius"]
    ]
    assert set(maxima.structure.tolist()) <= set(packed)
    assert 4 < len(packed) < 16
    for row in set(maxima.structure.tolist()):
        ratios = maxima.radius[maxima.structure == row] / told[row]["radius"]
        np.testing.assert_allclose(ratios, np.array([1.0, np.sqrt(3.0), 2.0])[: len(ratios)])


def test_bright_fibres_alone_are_two_fold_and_of_no_other_order():
    settings = SimulationSettings(
        structures={"fibre": 1.0}, exposure=(100.0, 100.0), sample=1.0, more_structures=0.0, diffuse=0.0,
        blank=0.0, diffuse_only=0.0, parasitic=0.0, frames_per_experiment=4,
    )  # fmt: skip
    found = Simulator(5, settings=settings).labels(0, 100).numpy()
    share = dict(zip(LABELS, found.mean(axis=0), strict=True))
    assert share["two_fold"] > 0.75
    assert share["four_fold"] == share["six_fold"] == share["halo"] == share["diffuse_high_q"] == 0
