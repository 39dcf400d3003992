"""Whether what an annotator answered is what it must answer: one annotation a frame that can be written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.errors import DvfbError
from dvfb_stream.frames import Frame


class AnswerError(DvfbError):
    """An annotator returned something other than one annotation a frame."""


def checked(answer: Any, frames: Sequence[Frame]) -> list[Annotation]:
    """Return what an annotator answered, in the order of the frames, each annotation with its frame's origin.

    Raises
    ------
    AnswerError
        When it is not one annotation a frame, or one of them says what no row can: a score that is no number or
        infinite, a label that is no text, the origin of another frame.
    """
    if not isinstance(answer, Sequence):
        raise AnswerError(f"the annotator returned {_shown(answer)}, not a list of annotations")
    if len(answer) != len(frames):
        raise AnswerError(f"the annotator returned {len(answer)} annotations for {len(frames)} frames")
    return [_checked(annotation, frame) for annotation, frame in zip(answer, frames, strict=True)]


def _checked(annotation: Any, frame: Frame) -> Annotation:
    if not isinstance(annotation, Annotation):
        raise AnswerError(f"the annotator returned {_shown(annotation)} where an annotation was due")
    if annotation.status not in (Status.OK, Status.FAILED):
        raise AnswerError(f"an annotation has the status {_shown(annotation.status)}")
    if not isinstance(annotation.reason, str):
        raise AnswerError(f"an annotation has the reason {_shown(annotation.reason)}, which is no text")
    if not isinstance(annotation.labels, list | tuple) or not _are_texts(annotation.labels):
        raise AnswerError(f"an annotation has the labels {_shown(annotation.labels)}, not a tuple of texts")
    if not isinstance(annotation.scores, Mapping) or not _are_texts(annotation.scores):
        raise AnswerError(f"an annotation has the scores {_shown(annotation.scores)}, not those of labels")
    numbers: dict[str, Any] = {
        **annotation.scores,
        "fit_residual": annotation.fit_residual,
        "novelty": annotation.novelty,
    }
    for name, value in numbers.items():
        if not isinstance(value, Real) or math.isinf(value):
            raise AnswerError(
                f"an annotation says {name} = {_shown(value)}, which is no finite number or NaN"
            )
    if annotation.origin is None:
        return replace(annotation, origin=frame.origin)
    if annotation.origin != frame.origin:
        raise AnswerError(f"the annotation of {annotation.origin} was returned for {frame.origin}")
    return annotation


def _are_texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _shown(value: object) -> str:
    """Return what can be said of a value in a line: it may be an array of a million numbers, or raise."""
    try:
        said = repr(value)
    except Exception:  # noqa: BLE001 - then there is nothing to show
        said = "what cannot be shown"
    return f"{said[:80]} ({type(value).__name__})"
