"""From files to rows: frames are batched across files, and each gets its row in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from dvfb_stream.annotations import Annotation
from dvfb_stream.cli.frame_files import Events, Failures, FramePlace, FrameRead, read_all
from dvfb_stream.files import Detector
from dvfb_stream.frame_annotator import SupportsAnnotate
from dvfb_stream.frames import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatedFrame(FramePlace):
    """What became of one frame of a file."""

    number: int
    """Of the row, from 0, over all files."""
    annotation: Annotation
    frame: Frame | None = field(repr=False)
    """None where it could not be read."""
    file_remark: str = ""
    """What the annotation's remark ends with: it holds for the whole file."""


def annotate_files(
    annotator: SupportsAnnotate, files: Sequence[str], detector: Detector, *, batch_size: int, events: Events
) -> Iterator[AnnotatedFrame]:
    """Yield a row for each frame of `files`, in order; a file that cannot be opened has none.

    At most `batch_size` frames are in memory.
    """
    told = (Failures(events), Failures(_Notes(events)))
    pending: list[FrameRead] = []
    number = 0
    for read in read_all(files, detector, events):
        pending.append(read)
        if len(pending) == batch_size:
            yield from _told(_rows(annotator, pending, number), *told)
            number += len(pending)
            pending.clear()
    yield from _told(_rows(annotator, pending, number), *told)
    for each in told:
        each.tell()


class _Notes:
    """Tells what `Failures` gathers as notes."""

    def __init__(self, events: Events) -> None:
        self.opened = events.opened
        self.failed = self.noted = events.noted


def _told(rows: Iterator[AnnotatedFrame], failures: Failures, remarks: Failures) -> Iterator[AnnotatedFrame]:
    for row in rows:
        annotation = row.annotation
        failures.see(row, None if annotation.ok else annotation.reason)
        remarks.see(row, annotation.remark.removesuffix(row.file_remark).strip() or None)
        yield row


def _rows(annotator: SupportsAnnotate, batch: Sequence[FrameRead], number: int) -> Iterator[AnnotatedFrame]:
    if not batch:
        return
    annotated = iter(annotator.annotate([read.frame for read in batch if read.frame is not None]))
    for offset, read in enumerate(batch):
        if read.frame is None:
            annotation = Annotation.failed(read.reason, model=annotator.identity)
        else:
            annotation = next(annotated)
            both = " ".join(filter(None, (annotation.remark, read.remark)))
            annotation = replace(annotation, remark=both)
        yield AnnotatedFrame(
            number=number + offset,
            position=read.position,
            file=read.file,
            index=read.index,
            count=read.count,
            annotation=annotation,
            frame=read.frame,
            file_remark=read.remark,
        )
