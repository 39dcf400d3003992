"""Reads the frames that a table of labels names, each with the geometry that it was taken in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvfb_stream.cli.frame_files import Failures, FrameRead, read_all
from dvfb_stream.cli.labelled.table import LabelledFrame, LabelTable
from dvfb_stream.cli.options import detector_description
from dvfb_stream.cli.terminal import FailureReporter, ProgressBar, WrongCallError
from dvfb_stream.files.beam_centre import BeamCentre

if TYPE_CHECKING:
    from pathlib import Path

    from dvfb_stream.files import Detector

FRAMES_AT_A_TIME = 16
"""Read and taken through the network together; bounds memory."""

Batch = list[tuple[FrameRead, LabelledFrame]]


@dataclass(frozen=True, slots=True)
class FramesOfACentre:
    """Frames of a table that share a geometry."""

    detector: Detector
    frames: list[LabelledFrame]


def by_centre(
    table: LabelTable,
    *,
    center_x: float | None,
    center_y: float | None,
    poni: Path | None,
    mask: Sequence[str],
    detector: str | None,
) -> list[FramesOfACentre]:
    """Return the frames of each beam centre, with the geometry that they share.

    Parameters
    ----------
    table
        Its own centres win.
    center_x, center_y, poni, mask, detector
        Options of the command, for frames whose centre the table does not say.

    Raises
    ------
    WrongCallError
        When a frame has no centre.
    SettingsError
        When a mask, detector or .poni file cannot be used.
    """
    given = not (center_x is None and center_y is None and poni is None)
    without = [frame for frame in table.frames if frame.center is None]
    if without and not given:
        raise WrongCallError(
            f"{table.path} line {without[0].line} has no beam centre: give --center-x and --center-y or --poni, or "
            "fill in the columns center_x and center_y"
        )
    if not given:
        # Stands for all: the description needs one, and each frame gets its own below.
        assert table.frames[0].center is not None
        center_x, center_y = table.frames[0].center
    described = detector_description(center_x, center_y, poni, list(mask), detector).load()
    groups: dict[tuple[float, float] | None, list[LabelledFrame]] = {}
    for frame in table.frames:
        groups.setdefault(frame.center, []).append(frame)
    return [
        FramesOfACentre(
            described if center is None else described.with_centre(BeamCentre(x=center[0], y=center[1])),
            frames,
        )
        for center, frames in groups.items()
    ]


def files_of(groups: Sequence[FramesOfACentre]) -> int:
    """Return how many files are opened."""
    return sum(len({frame.file for frame in group.frames}) for group in groups)


def batches(
    table: LabelTable,
    groups: Sequence[FramesOfACentre],
    progress: ProgressBar,
    reporter: FailureReporter,
    take: Callable[[Batch, Failures], None],
) -> None:
    """Read all frames and have `take` take them, some at a time; those that cannot be read among them.

    A frame that the table does not name rightly costs a line on stderr.
    """
    for group in groups:
        failures = Failures(reporter)
        batch: Batch = []
        for pair in _read(table, group, reporter):
            batch.append(pair)
            progress.advance()
            if len(batch) == FRAMES_AT_A_TIME:
                take(batch, failures)
                batch = []
        if batch:
            take(batch, failures)
        failures.tell()


def _read(
    table: LabelTable, group: FramesOfACentre, reporter: FailureReporter
) -> Iterator[tuple[FrameRead, LabelledFrame]]:
    wanted: dict[str, dict[int, LabelledFrame]] = {}
    for frame in group.frames:
        # The only frame of a file that says no index, or the first: which, is seen when the file is opened.
        wanted.setdefault(frame.file, {})[frame.index or 0] = frame

    def choose(file: str, count: int) -> list[int]:
        chosen = []
        for index, frame in wanted[file].items():
            where = f"{table.path} line {frame.line}"
            if frame.index is None and count > 1:
                reporter.failed(f"{where}: {file} has {count} frames; say which in the column index")
            elif index >= count:
                reporter.failed(f"{where}: {file} has {count} frames, none with index {index}")
            else:
                chosen.append(index)
        return chosen

    for read in read_all(list(wanted), group.detector, reporter, choose):
        yield read, wanted[read.file][read.index]
