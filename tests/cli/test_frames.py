"""Frames of all files share batches, hold bounded memory, and keep their order."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.cli.annotate.frames import annotate_files
from dvfb_stream.files import DetectorDescription
from dvfb_stream.frames import Frame


class MeanAnnotator:
    """Tells frames apart by their mean, and counts the frames in memory."""

    identity = ModelIdentity(name="mean", version="1", sha256="0" * 64)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.most_alive = 0
        self._seen: list[weakref.ref[np.ndarray]] = []

    def annotate(self, frames: Sequence[Frame]) -> list[Annotation]:
        self.batches.append(len(frames))
        self._seen.extend(weakref.ref(frame.pixels) for frame in frames)
        self.most_alive = max(self.most_alive, sum(seen() is not None for seen in self._seen))
        return [
            Annotation(status="ok", model=self.identity, scores={"mean": float(frame.pixels.mean())})
            for frame in frames
        ]


class Heard:
    def __init__(self) -> None:
        self.counts: list[int] = []
        self.failures: list[str] = []
        self.notes: list[str] = []

    def opened(self, frames: int) -> None:
        self.counts.append(frames)

    def failed(self, message: str) -> None:
        self.failures.append(message)

    def noted(self, message: str) -> None:
        self.notes.append(message)


DETECTOR = DetectorDescription(center_x=1, center_y=1).load()


def write_stacks(folder: Path, lengths: Sequence[int]) -> list[str]:
    """Files whose k-th frame, over all of them, holds the value k."""
    specs, value = [], 0
    for position, length in enumerate(lengths):
        path = folder / f"{position}.h5"
        with h5py.File(path, "w") as file:
            values = np.arange(value, value + length, dtype=np.float64)
            file["data"] = np.broadcast_to(values[:, None, None], (length, 4, 5))
        specs.append(f"{path}::/data")
        value += length
    return specs


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6), batch_size=st.integers(1, 9))
def test_rows_are_complete_in_order_and_batches_full(
    tmp_path: Path, lengths: list[int], batch_size: int
) -> None:
    annotator, heard = MeanAnnotator(), Heard()
    specs = write_stacks(tmp_path, lengths)
    rows = list(annotate_files(annotator, specs, DETECTOR, batch_size=batch_size, events=heard))
    assert [(row.file, row.index) for row in rows] == [
        (spec, index) for spec, length in zip(specs, lengths, strict=True) for index in range(length)
    ]
    assert [row.number for row in rows] == list(range(sum(lengths)))
    assert [row.annotation.scores["mean"] for row in rows] == list(range(sum(lengths)))
    assert heard.counts == lengths
    assert all(size == batch_size for size in annotator.batches[:-1])


def test_a_long_stack_is_never_in_memory(tmp_path: Path) -> None:
    annotator = MeanAnnotator()
    specs = write_stacks(tmp_path, [200])
    for row in annotate_files(annotator, specs, DETECTOR, batch_size=4, events=Heard()):
        del row
    assert sum(annotator.batches) == 200
    # The batch at hand, and what the loop's variables still hold of the one before.
    assert annotator.most_alive <= 4 + 2


def test_a_damaged_frame_and_a_missing_file_leave_the_others(tmp_path: Path) -> None:
    first, second = write_stacks(tmp_path, [3, 2])
    with h5py.File(tmp_path / "1.h5", "r+") as file:
        del file["data"]
        data = file.create_dataset("data", data=np.ones((2, 4, 5)), chunks=(1, 4, 5), compression="gzip")
        chunk = data.id.get_chunk_info(0)
    with (tmp_path / "1.h5").open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    heard = Heard()
    rows = list(
        annotate_files(MeanAnnotator(), [first, "gone.tif", second], DETECTOR, batch_size=16, events=heard)
    )
    assert [row.annotation.status for row in rows] == ["ok", "ok", "ok", "failed", "ok"]
    assert heard.counts == [3, 0, 2]
    missing, damaged = heard.failures
    assert missing == "gone.tif: no such file"
    assert damaged.startswith(f"{second} frame 0 cannot be read")


@pytest.mark.parametrize("batch_size", [1, 16])
def test_failures_of_a_file_are_told_together(tmp_path: Path, batch_size: int) -> None:
    (spec,) = write_stacks(tmp_path, [3])
    detector = DetectorDescription(center_x=1, center_y=1, shape=(9, 9)).load()
    heard = Heard()
    rows = list(annotate_files(MeanAnnotator(), [spec], detector, batch_size=batch_size, events=heard))
    assert [row.annotation.status for row in rows] == ["failed"] * 3
    (told,) = heard.failures
    assert told.startswith(f"{spec}: 3 of 3 frames, the first is 0: the frame has shape (4, 5), but")


def test_frames_that_are_not_there_are_told_in_one_line_with_their_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "0.h5", "w") as file:
        data = file.create_dataset("data", (30, 4, 5), "f8", chunks=(1, 4, 5))
        data[0] = 1.0
    spec, heard = f"{tmp_path / '0.h5'}::data", Heard()
    rows = list(annotate_files(MeanAnnotator(), [spec], DETECTOR, batch_size=4, events=heard))
    assert [row.annotation.status for row in rows] == ["ok"] + ["failed"] * 29
    (told,) = heard.failures
    assert told == (
        f"{spec} frame 1 is not there: it is not written yet; 28 more of its 30 frames fail likewise"
    )
    # The rows keep the number of each.
    assert rows[29].annotation.reason == f"{spec} frame 29 is not there: it is not written yet"
