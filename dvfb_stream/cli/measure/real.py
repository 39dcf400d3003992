"""``dvfb evaluate --real``, ``dvfb invariance``: a model on a folder of real frames, as they are and altered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.annotator import Annotator
from dvfb_stream.cli.labelled.folder import RealFrame
from dvfb_stream.errors import FrameError, GeometryError, SettingsError
from dvfb_stream.frames import Frame
from dvfb_stream.training.real_frames.invariance import measure_invariance
from dvfb_stream.training.real_frames.judged_frames import judged_frames, measure
from dvfb_stream.training.real_frames.setups import DRAWS
from dvfb_stream.training.real_frames.ways import THOROUGH, Ways

FRAMES_AT_A_TIME = 8
"""Read and annotated together; of the largest detectors they take some 150 MB."""

QUICK_FRAMES = 3
"""Of a set-up: sister frames say little that is new."""


def measure_real(
    annotator: Annotator,
    frames: Sequence[RealFrame],
    *,
    draws: int = DRAWS,
    seen: Callable[[RealFrame, Annotation], None] = lambda real, annotation: None,
    advance: Callable[[], None] = lambda: None,
    failed: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Return what `measure` returns of frames of a folder, and what the model says of each; JSON-ready.

    Parameters
    ----------
    annotator
        The model.
    frames
        Of `read_folder`.
    draws
        Of the bootstrap over set-ups.
    seen
        Called with each frame that is annotated, and its annotation.
    advance
        Called when a frame is done.
    failed
        Called with one line for each frame that cannot be read or annotated; it is not measured.

    Returns
    -------
    dict
        As `measure`, besides ``model``, ``failures`` and ``judged``: of each frame its ``name``, ``setup``, known
        ``truth``, ``scores``, accepted ``labels``, ``doubtful`` ones, ``measured_order`` and ``measured_contrast``
        (null where nothing was measured), ``fit_residual`` and ``novelty``. `judged_frames` takes it back.

    Raises
    ------
    SettingsError
        When none can be annotated, or of none a label is known.
    """
    if not any(frame.labels for frame in frames):
        raise SettingsError(
            f"none of the {len(frames)} frames has a known label; write true or false under `labels`"
        )
    judged = list(annotated(annotator, frames, advance=advance, failed=failed))
    if not judged:
        raise SettingsError(f"none of the {len(frames)} frames can be annotated")
    for real, annotation in judged:
        seen(real, annotation)
    told = [_told(real, annotation) for real, annotation in judged]
    found = measure(judged_frames(told), draws=draws)
    return {
        "model": str(annotator.identity),
        "operating_point": annotator.operating_point,
        "failures": len(frames) - len(judged),
        **found,
        "judged": told,
    }


def measure_altered(
    annotator: Annotator,
    frames: Sequence[RealFrame],
    *,
    ways: Ways = THOROUGH,
    draws: int = DRAWS,
    advance: Callable[[], None] = lambda: None,
    failed: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Return what `measure_invariance` returns of frames of a folder, with ``model`` and ``failures``; JSON-ready.

    Parameters are those of `measure_real` but `seen`, and the ways of `measure_invariance`. A failure is a frame, as
    it is or altered, that cannot be annotated. Give frames of one set-up together, as `by_setup` has them: those of
    one geometry share what the model keeps of it.

    Raises
    ------
    SettingsError
        When none can be annotated.
    """
    failures: list[str] = []

    def tell(message: str) -> None:
        failures.append(message)
        failed(message)

    found = measure_invariance(
        annotator.annotate,
        _readable(frames, tell, advance),
        ways=ways,
        draws=draws,
        advance=advance,
        failed=tell,
    )
    if not found["frames"]:
        raise SettingsError(f"none of the {len(frames)} frames can be annotated")
    return {
        "model": str(annotator.identity),
        "operating_point": annotator.operating_point,
        "failures": len(failures),
        **found,
    }


def by_setup(frames: Sequence[RealFrame], most: int | None = None) -> list[RealFrame]:
    """Return frames set-up by set-up, of each the first so many; None: all."""
    setups: dict[str, list[RealFrame]] = {}
    for frame in frames:
        setups.setdefault(frame.setup, []).append(frame)
    return [frame for of_one in setups.values() for frame in of_one[:most]]


def _readable(
    frames: Sequence[RealFrame], failed: Callable[[str], None], advance: Callable[[], None]
) -> Iterator[tuple[str, str, Frame]]:
    for real in frames:
        try:
            frame = real.read()
        except (FrameError, GeometryError) as error:
            failed(f"{real.name}: {error}")
            advance()
        else:
            yield real.name, real.setup, frame


def annotated(
    annotator: Annotator,
    frames: Sequence[RealFrame],
    *,
    advance: Callable[[], None],
    failed: Callable[[str], None],
) -> Iterator[tuple[RealFrame, Annotation]]:
    """Yield what the model says of each frame that it can annotate, in order; see `measure_real`."""
    for start in range(0, len(frames), FRAMES_AT_A_TIME):
        read: list[tuple[RealFrame, Frame]] = []
        for real in frames[start : start + FRAMES_AT_A_TIME]:
            try:
                read.append((real, real.read()))
            except (FrameError, GeometryError) as error:
                failed(f"{real.name}: {error}")
                advance()
        annotations = annotator.annotate([frame for _, frame in read])
        for (real, _), annotation in zip(read, annotations, strict=True):
            advance()
            if annotation.ok:
                yield real, annotation
            else:
                failed(f"{real.name}: {annotation.reason}")


def _told(real: RealFrame, annotation: Annotation) -> dict[str, Any]:
    contrast = annotation.measured_contrast
    return {
        "name": real.name,
        "setup": real.setup,
        "truth": real.labels,
        "scores": dict(annotation.scores),
        "labels": list(annotation.labels),
        "doubtful": list(annotation.doubtful),
        "measured_order": annotation.measured_order,
        "measured_contrast": contrast if math.isfinite(contrast) else None,
        "fit_residual": annotation.fit_residual,
        "novelty": annotation.novelty,
    }
