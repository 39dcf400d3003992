"""Whether an annotator returned what it must: one annotation a frame that can be written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

from dvfb_stream.annotations import Annotation, Status
from dvfb_stream.errors import DvfbError
from dvfb_stream.frames import Frame


class AnnotatorOutputError(DvfbError):
    """An annotator returned something other than one annotation a frame."""


def validated(returned: Any, frames: Sequence[Frame]) -> list[Annotation]:
    """Return what an annotator returned, in the order of the frames, each annotation with its frame's origin.

    Raises
    ------
    AnnotatorOutputError
        When it is not one annotation a frame, or one of them says what no row can: a score that is no number or
        infinite, a label that is no text, the origin of another frame.
    """
    if not isinstance(returned, Sequence):
        raise AnnotatorOutputError(f"the annotator returned {_shown(returned)}, not a list of annotations")
    if len(returned) != len(frames):
        raise AnnotatorOutputError(
            f"the annotator returned {len(returned)} annotations for {len(frames)} frames"
        )
    return [_validated(annotation, frame) for annotation, frame in zip(returned, frames, strict=True)]


def _validated(annotation: Any, frame: Frame) -> Annotation:
    if not isinstance(annotation, Annotation):
        raise AnnotatorOutputError(f"the annotator returned {_shown(annotation)} where an annotation was due")
    scores: Any = annotation.scores
    labels: Any = annotation.labels
    reason: Any = annotation.reason
    if annotation.status is Status.DROPPED:
        wrong = f"the status {_shown(annotation.status)}"
    elif not isinstance(reason, str):
        wrong = f"the reason {_shown(reason)}, which is no text"
    elif not isinstance(annotation.remark, str):
        wrong = f"the remark {_shown(annotation.remark)}, which is no text"
    elif not isinstance(annotation.masked_pixels, Integral):
        wrong = f"the number of masked pixels {_shown(annotation.masked_pixels)}, which is no integer"
    elif not isinstance(labels, list | tuple) or not _are_texts(labels):
        wrong = f"the labels {_shown(labels)}, not a tuple of texts"
    elif not isinstance(scores, Mapping) or not _are_texts(scores):
        wrong = f"the scores {_shown(scores)}, not those of labels"
    else:
        numbers: dict[str, Any] = {
            **scores,
            "fit_residual": annotation.fit_residual,
            "novelty": annotation.novelty,
        }
        wrong = ", ".join(
            f"{name} = {_shown(value)}, which is no finite number or NaN"
            for name, value in numbers.items()
            if not isinstance(value, Real) or math.isinf(value)
        )
    if wrong:
        raise AnnotatorOutputError(f"an annotation has {wrong}")
    if annotation.origin is None:
        return replace(annotation, origin=frame.origin)
    if annotation.origin != frame.origin:
        raise AnnotatorOutputError(f"the annotation of {annotation.origin} was returned for {frame.origin}")
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
