"""Which real frames a model is surest of, label by label: the right ones, and those that it is wrong about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dvfb_stream.annotations import Annotation
from dvfb_stream.cli.labelled.folder import RealFrame
from dvfb_stream.labels import ALL_LABELS

FRAMES_SHOWN = 5
"""Right ones, and as many wrong ones."""


class Verdict(StrEnum):
    """What became of a label on a frame of which it is known."""

    RIGHT = "accepted"
    WRONG = "accepted, but not there"
    MISSED = "there, but rejected"
    UNDECIDED = "there, but doubtful"


@dataclass(frozen=True, slots=True)
class JudgedFrame:
    """A real frame and what the model says of it."""

    real: RealFrame
    annotation: Annotation

    def verdict(self, label: str) -> Verdict | None:
        """Return what became of a label; None where it is not known, or the frame has it not and is not given it."""
        there = self.real.labels.get(label)
        if there is None or label not in self.annotation.scores:
            return None
        if label in self.annotation.labels:
            return Verdict.RIGHT if there else Verdict.WRONG
        if not there:
            return None
        return Verdict.UNDECIDED if label in self.annotation.doubtful else Verdict.MISSED


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFrames:
    """The frames of one label that are shown, and of how many."""

    label: str
    right: tuple[JudgedFrame, ...]
    """Rightly accepted, the most probable first."""
    wrong: tuple[JudgedFrame, ...]
    """Wrongly accepted, the most probable first; behind them those that were missed, the least probable first."""
    known: int
    """Frames of which the label is known."""
    counts: dict[Verdict, int]
    """All frames of each verdict."""


def most_confident(judged: Sequence[JudgedFrame], label: str, number: int = FRAMES_SHOWN) -> LabelFrames:
    """Return the frames on which the model is surest of a label; among equals in the order of `judged`.

    Parameters
    ----------
    judged
        All frames that were annotated.
    label
        One of `ALL_LABELS`.
    number
        Of right ones, and of wrong ones.
    """
    verdicts = [(frame, frame.verdict(label)) for frame in judged]

    def score(frame: JudgedFrame) -> float:
        return frame.annotation.scores[label]

    def of(*wanted: Verdict) -> list[JudgedFrame]:
        return sorted((frame for frame, verdict in verdicts if verdict in wanted), key=score)

    accepted = {
        one: sorted(of(one), key=lambda frame: -score(frame)) for one in (Verdict.RIGHT, Verdict.WRONG)
    }
    wrong = [*accepted[Verdict.WRONG], *of(Verdict.MISSED, Verdict.UNDECIDED)]
    return LabelFrames(
        label=label,
        right=tuple(accepted[Verdict.RIGHT][:number]),
        wrong=tuple(wrong[:number]),
        known=sum(label in frame.real.labels and label in frame.annotation.scores for frame in judged),
        counts={one: sum(verdict is one for _, verdict in verdicts) for one in Verdict},
    )


def labels_shown(judged: Sequence[JudgedFrame]) -> list[str]:
    """Return the labels of which there is a frame to show, in the order of `ALL_LABELS`."""
    return [label for label in ALL_LABELS if any(frame.verdict(label) is not None for frame in judged)]
