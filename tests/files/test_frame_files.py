"""Frames out of files of every kind: of the wrong kind, too large, late, and read no more often than need be."""

from __future__ import annotations

import os
import threading
import tracemalloc

import h5py
import numpy as np
import pytest

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, HandledFrame, Hdf5Frame, ImageFrame

from .conftest import ANY


def test_a_file_of_another_shape_or_type_is_refused_for_good(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file["d"] = np.zeros((2, 3, 4), np.uint16)
        file["words"] = np.array([[b"a"]])
        file["complex"] = np.zeros((2, 3), np.complex64)
        file["wide"] = np.zeros((2, 3), np.longdouble)
        file["one"] = np.zeros(5)
        file["nothing"] = h5py.Empty("f4")
        file.create_group("group")
    files = FrameFiles()
    for reference, message in (
        (
            Hdf5Frame(path, "words", 0, ANY),
            "holds values of the type .*; a frame's pixels are integers or real",
        ),
        (Hdf5Frame(path, "complex", 0, ANY), "holds values of the type complex64"),
        (Hdf5Frame(path, "wide", 0, ANY), "holds values of the type .*128.* at most 8 bytes"),
        (Hdf5Frame(path, "one", 0, ANY), r"in no dataset of images: it has the shape \(5,\)"),
        (Hdf5Frame(path, "nothing", 0, ANY), "in no dataset of images: it has the shape None"),
        (
            Hdf5Frame(path, "group", 0, ANY),
            "::group frame 0: it holds no frames: it holds no dataset that looks like",
        ),
    ):
        with pytest.raises(FrameError, match=message) as raised:
            files.read(reference, "run")
        assert not isinstance(raised.value, NotThereYetError)
    files.close()


@pytest.mark.parametrize("damage", [b"", b"\x89HDF\r\n\x1a\nrest is lost", b"II*\x00"])
def test_a_truncated_file_may_yet_be_finished(tmp_path, damage):
    for name in ("a.h5", "a.tif", "a.npy"):
        (tmp_path / name).write_bytes(damage)
    files = FrameFiles()
    for reference in (
        Hdf5Frame(str(tmp_path / "a.h5"), "d", 0, ANY),
        ImageFrame(str(tmp_path / "a.tif"), 0, ANY),
        ImageFrame(str(tmp_path / "a.npy"), 0, ANY),
    ):
        with pytest.raises(NotThereYetError, match="cannot be"):
            files.read(reference, "run")
    files.close()


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(FrameError, match="holds values of the type object"):
        FrameFiles().read(ImageFrame(str(tmp_path / "a.npy"), 0, ANY), "run")


def test_how_many_files_are_open_is_told_while_one_is_read():
    begun, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, path):
            pass

        def __call__(self):
            begun.set()
            assert go_on.wait(10)
            return np.ones((3, 4))

    files = FrameFiles(handlers={"SLOW": Slow})
    reading = threading.Thread(target=files.read, args=(HandledFrame("SLOW", "x", {}, {}), "run"))
    reading.start()
    assert begun.wait(10)
    assert files.open_files == 1
    go_on.set()
    reading.join()
    files.close()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, files, make):
    for name in ("a.h5", "a.npy", "a.tif"):
        make(tmp_path / name)
    with h5py.File(tmp_path / "links.h5", "w") as file:
        file["outside"] = h5py.ExternalLink("a.h5", "d")
        layout = h5py.VirtualLayout((1, 3, 4), "i4")
        layout[0] = h5py.VirtualSource("a.h5", "d", (3, 4))
        file.create_virtual_dataset("virtual", layout)
    for reference in (
        Hdf5Frame(str(tmp_path / "a.h5"), "d", 0, ANY),
        Hdf5Frame(str(tmp_path / "links.h5"), "outside", 0, ANY),
        Hdf5Frame(str(tmp_path / "links.h5"), "virtual", 0, ANY),
        ImageFrame(str(tmp_path / "a.npy"), 0, ANY),
        ImageFrame(str(tmp_path / "a.tif"), 0, ANY),
    ):
        with pytest.raises(FrameError, match=r"a.(h5|npy|tif) is a (named pipe|directory|device)") as raised:
            files.read(reference, "run")
        assert not isinstance(raised.value, NotThereYetError)


