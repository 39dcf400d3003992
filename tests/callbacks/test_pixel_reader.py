"""Reading off the scan's thread: exactly once, in order, late files, and files that never come."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from dvfb_stream.callbacks.frame_sequence import FileFrames
from dvfb_stream.callbacks.pixel_reader import CLOSED, TOO_MANY, NotRead, PixelReader
from dvfb_stream.errors import FrameError, NotThereYetError, SettingsError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, Hdf5Frame, ImageFrame, unheard

ANY = Expected(None, None)


class Inbox:
    """What was delivered, by name and position."""

    def __init__(self):
        self.got = {}
        self.order = []
        self._arrived = defaultdict(threading.Event)

    def has(self, key):
        """An event that is set when it is there."""
        return self._arrived[key]

    def taking(self, name):
        def deliver(position, found, remark):
            key = name if position == 0 else (name, position)
            assert key not in self.got, "delivered twice"
            self.got[key] = (None, found.reason) if isinstance(found, NotRead) else (found, "")
            self.order.append(key)
            self._arrived[key].set()

        return deliver


@dataclass
class Scripted:
    """Frames each of which does what it is told, attempt by attempt."""

    source: str
    frames: list

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, position):
        return self.frames[position]


class ScriptedFiles(FrameFiles):
    """Takes a list of what happens at each attempt for a reference, too."""

    def read(self, reference, run, remark=unheard):
        if not isinstance(reference, list):
            return super().read(reference, run, remark)
        step = reference.pop(0) if len(reference) > 1 else reference[0]
        if isinstance(step, Exception):
            raise step
        return np.full((2, 3), step)


@dataclass
class Stored:
    """References made beforehand."""

    references: list

    @property
    def source(self):
        return self.references[0].path

    def __len__(self):
        return len(self.references)

    def __getitem__(self, position):
        return self.references[position]


@pytest.fixture
def reader():
    with_short_patience = PixelReader(ScriptedFiles(), patience=0.3)
    yield with_short_patience
    with_short_patience.close(5)


def test_frames_of_a_source_come_in_order_and_a_late_one_holds_up_no_other(reader):
    inbox = Inbox()
    late = NotThereYetError("late.h5 is not there")
    reader.submit(Scripted("late", [[late, late, 7], [8]]), inbox.taking("late"))
    reader.submit(Scripted("late", [[9]]), inbox.taking("later"))
    reader.submit(Scripted("here", [[number] for number in range(20)]), inbox.taking("here"))
    assert reader.drain(5)
    assert inbox.order == ["here", *(("here", n) for n in range(1, 20)), "late", ("late", 1), "later"]
    assert inbox.got["late"][0][0, 0] == 7
    assert inbox.got["here", 19][0][0, 0] == 19
    assert reader.stats().retries == 2
    assert (reader.stats().read, reader.stats().failed, reader.stats().waiting) == (23, 0, 0)


class SetClock:
    """Time that passes when it is told to; a look at what is due then ends before `set` returns."""

    def __init__(self, **settings):
        self.now, self.looked = 0.0, threading.Event()
        self.files = ScriptedFiles()
        self.files.release = lambda run: self.looked.set()
        self.reader = PixelReader(self.files, patience=30.0, clock=lambda: self.now, **settings)

    def set(self, now):
        self.now = now
        self.looked.clear()
        self.reader.release("whatever is due is done before this")
        assert self.looked.wait(10)


def test_a_late_file_is_looked_at_again_after_pauses_that_double_up_to_a_second():
    time, inbox, late = SetClock(), Inbox(), NotThereYetError("late.h5 is not there")
    time.reader.submit(Scripted("late", [[late] * 9 + [7], [late, 8]]), inbox.taking("late"))
    due, pauses = 0.0, [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0, 1.0]
    for attempts, pause in enumerate(pauses, 1):
        time.set(due)
        assert time.reader.stats().retries == attempts
        time.set(due + 0.999 * pause)
        assert time.reader.stats().retries == attempts
        due += pause
    assert inbox.order == []
    time.set(due)
    assert inbox.order == ["late"]
    # The next frame of the source begins with the shortest pause.
    time.set(due + 0.0199)
    assert inbox.order == ["late"]
    time.set(due + 0.02)
    assert inbox.order == ["late", ("late", 1)]
    time.reader.close(5)


def test_a_frame_is_given_up_once_its_patience_has_passed_and_not_before():
    time, inbox, late = SetClock(), Inbox(), NotThereYetError("never.h5 is not there")
    time.reader.submit(Scripted("never", [[late]]), inbox.taking("never"))
    time.set(0.0)
    time.set(29.999)
    assert inbox.order == []
    time.set(31.0)
    assert inbox.got["never"][1] == "never.h5 is not there; it did not come within 30 s"
    time.reader.close(5)


def test_a_refusal_is_told_while_the_source_s_file_is_late():
    time, inbox, late = SetClock(max_pending=1), Inbox(), NotThereYetError("late.h5 is not there")
    time.reader.submit(Scripted("late", [[late]]), inbox.taking("late"))
    time.reader.submit(Scripted("late", [[1]]), inbox.taking("refused"))
    time.set(0.0)
    assert inbox.got == {"refused": (None, TOO_MANY.reason)}
    time.reader.close(0)


def test_who_submits_to_an_idle_reader_has_a_head_start():
    now, inbox, read = [0.0], Inbox(), threading.Event()
    reader = PixelReader(ScriptedFiles(), head_start=0.005, clock=lambda: now[0])
    reader.submit(
        Scripted("a", [[1]]),
        lambda position, found, remark: (inbox.taking("a")(position, found, remark), read.set()),
    )
    assert not reader.drain(0.05)
    assert inbox.order == []
    now[0] = 0.005
    reader.release("wakes it")
    assert read.wait(10)
    reader.close(5)


def test_a_file_that_never_comes_costs_its_frames_and_says_so(reader, tmp_path):
    inbox = Inbox()
    reader.submit(Stored([ImageFrame(str(tmp_path / "never.tif"), 0, ANY)]), inbox.taking(0))
    reader.submit(Scripted("here", [[1]]), inbox.taking(1))
    assert reader.drain(5)
    assert "never.tif is not there; it did not come within 0.3 s" in inbox.got[0][1]
    assert inbox.got[1][1] == ""


def test_whatever_goes_wrong_costs_one_frame(reader):
    inbox = Inbox()
    reader.submit(Scripted("file", [[FrameError("torn")], [ZeroDivisionError("oops")], [5]]), inbox.taking(0))
    assert reader.drain(5)
    assert [inbox.got[key][1] for key in (0, (0, 1), (0, 2))] == [
        "torn",
        "file cannot be read: ZeroDivisionError: oops",
        "",
    ]


def test_references_that_cannot_be_made_cost_their_frames(reader):
    class Broken(Scripted):
        def __getitem__(self, position):
            raise RuntimeError("no idea where that is")

    inbox = Inbox()
    reader.submit(Broken("file", [1, 2]), inbox.taking(0))
    assert reader.drain(5)
    assert [reason for _, reason in inbox.got.values()] == [
        "file cannot be read: RuntimeError: no idea where that is"
    ] * 2


def test_a_receiver_that_raises_does_not_end_the_thread(reader):
    inbox = Inbox()

    def raises(position, found, remark):
        raise RuntimeError("nobody home")

    reader.submit(Scripted("file", [[1], [2]]), raises)
    reader.submit(Scripted("file", [[2]]), inbox.taking(1))
    assert reader.drain(5)
    assert 1 in inbox.got


class Held:
    """Holds the reader's thread until it may go on."""

    def __init__(self):
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, position, found, remark):
        self.begun.set()
        assert self.go_on.wait(5)


