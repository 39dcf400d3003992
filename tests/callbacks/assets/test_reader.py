"""Reading off the scan's thread: exactly once, in order, late files, and files that never come."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from dvfb_stream.callbacks.assets import NotThereYetError, PixelReader
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