def test_no_handler_is_made_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a")
    files = FrameFiles(handlers={"MINE": open})
    with pytest.raises(FrameError, match="is a named pipe"):
        files.read(HandledFrame("MINE", str(tmp_path / "a"), {}, {}, 0, ANY), "run")


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("says", [">u2", "<u2"])
def test_pixels_of_either_byte_order_come_in_the_machines(tmp_path, order, says):
    frame = np.arange(12, dtype=f"{order}u2").reshape(3, 4)
    np.save(tmp_path / "a.npy", frame)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=frame[None], chunks=(1, 3, 4))
    files, expected = (
        FrameFiles(handlers={"MINE": lambda path: lambda: frame}),
        Expected((3, 4), np.dtype(says)),
    )
    for found in (
        files.read(ImageFrame(str(tmp_path / "a.npy"), 0, expected), "run"),
        files.read(Hdf5Frame(str(tmp_path / "a.h5"), "d", 0, expected), "run"),
        files.read(HandledFrame("MINE", "x", {}, {}, 0, expected), "run"),
    ):
        assert found.dtype == np.dtype("u2")
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, frame)
    files.close()


def test_what_is_larger_than_any_detector_is_refused_before_it_is_read(tmp_path, files):
    """Files of few bytes, whose headers claim gigabytes."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", shape=(1, 300_000, 200_000), dtype="u1", chunks=(1, 1000, 1000))
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"shape": (300_000, 200_000), "fortran_order": False, "descr": "|u1"}
        )
    for expected in (Expected((4, 6), None), ANY):
        tracemalloc.start()
        with pytest.raises(FrameError, match="more than any detector's"):
            files.read(Hdf5Frame(str(tmp_path / "a.h5"), "d", 0, expected), "run")
        with pytest.raises(FrameError, match="more than any detector's"):
            files.read(ImageFrame(str(tmp_path / "a.npy"), 0, expected), "run")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stack_in_a_npy_file_is_read_frame_by_frame_once_it_is_whole(tmp_path, files, order):
    stack = np.asarray(np.arange(6 * 5 * 7, dtype="i4").reshape(6, 5, 7), order=order)
    path = tmp_path / "a.npy"
    np.save(path, stack)
    for number, frame in enumerate(stack):
        np.testing.assert_array_equal(
            files.read(ImageFrame(str(path), number, Expected((5, 7), np.dtype("i4"))), "run"), frame
        )
    with pytest.raises(NotThereYetError, match="has 6 frames, none with number 6"):
        files.read(ImageFrame(str(path), 6, ANY), "run")
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(NotThereYetError, match="is not whole: 1 bytes of its frames are missing"):
        files.read(ImageFrame(str(path), 0, ANY), "run")
    np.save(path, np.arange(5))
    with pytest.raises(FrameError, match=r"has the shape \(5,\), which is no image"):
        files.read(ImageFrame(str(path), 0, ANY), "run")


class Stack:
    """A handler of a file of lines, each the value of one frame, that reads it when it is made."""

    made = called = 0

    def __init__(self, path, scale=1):
        assert type(path) is str
        Stack.made += 1
        with open(path) as file:
            self.values = [scale * int(line) for line in file]

    def __call__(self, first, count):
        Stack.called += 1
        return np.array([np.full((3, 4), value) for value in self.values[first : first + count]])


def test_a_datum_of_several_frames_is_read_once_and_anew_while_it_grows(tmp_path):
    path, datum = tmp_path / "a.txt", {"first": 0, "count": 3}
    files, Stack.made, Stack.called = FrameFiles(handlers={"STACK": Stack}), 0, 0

    def value(position, run="run"):
        return files.read(HandledFrame("STACK", str(path), {}, datum, position, ANY), run)[0, 0]

    path.write_text("5\n6\n")
    assert [value(0), value(1)] == [5, 6]
    assert (Stack.made, Stack.called) == (1, 1)
    with pytest.raises(NotThereYetError, match="has 2 frames, none with number 2"):
        value(2)
    path.write_text("5\n6\n7\n")
    assert [value(2), value(1), value(0)] == [7, 6, 5]
    assert (Stack.made, Stack.called) == (2, 2)
    path.write_text("8\n9\n10\n")
    assert [value(0, "another run"), value(1, "another run")] == [8, 9]
    assert (Stack.made, files.open_files) == (3, 1)
    files.release("run")
    assert files.open_files == 1
    files.release("another run")
    assert files.open_files == 0


def test_kwargs_that_a_handler_does_not_take_are_no_reason_to_wait(tmp_path):
    (tmp_path / "a.txt").write_text("5\n")
    files = FrameFiles(handlers={"STACK": Stack})
    for resource, datum in (({"size": 1}, {"first": 0, "count": 1}), ({}, {"point_number": 0})):
        with pytest.raises(
            FrameError, match=r"does not take what the documents say, .*unexpected keyword"
        ) as raised:
            files.read(HandledFrame("STACK", str(tmp_path / "a.txt"), resource, datum, 0, ANY), "run")
        assert not isinstance(raised.value, NotThereYetError)
    with pytest.raises(NotThereYetError, match="raised FileNotFoundError"):
        files.read(HandledFrame("STACK", str(tmp_path / "late.txt"), {}, {}, 0, ANY), "run")
    files.close()
