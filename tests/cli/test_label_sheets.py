"""The frames of a label's sheet are those that the model is surest of, right and wrong; the sheet shows them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from dvfb_stream.annotations import Annotation, ModelIdentity, Status
from dvfb_stream.cli.labelled.folder import read_folder
from dvfb_stream.cli.measure.label_frames import JudgedFrame, Verdict, labels_shown, most_confident
from dvfb_stream.cli.measure.label_sheets import draw_label_sheet
from dvfb_stream.labels import LABELS

MODEL = ModelIdentity(name="m", version="1", sha256="0" * 64)
SHAPE = (120, 100)
FRAMES = (
    # name, has it, probability, what the model says
    ("a", True, 0.91, "accepted"),
    ("b", True, 0.97, "accepted"),
    ("c", True, 0.97, "accepted"),
    ("d", False, 0.80, "accepted"),
    ("e", False, 0.99, "accepted"),
    ("f", True, 0.20, "rejected"),
    ("g", True, 0.40, "doubtful"),
    ("h", True, 0.10, "doubtful"),
    ("i", False, 0.01, "rejected"),
    ("j", False, 0.60, "doubtful"),
    ("k", None, 0.999, "accepted"),
)


@pytest.fixture
def judged(tmp_path):
    """Eleven frames with a twofold pattern, and what a model says of their label two_fold."""
    y, x = np.indices(SHAPE)
    azimuth = np.arctan2(y - 55.0, x - 45.0)
    listed = []
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        for number, (name, has, _, _) in enumerate(FRAMES):
            mean = 300 * (1 + 0.4 * np.cos(2 * azimuth + number))
            file[name] = np.random.default_rng(number).poisson(mean).astype(np.int32)
            labels = {"rings": False} if has is None else {"rings": False, "two_fold": has}
            listed.append(
                {
                    "id": name,
                    "file": "frames.h5",
                    "dataset": name,
                    "setup": f"set-up of {name}, $odd_name",
                    "beam_center_x": 45.0,
                    "beam_center_y": 55.0,
                    "labels": labels,
                }
            )
    (tmp_path / "labels.json").write_text(json.dumps(listed))
    return [
        JudgedFrame(
            real,
            Annotation(
                status=Status.OK,
                model=MODEL,
                scores=dict.fromkeys(LABELS, 0.1) | {"two_fold": score},
                labels=("two_fold",) if said == "accepted" else (),
                doubtful=("two_fold",) if said == "doubtful" else (),
            ),
        )
        for real, (_, _, score, said) in zip(read_folder(tmp_path), FRAMES, strict=True)
    ]


def names(frames):
    return [frame.real.name for frame in frames]


def test_the_surest_are_shown_right_ones_and_wrong_ones_then_missed_ones(judged):
    found = most_confident(judged, "two_fold")
    # Among equals in the order of the list; of k nothing is known.
    assert names(found.right) == ["b", "c", "a"]
    # Wrongly accepted from the most probable down, then missed from the least probable up.
    assert names(found.wrong) == ["e", "d", "h", "f", "g"]
    assert found.known == 10
    assert found.counts == {
        Verdict.RIGHT: 3,
        Verdict.WRONG: 2,
        Verdict.MISSED: 1,
        Verdict.UNDECIDED: 2,
    }
    assert [frame.verdict("two_fold") for frame in found.wrong] == [
        Verdict.WRONG,
        Verdict.WRONG,
        Verdict.UNDECIDED,
        Verdict.MISSED,
        Verdict.UNDECIDED,
    ]
    fewer = most_confident(judged, "two_fold", 2)
    assert (names(fewer.right), names(fewer.wrong)) == (["b", "c"], ["e", "d"])
    assert fewer.counts == found.counts


def test_labels_without_a_frame_to_show_have_no_sheet(judged):
    # Rings are known of all, and rightly rejected; the model does not know grazing, though it is known.
    judged[0].real.labels["grazing"] = True
    assert labels_shown(judged) == ["two_fold"]
    assert most_confident(judged, "grazing").known == 0


def test_a_sheet_has_view_map_and_contrasts_of_each_frame(judged, tmp_path):
    figure = draw_label_sheet(most_confident(judged, "two_fold"), model=str(MODEL))
    right, wrong = figure.subfigs
    drawn = [[axes for axes in part.axes if axes.axison] for part in (right, wrong)]
    assert [len(axes) for axes in drawn] == [3 * 3, 3 * 5]
    titles = [axes.get_title() for axes in drawn[1] if axes.get_title()]
    assert [title.splitlines()[0] for title in titles] == [f"set-up of {n}, $odd_name: {n}" for n in "edhfg"]
    assert [title.splitlines()[1] for title in titles] == [
        "probability 0.99: accepted, but not there",
        "probability 0.80: accepted, but not there",
        "probability 0.10: there, but doubtful",
        "probability 0.20: there, but rejected",
        "probability 0.40: there, but doubtful",
    ]
    # 0.4 / sqrt 2, less what noise may feign.
    assert all(title.splitlines()[2].startswith("measured order 2, contrast 0.2") for title in titles)
    assert right.get_suptitle() == "rightly accepted: 3, the most probable first"
    assert wrong.get_suptitle() == (
        "accepted, but not there: 2, the most probable first; there, but not accepted: 3 (2 doubtful), "
        "the least probable first"
    )
    assert figure.get_suptitle() == f"2-fold symmetry, known of 10 real frames · {MODEL}"
    figure.savefig(tmp_path / "sheet.png")


def test_nothing_wrong_leaves_the_lower_half_empty(judged, tmp_path):
    figure = draw_label_sheet(most_confident(judged[:3], "two_fold"), model=str(MODEL))
    right, wrong = figure.subfigs
    assert (len(right.axes), len(wrong.axes)) == (15, 0)
    assert wrong.get_suptitle() == "accepted, but not there: none; there, but not accepted: none"
    figure.savefig(tmp_path / "sheet.png")
