"""Whether a bundle is whole and does what bundles are for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dvfb_stream import Annotator, Frame, Geometry
from dvfb_stream.errors import DvfbError
from dvfb_stream.models import load_bundle


def problems_of(folder: Path) -> list[str]:
    """Return what is wrong with a bundle, a line each.

    Form, hash, tensors and calibration are checked when it is read; then its card is looked for, and a blank and a
    noisy frame are annotated.
    """
    try:
        bundle = load_bundle(folder)
    except DvfbError as error:
        return [str(error)]
    problems = []
    try:
        if not (folder / "CARD.md").read_text(encoding="utf-8").strip():
            problems.append(f"{folder / 'CARD.md'} is empty")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{folder} has no readable CARD.md: {error}")
    geometry = Geometry(shape=(128, 128), center_x=60.0, center_y=70.0)
    noise = np.random.default_rng(0).poisson(20.0, geometry.shape)
    try:
        annotations = Annotator(bundle, device="cpu").annotate(
            [Frame(pixels, geometry) for pixels in (np.zeros(geometry.shape, int), noise)]
        )
    except (DvfbError, ValueError, RuntimeError) as error:
        return [*problems, f"{folder} cannot annotate a frame: {error}"]
    for kind, annotation in zip(("blank", "noisy"), annotations, strict=True):
        if not annotation.ok:
            problems.append(f"{folder} cannot annotate a {kind} frame: {annotation.reason}")
        elif not all(0.0 <= score <= 1.0 for score in annotation.scores.values()):
            problems.append(f"{folder} gives a {kind} frame probabilities that are none: {annotation.scores}")
    return problems
