"""An annotator that notes which frames it has in hand, and does not touch those that ended the process twice."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dvfb_stream.annotations import Annotation
from dvfb_stream.daemon.refused_runs import Post
from dvfb_stream.dead_letters.deaths import Item, frame_item
from dvfb_stream.dead_letters.in_hand import InHand
from dvfb_stream.dead_letters.letter import Content, DeadLetter, Kind
from dvfb_stream.dead_letters.post import nothing
from dvfb_stream.frame_annotator import AnnotatorAround, FrameAnnotator
from dvfb_stream.frames import Frame

logger = logging.getLogger(__name__)


class _Spared:
    """A frame that is not touched: what `prepare` makes of it."""

    def __init__(self, annotation: Annotation) -> None:
        self.annotation = annotation


class WatchedAnnotator(AnnotatorAround):
    """Of an annotator; frames that were in hand at a death are annotated one by one, so that the next names one.

    Parameters
    ----------
    annotator
        What annotates.
    in_hand
        Notes of this process and others.
    post
        Takes a letter for each frame that is not touched any more.
    """

    def __init__(self, annotator: FrameAnnotator, in_hand: InHand, post: Post) -> None:
        super().__init__(annotator)
        self._in_hand = in_hand
        self._post = post

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        """Return one annotation per frame, in their order."""
        return self._each(frames, [_item(frame) for frame in frames], self._annotator.annotate)

    def prepare(self, frame: Frame) -> Any:
        """Return what `annotate_prepared` takes of a frame."""
        item = _item(frame)
        spared = self._spared(frame, item)
        if spared is not None:
            return _Spared(spared), item
        with self._in_hand.holding([item]):
            return self._annotator.prepare(frame), item

    def prepare_all(self, frames: Sequence[Frame]) -> list[Any]:
        """Return what `prepare` returns for each frame, in their order."""
        items = [_item(frame) for frame in frames]
        if any(self._in_hand.suspicion(item) is not None for item in items):
            return [self.prepare(frame) for frame in frames]
        with self._in_hand.holding(items):
            return list(zip(self._annotator.prepare_all(frames), items, strict=True))

    def annotate_prepared(self, prepared: Sequence[Any]) -> list[Annotation]:
        """Return one annotation for each of what `prepare` returned, in their order."""
        things, items = [thing for thing, _ in prepared], [item for _, item in prepared]
        return self._each(things, items, self._annotator.annotate_prepared)

    def _each(
        self,
        things: Sequence[Any],
        items: Sequence[Item],
        annotate: Callable[[Sequence[Any]], list[Annotation]],
    ) -> list[Annotation]:
        alone = [
            number
            for number, (thing, item) in enumerate(zip(things, items, strict=True))
            if isinstance(thing, _Spared) or self._in_hand.suspicion(item) is not None
        ]
        if not alone:
            with self._in_hand.holding(items):
                return annotate(things)
        found: dict[int, Annotation] = {}
        for number in alone:
            thing, item = things[number], items[number]
            spared = thing.annotation if isinstance(thing, _Spared) else self._spared(thing, item)
            if spared is None:
                with self._in_hand.holding([item]):
                    (spared,) = annotate([thing])
            found[number] = spared
        others = [number for number in range(len(things)) if number not in found]
        if others:
            with self._in_hand.holding([items[number] for number in others]):
                annotations = annotate([things[number] for number in others])
            found.update(zip(others, annotations, strict=True))
        return [found[number] for number in range(len(things))]

    def _spared(self, frame: Any, item: Item) -> Annotation | None:
        """Return the annotation of a frame that is not touched any more; None: it is."""
        suspicion = self._in_hand.suspicion(item)
        if suspicion is None or not suspicion.convicts or not isinstance(frame, Frame):
            return None
        reason = f"the frame is not annotated: {suspicion}"
        _, run, stream, key, index = item
        about = f"frame {index} of {key!r} in stream {stream!r}"
        logger.error("%s of run %s is not annotated, and a dead letter: %s", about, run, suspicion)
        letter = DeadLetter(
            kind=Kind.KILLER, reason=str(suspicion), time=time.time(), content=Content.PIXELS,
            value=_file_of(frame), run=str(run), about=about,
        )  # fmt: skip
        self._post(letter, nothing)
        return Annotation.failed(reason, model=self.identity, origin=frame.origin)


def _item(frame: Frame) -> Item:
    origin = frame.origin
    if origin is None:
        return frame_item("", "", "", -1)
    return frame_item(origin.run_uid, origin.stream, origin.data_key, origin.index)


def _file_of(frame: Frame) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(frame.pixels), allow_pickle=False)
    return file.getvalue()
