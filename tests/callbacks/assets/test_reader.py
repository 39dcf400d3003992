"""Reading off the scan's thread: exactly once, in order, late files, and files that never come."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

import h5py
import numpy as np
import pytest

from dvfb_stream.callbacks.assets import FrameFiles, NotThereYetError, PixelReader
from dvfb_stream.callbacks.assets.references import Expected, Hdf5Frame, ImageFrame
from dvfb_stream.errors import FrameError, SettingsError

ANY = Expected(None, None)


class Inbox:
    """What was delivered, by number."""

    def __init__(self):
        self.got = {}
        self.order = []

    def taking(self, number):
        def deliver(pixels, reason):
            assert number not in self.got, "delivered twice"
            self.got[number] = (pixels, reason)
            self.order.append(number)

        return deliver


@dataclass
class Scripted:
    """A reference that does what it is told, attempt by attempt."""

    file: str
    steps: list = field(default_factory=list)

    def read(self, files, run):
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        if isinstance(step, Exception):
            raise step
        return np.full((2, 3), step)


@pytest.fixture
def reader():
    with_short_patience = PixelReader(patience=0.3)
    yield with_short_patience
    with_short_patience.close(5)


def test_frames_of_a_file_come_in_order_and_a_late_file_holds_up_no_other(reader):
    inbox = Inbox()
    late = NotThereYetError("late.h5 is not there")
    reader.submit(Scripted("late", [late, late, 7]), inbox.taking("late 0"))
    reader.submit(Scripted("late", [8]), inbox.taking("late 1"))
    for number in range(20):
        reader.submit(Scripted("here", [number]), inbox.taking(number))
    assert reader.drain(5)
    assert [n for n in inbox.order if isinstance(n, int)] == list(range(20))
    assert inbox.order[-2:] == ["late 0", "late 1"]
    assert inbox.got["late 0"][0][0, 0] == 7
    assert reader.stats().retries == 2
    assert (reader.stats().read, reader.stats().failed, reader.stats().waiting) == (22, 0, 0)


def test_a_file_that_never_comes_costs_its_frames_and_says_so(reader, tmp_path):
    inbox = Inbox()
    reader.submit(ImageFrame(str(tmp_path / "never.tif"), 0, ANY), inbox.taking(0))
    reader.submit(Scripted("here", [1]), inbox.taking(1))
    assert reader.drain(5)
    assert "never.tif is not there; it did not come within 0.3 s" in inbox.got[0][1]
    assert inbox.got[1][1] == ""


def test_whatever_goes_wrong_costs_one_frame(reader):
    inbox = Inbox()
    for number, step in enumerate([FrameError("torn"), ZeroDivisionError("oops"), 5]):
        reader.submit(Scripted("file", [step]), inbox.taking(number))
    assert reader.drain(5)
    assert [inbox.got[n][1] for n in range(3)] == ["torn", "file cannot be read: ZeroDivisionError: oops", ""]


def test_a_receiver_that_raises_does_not_end_the_thread(reader):
    inbox = Inbox()

    def raises(pixels, reason):
        raise RuntimeError("nobody home")

    reader.submit(Scripted("file", [1]), raises)
    reader.submit(Scripted("file", [2]), inbox.taking(1))
    assert reader.drain(5)
    assert 1 in inbox.got


def test_beyond_the_bound_references_are_refused_at_once():
    reader = PixelReader(max_pending=2)
    begun, go_on, inbox = threading.Event(), threading.Event(), Inbox()

    def slow(pixels, reason):
        begun.set()
        go_on.wait(5)

    assert reader.submit(Scripted("a", [0]), slow)
    assert begun.wait(5)
    assert reader.submit(Scripted("a", [1]), inbox.taking(1))
    assert not reader.submit(Scripted("a", [2]), inbox.taking(2))
    assert reader.stats().refused == 1
    go_on.set()
    reader.close(5)
    assert list(inbox.got) == [1]


def test_closing_in_time_gives_up_what_waits_for_files_and_says_so(tmp_path):
    reader, inbox = PixelReader(patience=1000.0), Inbox()
    reader.submit(ImageFrame(str(tmp_path / "never.npy"), 0, ANY), inbox.taking(0))
    reader.close(0.1)
    reader.drain(5)
    assert inbox.got[0] == (None, "the reader was closed before the frame was read")
    assert not reader.submit(Scripted("a", [1]), inbox.taking(1))


@pytest.mark.parametrize(
    ("name", "value"), [("max_pending", 0), ("patience", -1.0), ("patience", float("nan"))]
)
def test_bounds_that_are_none_are_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        PixelReader(**{name: value})


def test_a_growing_file_is_read_as_it_grows(tmp_path):
    """Written by another handle in SWMR mode, a frame at a time, every frame announced before it is there."""
    path, frames = (
        str(tmp_path / "grows.h5"),
        np.random.default_rng(0).integers(0, 999, (12, 8, 9), dtype=np.uint16),
    )
    reader, inbox = PixelReader(patience=10.0), Inbox()
    for number in range(len(frames)):
        reader.submit(
            Hdf5Frame(path, "entry/data", number, Expected((8, 9), np.dtype("u2"))), inbox.taking(number)
        )
    import subprocess
    import sys

    np.save(tmp_path / "frames.npy", frames)
    writer = f"""
import h5py, numpy as np, time
frames = np.load({str(tmp_path / "frames.npy")!r})
with h5py.File({path!r}, "w", libver="latest") as file:
    data = file.create_dataset("entry/data", shape=(0, 8, 9), maxshape=(None, 8, 9), chunks=(1, 8, 9), dtype="u2")
    file.swmr_mode = True
    for number, frame in enumerate(frames):
        data.resize(number + 1, axis=0)
        data[number] = frame
        data.flush()
        time.sleep(0.02)
