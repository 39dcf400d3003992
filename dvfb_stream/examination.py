"""What an annotator makes of frames besides annotations: for figures, and for heads of a beamline's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.annotations import Annotation
from dvfb_stream.annotator import Annotator
from dvfb_stream.frames import Frame
from dvfb_stream.view import View


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """All that was computed of one frame, for figures."""

    view: View
    coefficients: NDArray[np.complex64]
    """(n_radial, n_orders)."""
    reconstruction: NDArray[np.float32]
    """(128, 128) working pixels: what the coefficients say the view is, masked pixels filled in."""
    annotation: Annotation


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the network makes of frames before its last layers: what heads of a beamline's own are fitted to."""

    activations: NDArray[np.float32]
    """(N, hidden) of the first fully connected layer; NaN where a frame cannot be annotated."""
    scores: NDArray[np.float64]
    """(N, L) probabilities as they are; NaN likewise."""
    reasons: tuple[str, ...]
    """Of each frame, why it cannot be annotated; empty where it can."""


def examine(annotator: Annotator, frame: Frame) -> Examination:
    """Return view, coefficients, reconstruction and annotation of one frame.

    Raises
    ------
    FrameError, GeometryError
        When the frame cannot be annotated.
    """
    (result,) = annotator.infer([annotator.prepare(frame)])
    if isinstance(result, Exception):
        raise result
    estimator = annotator.estimator_of(result.view, frame.geometry)
    reconstruction = estimator.reconstruct(result.coefficients[None])[0].cpu().numpy()
    annotation = annotator.annotation(frame, result, keep_coefficients=True)
    return Examination(result.view, result.coefficients, reconstruction, annotation)


def features_of(annotator: Annotator, frames: Sequence[Frame]) -> Features:
    """Return the features of frames, in order, and what the model says of them as it is (section 4.3).

    Parameters
    ----------
    annotator
        Of the model.
    frames
        Any number, of any geometries.
    """
    activations = np.full((len(frames), annotator.hidden), np.nan, dtype=np.float32)
    scores = np.full((len(frames), len(annotator.labels)), np.nan)
    reasons = [""] * len(frames)
    for index, result in enumerate(annotator.infer([annotator.prepare(frame) for frame in frames])):
        if isinstance(result, Exception):
            reasons[index] = str(result)
        else:
            activations[index], scores[index] = result.activations, result.scores
    return Features(activations, scores, tuple(reasons))