def test_frames_beyond_the_bound_are_refused_on_the_reader_s_thread():
    reader, held, inbox, threads = PixelReader(ScriptedFiles(), max_pending=4), Held(), Inbox(), set()

    def take(position, found, remark):
        threads.add(threading.current_thread().name)
        inbox.taking("a")(position, found, remark)

    reader.submit(Scripted("a", [[0]]), held)
    assert held.begun.wait(5)
    reader.submit(Scripted("a", [[n] for n in range(1, 10)]), take)
    assert (reader.stats().refused, reader.stats().waiting) == (6, 4)
    assert inbox.got == {}
    held.go_on.set()
    reader.close(5)
    reasons = {key: reason for key, (_, reason) in inbox.got.items()}
    assert [reasons[key] for key in ("a", ("a", 1), ("a", 2))] == ["", "", ""]
    assert [reasons["a", n] for n in range(3, 9)] == [TOO_MANY.reason] * 6
    assert threads == {"dvfb-reader"}


def test_refusals_without_end_do_not_fill_the_memory():
    reader, held, inbox = PixelReader(ScriptedFiles(), max_pending=1), Held(), Inbox()
    reader.submit(Scripted("a", [[0]]), held)
    assert held.begun.wait(5)
    for number in range(20):
        reader.submit(Scripted("a", [[number]]), inbox.taking(number))
    assert len(reader._entries) == 2
    assert len(inbox.got) == 19  # these were told at once
    held.go_on.set()
    reader.close(5)
    assert len(inbox.got) == 20