"""
    subprocess.run([sys.executable, "-c", writer], check=True)
    assert reader.drain(15)
    assert inbox.order == list(range(12))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(inbox.got[number][0], frame)
    reader.close()


@pytest.mark.parametrize("shape", [(3, 4), (6, 3, 4), (6, 1, 3, 4), (2, 3, 3, 4)])
def test_datasets_of_every_shape_are_counted_through(tmp_path, shape):
    path, values = str(tmp_path / "a.h5"), np.arange(np.prod(shape)).reshape(shape)
    with h5py.File(path, "w") as file:
        file["d"] = values
    files, flat = FrameFiles(), values.reshape(-1, 3, 4)
    for number, frame in enumerate(flat):
        np.testing.assert_array_equal(files.hdf5(path, "d", number, ANY, "run"), frame)
    with pytest.raises(NotThereYetError, match=f"has {len(flat)} frames, none with number {len(flat)}"):
        files.hdf5(path, "d", len(flat), ANY, "run")
    files.close()


@pytest.mark.parametrize(
    ("settings", "is_plain"),
    [
        ({"chunks": (1, 3, 4)}, True),
        ({"chunks": (2, 1, 3, 4), "shape": (6, 1, 3, 4)}, False),
        ({"chunks": (1, 1, 3, 4), "shape": (3, 2, 3, 4)}, True),
        ({"chunks": (1, 3, 4), "compression": "gzip"}, False),
        ({"chunks": (2, 3, 4)}, False),
        ({"chunks": (1, 2, 4)}, False),
        ({"chunks": None}, False),
        ({"chunks": (1, 3, 4), "dtype": ">i4"}, False),
        ({"chunks": (1, 3, 4), "dtype": "f4"}, True),
        ({"chunks": (1, 3, 4), "dtype": "?"}, False),
        ({"chunks": (1, 3, 4), "userblock": 512}, False),
    ],
)
def test_frames_that_lie_plainly_in_the_file_are_the_same_past_hdf5(
    tmp_path, monkeypatch, settings, is_plain
):
    settings = dict(settings)
    path, dtype = str(tmp_path / "a.h5"), settings.pop("dtype", "<i4")
    shape, userblock = settings.pop("shape", (6, 3, 4)), settings.pop("userblock", 0)
    values = (np.arange(72).reshape(shape) % 7).astype(dtype)
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("d", data=values, **settings)
    read = []
    monkeypatch.setattr(os, "preadv", lambda *wanted, ask=os.preadv: read.append(ask(*wanted)) or read[-1])
    files = FrameFiles()
    for number, frame in enumerate(values.reshape(-1, 3, 4)):
        found = files.hdf5(path, "d", number, ANY, "run")
        np.testing.assert_array_equal(found, frame)
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
    assert len(read) == (6 if is_plain else 0)
    files.close()


def test_a_frame_whose_chunk_is_not_written_has_the_fill_value_and_one_cut_off_is_none(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("d", (3, 30, 40), "<i4", chunks=(1, 30, 40), fillvalue=-1)[0] = 5
        file["d"][2] = 6
        place = file["d"].id.get_chunk_info_by_coord((2, 0, 0)).byte_offset
        size = file["d"].id.get_storage_size()
    assert size == 2 * 4800
    files = FrameFiles()
    assert [int(files.hdf5(path, "d", number, ANY, "run")[0, 0]) for number in range(3)] == [5, -1, 6]
    os.truncate(path, place + 100)
    with pytest.raises(NotThereYetError, match="the file is cut off"):
        files.hdf5(path, "d", 2, ANY, "run")
    files.close()


def test_files_are_kept_open_up_to_a_bound_and_a_replaced_one_is_opened_anew(tmp_path):
    files = FrameFiles(max_open=3)
    for number in range(8):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["d"] = np.full((2, 3, 4), number)
    for number in [*range(8), *range(8)]:
        assert files.hdf5(str(tmp_path / f"{number}.h5"), "d", 1, ANY, "run")[0, 0] == number
    assert files.open_files == 3
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["d"] = np.full((2, 3, 4), 99)
    (tmp_path / "new.h5").rename(tmp_path / "7.h5")
    assert files.hdf5(str(tmp_path / "7.h5"), "d", 1, ANY, "run")[0, 0] == 99
    files.close()
    with pytest.raises(FrameError, match="the files are closed"):
        files.hdf5(str(tmp_path / "7.h5"), "d", 1, ANY, "run")


def test_a_file_of_another_shape_or_type_is_refused_for_good(tmp_path):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file["d"] = np.zeros((2, 3, 4), np.uint16)
        file["words"] = np.array([[b"a"]])
        file["one"] = np.zeros(5)
    files = FrameFiles()
    for reference, message in (
        (
            Hdf5Frame(path, "d", 0, Expected((4, 3), None)),
            r"has the shape \(3, 4\), but the descriptor says \(4, 3\)",
        ),
        (
            Hdf5Frame(path, "d", 0, Expected(None, np.dtype("f4"))),
            "holds uint16, but the descriptor says float32",
        ),
        (Hdf5Frame(path, "words", 0, ANY), "are no numbers"),
        (Hdf5Frame(path, "one", 0, ANY), "is no dataset of images"),
    ):
        with pytest.raises(FrameError, match=message) as raised:
            reference.read(files, "run")
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
            reference.read(files, "run")
    files.close()


def test_pickles_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(NotThereYetError, match="allow_pickle"):
        FrameFiles().image(str(tmp_path / "a.npy"), 0, ANY, "run")
