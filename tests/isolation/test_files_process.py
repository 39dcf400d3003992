"""Files that another process reads give the same frames, and keep nobody waiting here."""

from __future__ import annotations

import os
import signal
import threading
import time

import h5py
import numpy as np
import pytest

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, HandledFrame, Hdf5Frame, ImageFrame
from dvfb_stream.isolation.files_process import FilesProcess
from dvfb_stream.isolation.frame_memory import FrameMemory

ANY = Expected(None, None)
SHAPE = (5, 7)
FRAMES = np.arange(4 * 35, dtype=np.int32).reshape(4, *SHAPE)
PATIENCE = 30.0


@pytest.fixture
def files():
    files = FilesProcess()
    yield files
    files.close()


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "frames.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=FRAMES, chunks=(1, *SHAPE))
    return str(path)


@pytest.mark.parametrize("expected", [ANY, Expected(SHAPE, None), Expected(SHAPE, np.dtype("<i4"))])
def test_frames_are_those_that_are_read_in_this_process(files, hdf5, expected):
    here = FrameFiles()
    for number in range(4):
        found = files.read(Hdf5Frame(hdf5, "d", number, expected), "run")
        np.testing.assert_array_equal(found, here.read(Hdf5Frame(hdf5, "d", number, expected), "run"))
        assert found.dtype == np.int32
        assert not found.flags.writeable


def test_images_and_handled_datums_are_read_there_too(files, tmp_path):
    pytest.importorskip("area_detector_handlers")
    np.save(tmp_path / "a.npy", FRAMES)
    np.testing.assert_array_equal(files.read(ImageFrame(str(tmp_path / "a.npy"), 2, ANY), "run"), FRAMES[2])
    np.save(tmp_path / "a_3.npy", FRAMES[1])
    found = files.read(
        HandledFrame("NPY_SEQ", str(tmp_path / "a"), {}, {"index": np.int64(3)}, 0, ANY), "run"
    )
    np.testing.assert_array_equal(found, FRAMES[1])


def test_a_frame_that_is_kept_stays_what_it_is(files, hdf5):
    kept = [files.read(Hdf5Frame(hdf5, "d", number, ANY), "run") for number in (0, 1, 2, 3, 0)]
    np.testing.assert_array_equal(np.stack(kept), FRAMES[[0, 1, 2, 3, 0]])


def test_frames_lie_where_the_annotator_can_see_them(hdf5):
    memory = FrameMemory()
    files = FilesProcess(memory)
    try:
        found = files.read(Hdf5Frame(hdf5, "d", 1, Expected(SHAPE, np.dtype("<i4"))), "run")
        assert memory.with_place(found) is found
    finally:
        files.close()


def test_errors_are_those_that_are_raised_in_this_process(files, hdf5, tmp_path):
    with pytest.raises(NotThereYetError, match="never"):
        files.read(Hdf5Frame(str(tmp_path / "never.h5"), "d", 0, ANY), "run")
    with pytest.raises(NotThereYetError, match="frames"):
        files.read(Hdf5Frame(hdf5, "d", 4, ANY), "run")
    with pytest.raises(FrameError, match="NOBODY"):
        files.read(HandledFrame("NOBODY", str(tmp_path / "a"), {}, {}, 0, ANY), "run")
    with pytest.raises(FrameError, match="another process"):
        files.read(HandledFrame("NPY_SEQ", str(tmp_path / "a"), {"x": object()}, {}, 0, ANY), "run")
    np.testing.assert_array_equal(files.read(Hdf5Frame(hdf5, "d", 0, ANY), "run"), FRAMES[0])


@pytest.mark.parametrize(
    "described",
    [
        Expected((7, 5), np.dtype("<i4")),
        Expected(SHAPE, np.dtype("<f8")),
        Expected((3, 3), np.dtype("<u2")),
        Expected((1 << 16, 1 << 16), np.dtype("<f8")),  # for which there is no memory
        Expected((0, 5), np.dtype("<f8")),
        Expected(SHAPE, np.dtype(object)),
    ],
)
def test_what_lies_in_the_file_is_read_whatever_the_descriptor_says(files, hdf5, described):
    for number in (1, 2):
        found = files.read(Hdf5Frame(hdf5, "d", number, described), "run")
        np.testing.assert_array_equal(found, FRAMES[number])
        assert found.dtype == np.int32
        assert not found.flags.writeable