def test_who_waits_has_all_of_many_frames_read_whatever_the_bound(reader):
    reader, inbox = PixelReader(ScriptedFiles(), max_pending=3), Inbox()
    reader.submit(Scripted("a", [[n] for n in range(20)]), inbox.taking(0), wait=True)
    reader.close(5)
    assert [int(pixels[0, 0]) for pixels, _ in inbox.got.values()] == list(range(20))
    assert reader.stats().refused == 0


def test_submitting_takes_no_longer_for_many_frames(reader):
    class Counted(Scripted):
        made = 0

        def __getitem__(self, position):
            Counted.made += 1
            return super().__getitem__(position)

    held = Held()
    reader.submit(Scripted("a", [[0]]), held)
    assert held.begun.wait(5)
    reader.submit(Counted("a", [[0]] * 50_000), lambda position, found, remark: None)
    reader.submit(FileFrames("", 50_000, Counted("b", []).__getitem__), lambda position, found, remark: None)
    assert Counted.made == 0
    assert len(reader._entries) == 4  # that which is held, one for each document, and what was refused
    held.go_on.set()
    reader.close(0)


def test_closing_in_time_gives_up_what_waits_for_files_and_says_so(tmp_path):
    reader, inbox = PixelReader(ScriptedFiles(), patience=1000.0), Inbox()
    reader.submit(Stored([ImageFrame(str(tmp_path / "never.npy"), 0, ANY)]), inbox.taking(0))
    reader.close(0.1)
    reader.drain(5)
    reader.submit(Scripted("a", [[1]]), inbox.taking(1))
    assert inbox.got == dict.fromkeys((0, 1), (None, CLOSED.reason))


def test_files_of_a_run_that_has_ended_are_closed_by_the_reader_s_thread():
    class Files:
        open_files, released = 0, []

        def release(self, run):
            self.released.append((run, threading.current_thread().name))

        def close(self):
            pass

    reader = PixelReader(Files())
    reader.release("a run")
    reader.close(5)
    assert Files.released == [("a run", "dvfb-reader")]


def test_stats_do_not_wait_for_a_read(reader):
    held = Held()

    class Slow(Scripted):
        def __getitem__(self, position):
            held(position, None, "")
            return super().__getitem__(position)

    reader.submit(Slow("a", [[1]]), lambda position, found, remark: None)
    assert held.begun.wait(5)
    assert reader.stats().waiting == 1
    held.go_on.set()


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
    reader, inbox = PixelReader(ScriptedFiles(), patience=10.0), Inbox()
    for number in range(len(frames)):
        reference = Hdf5Frame(path, "entry/data", number, Expected((8, 9), np.dtype("u2")))
        reader.submit(Stored([reference]), inbox.taking(number))
    np.save(tmp_path / "frames.npy", frames)
    writer = f"""
import h5py, numpy as np, sys
frames = np.load({str(tmp_path / "frames.npy")!r})
with h5py.File({path!r}, "w", libver="latest") as file:
    data = file.create_dataset("entry/data", shape=(0, 8, 9), maxshape=(None, 8, 9), chunks=(1, 8, 9), dtype="u2")
    file.swmr_mode = True
    for number, frame in enumerate(frames):
        data.resize(number + 1, axis=0)
        data[number] = frame
        data.flush()
        sys.stdin.readline()
"""
    with subprocess.Popen([sys.executable, "-c", writer], stdin=subprocess.PIPE, text=True) as writing:
        for number in range(len(frames)):
            # The next is written when this one has been read.
            assert inbox.has(number).wait(10)
            writing.stdin.write("\n")
            writing.stdin.flush()
    assert reader.drain(15)
    assert inbox.order == list(range(12))
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(inbox.got[number][0], frame)
    reader.close()
