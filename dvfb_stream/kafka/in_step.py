"""An annotator that waits for the rows of each batch, so that a kill costs the work on one, and not on two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dvfb_stream.annotations import Annotation
from dvfb_stream.frame_annotator import AnnotatorAround, FrameAnnotator
from dvfb_stream.frames import Frame

CLOSED = "its rows are not taken any more"
"""Why a batch is not annotated; the row that says so is not stored."""


class InStep(AnnotatorAround):
    """Annotates a batch once the rows of the batches before it are where they survive; prepares its frames meanwhile.

    Parameters
    ----------
    annotator
        What annotates.
    catch_up
        Blocks until they are; returns False where no row is taken any more. Nothing is annotated then.
    """

    def __init__(self, annotator: FrameAnnotator, catch_up: Callable[[], bool]) -> None:
        super().__init__(annotator)
        self._catch_up = catch_up

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order."""
        return self.annotate_prepared(self.prepare_all(frames))

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        """Return one annotation for each of what `prepare` returned, in their order."""
        if not self._catch_up():
            return [Annotation.failed(CLOSED, model=self.identity) for _ in prepared]
        return super().annotate_prepared(prepared)
