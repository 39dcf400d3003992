"""The benchmark of independent sets: its measures on labels by hand, and a few frames the whole way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.label_scores import JudgedLabels, measure, roc_area
from dvfb_stream.annotations import Annotation, ModelIdentity, Status
from dvfb_stream.reproduction.independent_sets.grazing_incidence import KNOWN

ROOT = Path(__file__).parents[1]
MODEL = ModelIdentity(name="any", version="1", sha256="0" * 64)


def annotation(labels=(), doubtful=(), **scores):
    return Annotation(status=Status.OK, model=MODEL, labels=labels, doubtful=doubtful, scores=scores)


@pytest.fixture
def judged():
    # Four frames: right, wrong acceptance, missed, doubtful.
    truths = [
        {"rings": True, "halo": False, "grazing": False},
        {"rings": False, "halo": False, "grazing": False},
        {"rings": True, "halo": True, "grazing": True},
        {"rings": True},
    ]
    said = [
        annotation(("rings",), rings=0.9, halo=0.1, grazing=0.2),
        annotation(("rings",), rings=0.8, halo=0.2, grazing=0.1),
        annotation(("halo", "grazing"), rings=0.3, halo=0.7, grazing=0.9),
        annotation((), ("rings",), rings=0.6, halo=0.9, grazing=0.0),
    ]
    return JudgedLabels.of(truths, said)


def test_measures_of_labels_are_those_that_a_hand_counts(judged):
    found = measure(judged)
    assert found["frames"] == 4
    assert found["precision"] == pytest.approx(2 / 3)  # rings, rings, halo; grazing is none of the ten
    assert found["recall"] == pytest.approx(2 / 4)
    assert found["all_right"] == pytest.approx(1 / 4)
    assert found["doubtful_frames"] == pytest.approx(1 / 4)
    rings = found["labels"]["rings"]
    assert [rings[name] for name in ("have_it", "have_it_not", "right", "wrong", "missed", "doubt")] == [
        3,
        1,
        1,
        1,
        2,
        1,
    ]
    # By score: there, not there, there, there.
    assert rings["average_precision"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert rings["roc_area"] == pytest.approx(1 / 3)
    assert found["labels"]["halo"]["average_precision"] == 1.0
    assert found["mean_average_precision"] == pytest.approx((1 + rings["average_precision"]) / 2)
    assert set(found["labels"]) == {"rings", "halo", "grazing"}


def test_what_is_not_known_of_a_frame_counts_nowhere(judged):
    # The last frame's halo, called 0.9, is not known.
    assert measure(judged)["labels"]["halo"]["have_it_not"] == 2
    stated = measure(judged)["expected_calibration_error"]
    errors = [0.1, 0.1, 0.8, 0.2, 0.7, 0.3, 0.4]  # each alone in its bin of 1/15
    assert stated == pytest.approx(sum(errors) / len(errors))


def test_labels_without_a_number_have_no_rank_and_no_error():
    truths = [{"grazing": True}, {"grazing": False}]
    found = measure(JudgedLabels.of(truths, [annotation(rings=0.5), annotation(rings=0.5)]))
    assert found["labels"]["grazing"]["roc_area"] is None
    assert found["labels"]["grazing"]["missed"] == 1
    assert found["expected_calibration_error_all_labels"] is None
    assert found["mean_average_precision"] is None


def test_several_sets_are_measured_as_one(judged):
    both = JudgedLabels.together([judged, judged])
    assert len(both) == 8
    assert measure(both)["precision"] == measure(judged)["precision"]
    assert roc_area(both.scores[:, 0], both.truth[:, 0]) is None


@pytest.mark.slow
def test_a_few_frames_of_each_set_go_the_whole_way():
    for package in ("sasmodels", "pyFAI", "diffsims", "bornagain"):
        pytest.importorskip(package)
    command = ["benchmarks.independent_sets", "--simulated", "4", "--foreign", "3", "--grazing", "3"]
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["left_out"] == {}
    frames = {name: found["frames"] for name, found in measured["sets"].items()}
    assert frames == {"simulated": 4, "single": 3, "mixed": 3, "diffsims": 3, "bornagain": 3, "grazing": 3}
    assert measured["foreign"]["frames"] == 12
    assert measured["grazing"]["frames"] == 3
    assert set(measured["sets"]["grazing"]["labels"]) == set(KNOWN)