def test_remarks_come_from_there_too(files, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["d"] = FRAMES.reshape(2, 2, *SHAPE)
    for expected in (ANY, Expected(SHAPE, np.dtype("<i4"))):
        said = []
        found = files.read(Hdf5Frame(str(tmp_path / "a.h5"), "d", 1, expected, 1), "run", said.append)
        np.testing.assert_array_equal(found, FRAMES[2])
        assert said == ["Each point of d has 2 images, where the documents say 1: this is the first."]


def test_frames_are_in_the_machines_byte_order(files, tmp_path):
    np.save(tmp_path / "a.npy", FRAMES[1].astype(">u2"))
    for expected in (ANY, Expected(SHAPE, np.dtype(">u2")), Expected(SHAPE, np.dtype("<u2"))):
        found = files.read(ImageFrame(str(tmp_path / "a.npy"), 0, expected), "run")
        np.testing.assert_array_equal(found, FRAMES[1])
        assert found.dtype.isnative


def test_a_process_that_was_started_beforehand_reads_the_first_frame(files, hdf5):
    files.start()
    started = files.pid
    assert started is not None
    files.read(Hdf5Frame(hdf5, "d", 0), "run")
    assert files.pid == started


def test_no_process_is_started_before_a_frame_is_read_and_closing_ends_it(files, hdf5):
    files.release("run")
    assert files.pid is None
    files.read(Hdf5Frame(hdf5, "d", 0, ANY), "run")
    assert files.open_files == 1
    assert files.pid is not None
    files.release("run")
    assert files.open_files == 0
    files.close()
    assert files.pid is None
    with pytest.raises(FrameError, match="closed"):
        files.read(Hdf5Frame(hdf5, "d", 0, ANY), "run")


def test_a_process_that_is_killed_costs_no_frame(files, hdf5):
    for number in range(3):
        np.testing.assert_array_equal(files.read(Hdf5Frame(hdf5, "d", number, ANY), "run"), FRAMES[number])
        os.kill(files.pid, signal.SIGKILL)


def test_a_read_that_hangs_is_given_up_and_other_files_go_on(hdf5, tmp_path):
    """A handler that waits for ever stands for a file system that does."""
    files = FilesProcess(answer_within=1.0)
    files.read(Hdf5Frame(hdf5, "d", 0, ANY), "run")
    os.kill(files.pid, signal.SIGSTOP)
    try:
        with pytest.raises(NotThereYetError, match="did not answer within 1 s"):
            files.read(Hdf5Frame(hdf5, "d", 1, ANY), "run")
        np.testing.assert_array_equal(files.read(Hdf5Frame(hdf5, "d", 1, ANY), "run"), FRAMES[1])
    finally:
        files.close()


def test_while_a_read_hangs_other_threads_go_on(hdf5):
    files = FilesProcess(answer_within=PATIENCE)
    files.read(Hdf5Frame(hdf5, "d", 0, ANY), "run")
    os.kill(files.pid, signal.SIGSTOP)
    reading = threading.Thread(target=lambda: files.read(Hdf5Frame(hdf5, "d", 1, ANY), "run"))
    reading.start()
    begun = time.monotonic()
    assert files.open_files == 1
    assert reading.is_alive()
    assert time.monotonic() - begun < PATIENCE
    os.kill(files.pid, signal.SIGCONT)
    reading.join(PATIENCE)
    assert not reading.is_alive()
    files.close()


def test_a_detector_of_this_process_writes_its_file_anew_while_it_is_open_there(files, hdf5):
    np.testing.assert_array_equal(files.read(Hdf5Frame(hdf5, "d", 0, ANY), "first"), FRAMES[0])
    with h5py.File(hdf5, "w") as file:
        file.create_dataset("d", data=FRAMES[::-1], chunks=(1, *SHAPE))
    np.testing.assert_array_equal(files.read(Hdf5Frame(hdf5, "d", 0, ANY), "second"), FRAMES[3])
