"""Frames out of files, as they really lie there: of every layout, late, cut off, growing, and of the wrong kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import tracemalloc

import h5py
import numpy as np
import pytest

from dvfb_stream.callbacks.assets import FrameFiles, NotThereYetError
from dvfb_stream.callbacks.assets.references import Expected, Hdf5Frame, ImageFrame
from dvfb_stream.errors import FrameError

ANY = Expected(None, None)


@pytest.fixture
def files():
    opened = FrameFiles()
    yield opened
    opened.close()


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
    "settings",
    [
        {"chunks": (1, 3, 4)},
        {"chunks": (2, 1, 3, 4), "shape": (6, 1, 3, 4)},
        {"chunks": (1, 1, 3, 4), "shape": (3, 2, 3, 4)},
        {"chunks": (1, 3, 4), "compression": "gzip"},
        {"chunks": (4, 3, 4), "compression": "gzip"},
        {"chunks": (4, 2, 3), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (2, 3, 4)},
        {"chunks": (1, 2, 4)},
        {"chunks": (1, 4, 4), "maxshape": (6, 8, 4)},
        {"chunks": None},
        {"chunks": (1, 3, 4), "dtype": ">i4"},
        {"chunks": None, "dtype": ">f4"},
        {"chunks": (1, 3, 4), "dtype": "f4"},
        {"chunks": (1, 3, 4), "dtype": "f2"},
        {"chunks": (1, 3, 4), "dtype": "?"},
        {"chunks": (1, 3, 4), "dtype": h5py.enum_dtype({"dark": 0, "bright": 6}, basetype="u1")},
        {"chunks": (1, 3, 4), "userblock": 512},
        {"chunks": None, "userblock": 512},
    ],
)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_frames_are_the_same_however_they_are_stored(tmp_path, settings, libver):
    settings = dict(settings)
    path, dtype = str(tmp_path / "a.h5"), settings.pop("dtype", "<i4")
    shape, userblock = settings.pop("shape", (6, 3, 4)), settings.pop("userblock", 0)
    values = (np.arange(72).reshape(shape) % 7).astype(dtype)
    with h5py.File(path, "w", userblock_size=userblock, libver=libver) as file:
        file.create_dataset("d", data=values, **settings)
    files = FrameFiles()
    for number, frame in enumerate(values.reshape(-1, 3, 4)):
        found = files.hdf5(path, "d", number, Expected((3, 4), np.dtype(dtype)), "run")
        np.testing.assert_array_equal(found, frame)
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
        assert found.flags.c_contiguous
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
        file["complex"] = np.zeros((2, 3), np.complex64)
        file["wide"] = np.zeros((2, 3), np.longdouble)
        file["one"] = np.zeros(5)
        file["nothing"] = h5py.Empty("f4")
        file.create_group("group")
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
        (
            Hdf5Frame(path, "words", 0, ANY),
            "holds values of the type .*; a frame's pixels are integers or real",
        ),
        (Hdf5Frame(path, "complex", 0, ANY), "holds values of the type complex64"),
        (Hdf5Frame(path, "wide", 0, ANY), "holds values of the type .*128.* at most 8 bytes"),
        (Hdf5Frame(path, "one", 0, ANY), r"in no dataset of images: it has the shape \(5,\)"),
        (Hdf5Frame(path, "nothing", 0, ANY), "no dataset of images: it is empty"),
        (Hdf5Frame(path, "group", 0, ANY), "no dataset of images: it is .*group"),
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
    np.save(tmp_path / "a.npy", np.array([[{"a": 1}]], dtype=object), allow_pickle=True)
    with pytest.raises(FrameError, match="holds values of the type object"):
        FrameFiles().image(str(tmp_path / "a.npy"), 0, ANY, "run")


# -- HDF5 files and their writers ------------------------------------------------------------------------


WRITER = """
import sys
import h5py
import numpy as np

path, settings = sys.argv[1], eval(sys.argv[2])
with h5py.File(path, "w", libver="latest") as file:
    data = file.create_dataset("d", dtype="u2", **settings)
    file.swmr_mode = True
    print("open", flush=True)
    for line in sys.stdin:
        number = int(line)
        if number >= len(data):
            data.resize(number + 1, axis=0)
        data[number] = number + 1
        data.flush()
        print("written", flush=True)
print("closed", flush=True)
sys.stdin.close()
"""


class Writer:
    """Another process that writes a file while it is read; frame n is full of n + 1."""

    def __init__(self, path, **settings):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path, repr(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "open\n"

    def write(self, number):
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "written\n"

    def close(self):
        self.process.stdin.close()
        assert self.process.stdout.read() == "closed\n"
        assert self.process.wait() == 0
        self.process.stdout.close()


GROWING = {"shape": (0, 30, 40), "maxshape": (None, 30, 40), "chunks": (1, 30, 40)}
PREALLOCATED = {"shape": (6, 30, 40), "chunks": (1, 30, 40)}


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("settings", [GROWING, PREALLOCATED, GROWING | {"chunks": (2, 15, 40)}])
def test_a_file_of_another_process_is_followed_as_it_grows(tmp_path, files, settings, compression):
    path = str(tmp_path / "a.h5")
    writer, late = Writer(path, compression=compression, **settings), []
    for number in range(6):
        if settings["chunks"][0] == 1 or number % 2 == 0:
            with pytest.raises(NotThereYetError, match=r"is not written yet|none with number") as raised:
                files.hdf5(path, "d", number, ANY, "run")
            late.append(raised)  # and with it all that its traceback refers to
        writer.write(number)
        for known in range(number + 1):
            assert (files.hdf5(path, "d", known, ANY, "run") == known + 1).all()
    writer.close()
    assert (files.hdf5(path, "d", 5, ANY, "run") == 6).all()


def test_a_file_that_was_whole_when_it_was_opened_is_followed_when_it_grows(tmp_path, files):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=np.ones((1, 3, 4)), maxshape=(None, 3, 4))
    assert files.hdf5(path, "d", 0, ANY, "run")[0, 0] == 1
    with pytest.raises(NotThereYetError, match="none with number 1"):
        files.hdf5(path, "d", 1, ANY, "run")
    assert files.hdf5(path, "d", 0, ANY, "run")[0, 0] == 1
    append = f"import h5py; f = h5py.File({path!r}, 'a'); f['d'].resize(2, axis=0); f['d'][1] = 2; f.close()"
    subprocess.run([sys.executable, "-c", append], check=True)
    assert files.hdf5(path, "d", 1, ANY, "run")[0, 0] == 2
    assert files.open_files == 1


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_that_this_process_writes_is_followed_and_not_kept_open(tmp_path, files, libver):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w", libver=libver) as file:
        data = file.create_dataset("d", (0, 3, 4), "f4", maxshape=(None, 3, 4), chunks=(1, 3, 4))
        if libver == "latest":
            file.swmr_mode = True
        for number in range(3):
            with pytest.raises(NotThereYetError, match=f"none with number {number}"):
                files.hdf5(path, "d", number, ANY, "run")
            data.resize(number + 1, axis=0)
            data[number] = number + 1
            assert (files.hdf5(path, "d", number, ANY, "run") == number + 1).all()
            assert files.open_files == 0
    # As a process of its own finds it: closed.
    subprocess.run([sys.executable, "-c", f"import h5py; h5py.File({path!r}, 'r+').close()"], check=True)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_that_is_read_can_be_opened_for_writing_by_another_process(tmp_path, files, libver):
    path = str(tmp_path / "a.h5")
    for mode in ("r+", "w"):
        with h5py.File(path, "w", libver=libver) as file:
            file["d"] = np.ones((2, 3, 4))
        files.hdf5(path, "d", 0, ANY, "run")
        assert files.open_files == 1
        code = f"import h5py; h5py.File({path!r}, {mode!r}, libver={libver!r}).close()"
        subprocess.run([sys.executable, "-c", code], check=True)
        files.release("run")


def test_what_no_run_uses_any_more_is_closed(tmp_path, files):
    for name in "ab":
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["d"] = np.ones((2, 3, 4))
    a, b = str(tmp_path / "a.h5"), str(tmp_path / "b.h5")
    for path, run in ((a, "first"), (b, "first"), (b, "second")):
        files.hdf5(path, "d", 0, ANY, run)
    assert files.open_files == 2
    files.release("first")
    assert files.open_files == 1
    h5py.File(a, "w").close()
    files.release("never heard of")
    files.release("second")
    assert files.open_files == 0
    h5py.File(b, "w").close()


def test_a_file_written_anew_in_place_is_opened_anew_for_the_next_run(tmp_path, files):
    path = str(tmp_path / "a.h5")
    code = (
        "import h5py, numpy as np\nwith h5py.File({!r}, 'w', libver='latest') as f:\n"
        " f['pad'] = np.zeros({}); f.create_dataset('d', data=np.full((3, 40, 60), {}), chunks=(1, 40, 60))"
    )
    for value, run in ((1, "first"), (2, "second")):
        subprocess.run([sys.executable, "-c", code.format(path, 5000 * value, value)], check=True)
        for number in range(3):
            assert (files.hdf5(path, "d", number, ANY, run) == value).all()


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
    reading = threading.Thread(target=files.handled, args=("SLOW", "x", {}, {}, 0, ANY, "run"))
    reading.start()
    assert begun.wait(10)
    assert files.open_files == 1
    go_on.set()
    reading.join()
    files.close()


# -- frames that are not there ---------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"compression": "gzip"}])
def test_a_frame_that_was_never_written_is_not_made_up(tmp_path, files, settings):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("d", (3, 30, 40), "<i4", chunks=(1, 15, 40), fillvalue=-1, **settings)
        data[0], data[2] = 5, 6
        data[1, :15] = 7
        file.create_dataset("contiguous", (3, 30, 40), "f4")
    assert [files.hdf5(path, "d", number, ANY, "run")[0, 0] for number in (0, 2)] == [5, 6]
    for name, number in (("d", 1), ("contiguous", 0)):
        with pytest.raises(
            NotThereYetError, match=rf"a.h5::{name}\[{number}\] is not there: it is not written"
        ):
            files.hdf5(path, name, number, ANY, "run")


@pytest.mark.parametrize(
    "settings",
    [{}, {"chunks": (2, 4, 6)}, {"chunks": (1, 4, 6)}, {"chunks": (1, 4, 6), "compression": "gzip"}],
)
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_file_cut_off_gives_no_frame_and_does_not_hang(tmp_path, settings, libver, is_open):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w", libver=libver) as file:
        file.create_dataset("d", data=np.full((40, 4, 6), 9, "u4"), **settings)
    files = FrameFiles()
    if is_open:
        files.hdf5(path, "d", 0, ANY, "run")
    os.truncate(path, os.path.getsize(path) - 1500)
    with pytest.raises(NotThereYetError, match=r"cannot be opened: .*truncated file"):
        files.hdf5(path, "d", 39, ANY, "run")
    files.close()


def test_a_copy_of_a_file_that_is_being_written_and_is_not_whole_does_not_hang(tmp_path, files):
    path, copy = str(tmp_path / "a.h5"), str(tmp_path / "copy.h5")
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("d", data=np.full((40, 4, 6), 9, "u4"), chunks=(1, 4, 6), compression="gzip")
        file.swmr_mode = True
        shutil.copy(path, copy)
    assert (files.hdf5(copy, "d", 39, ANY, "run") == 9).all()
    os.truncate(copy, os.path.getsize(copy) - 1500)
    with pytest.raises(NotThereYetError, match="cannot be opened"):
        files.hdf5(copy, "d", 39, ANY, "run")


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
            reference.read(files, "run")
        assert not isinstance(raised.value, NotThereYetError)


def test_no_handler_is_made_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a")
    files = FrameFiles(handlers={"MINE": open})
    with pytest.raises(FrameError, match="is a named pipe"):
        files.handled("MINE", str(tmp_path / "a"), {}, {}, 0, ANY, "run")


# -- links, virtual datasets, data outside ---------------------------------------------------------------


def test_external_links_are_followed_to_the_files_own_frames(tmp_path, files):
    frames = np.arange(4 * 30 * 40, dtype="i4").reshape(4, 30, 40)
    for name, offset in (("data_000001", 0), ("other", 10_000)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("entry/d", data=frames + offset, chunks=(1, 30, 40))
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("data_000001.h5", "entry/d")
        file["entry/group"] = h5py.ExternalLink("data_000001.h5", "entry")
        file["circle"] = h5py.ExternalLink("master.h5", "round")
        file["round"] = h5py.ExternalLink("other.h5", "back")
        file["late"] = h5py.ExternalLink("late.h5", "d")
    with h5py.File(tmp_path / "other.h5", "a") as file:
        file["back"] = h5py.ExternalLink("master.h5", "circle")
    master, other = str(tmp_path / "master.h5"), str(tmp_path / "other.h5")
    for number, frame in enumerate(frames):
        for name in ("entry/data/data_000001", "entry/group/d"):
            np.testing.assert_array_equal(files.hdf5(master, name, number, ANY, "run"), frame)
        np.testing.assert_array_equal(files.hdf5(other, "entry/d", number, ANY, "other run"), frame + 10_000)
    assert files.open_files == 3
    with pytest.raises(FrameError, match="lead round in a circle"):
        files.hdf5(master, "circle", 0, ANY, "run")
    with pytest.raises(NotThereYetError, match=r"master.h5::late\[0\] is not there: .*late.h5 is not there"):
        files.hdf5(master, "late", 0, ANY, "run")


def test_a_virtual_frame_is_there_once_its_own_file_is_and_reaches_as_far(tmp_path, files):
    path = str(tmp_path / "virtual.h5")
    layout = h5py.VirtualLayout((5, 3, 4), "i8", maxshape=(None, 3, 4))
    for number in range(2):
        layout[2 * number : 2 * number + 2] = h5py.VirtualSource(f"{number}.h5", "d", (2, 3, 4))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("d", layout, fillvalue=-1)
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["d"] = np.full((2, 3, 4), 5)
    assert (files.hdf5(path, "d", 1, ANY, "run") == 5).all()
    with pytest.raises(NotThereYetError, match=r"virtual.h5::d\[2\] .*1.h5::d: .*1.h5 is not there"):
        files.hdf5(path, "d", 2, ANY, "run")
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file.create_dataset("d", data=np.full((1, 3, 4), 7), maxshape=(2, 3, 4))
    with pytest.raises(NotThereYetError, match=r"1.h5::d: it has the shape \(1, 3, 4\)"):
        files.hdf5(path, "d", 3, ANY, "run")
    with h5py.File(tmp_path / "1.h5", "a") as file:
        file["d"].resize(2, axis=0)
        file["d"][1] = 8
    assert [files.hdf5(path, "d", number, ANY, "run")[2, 3] for number in range(4)] == [5, 5, 7, 8]
    with pytest.raises(NotThereYetError, match="no file is mapped there yet"):
        files.hdf5(path, "d", 4, ANY, "run")


def test_a_virtual_dataset_over_files_that_other_processes_write_is_followed(tmp_path, files):
    writers = [Writer(str(tmp_path / f"{number}.h5"), **PREALLOCATED) for number in range(2)]
    layout = h5py.VirtualLayout((12, 30, 40), "u2")
    for number in range(2):
        layout[number::2] = h5py.VirtualSource(f"{number}.h5", "d", (6, 30, 40))
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    path = str(tmp_path / "virtual.h5")
    for number in range(6):
        with pytest.raises(NotThereYetError, match=f"{number % 2}.h5::d: it is not written yet"):
            files.hdf5(path, "d", number, ANY, "run")
        writers[number % 2].write(number // 2)
        assert (files.hdf5(path, "d", number, ANY, "run") == number // 2 + 1).all()
    for writer in writers:
        writer.close()


def test_virtual_frames_are_as_hdf5_itself_reads_them(tmp_path, files):
    """Modules side by side with gaps, a stack of stacks, single images, unlimited and numbered files, nested."""
    rng = np.random.default_rng(0)
    for number in range(4):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file.create_dataset(
                "d", data=rng.integers(1, 99, (6, 5, 7)), maxshape=(None, 5, 7), chunks=(2, 5, 7)
            )
            file["one"] = rng.integers(1, 99, (5, 7)).astype("i4")
            file["row"] = rng.integers(1, 99, (6, 1, 7))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        modules = h5py.VirtualLayout((6, 12, 16), "i8")
        for number in range(4):
            top, left = 7 * (number // 2), 9 * (number % 2)
            modules[:, top : top + 5, left : left + 7] = h5py.VirtualSource(f"{number}.h5", "d", (6, 5, 7))
        file.create_virtual_dataset("modules", modules, fillvalue=-2)
        part = h5py.VirtualLayout((3, 3, 4), "i4")
        part[...] = h5py.VirtualSource("0.h5", "d", (6, 5, 7))[1::2, 1:4, 2:6]
        file.create_virtual_dataset("part", part)
        nested = h5py.VirtualLayout((2, 3, 5, 16), "i8")
        nested[0] = h5py.VirtualSource(".", "modules", (6, 12, 16))[:3, 5:10, :]
        nested[1] = h5py.VirtualSource(".", "modules", (6, 12, 16))[3:, :5, :]
        file.create_virtual_dataset("nested", nested)
        images = h5py.VirtualLayout((4, 5, 7), "i4")
        for number in range(4):
            images[number] = h5py.VirtualSource(f"{number}.h5", "one", (5, 7))
        file.create_virtual_dataset("images", images)
        rows = h5py.VirtualLayout((6, 4, 7), "i8")
        for number in range(4):
            rows[:, number : number + 1] = h5py.VirtualSource(f"{number}.h5", "row", (6, 1, 7))
        file.create_virtual_dataset("rows", rows)
        unlimited = h5py.VirtualLayout((6, 5, 7), "i8", maxshape=(None, 5, 7))
        source = h5py.VirtualSource("2.h5", "d", (6, 5, 7), maxshape=(None, 5, 7))
        unlimited[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
        file.create_virtual_dataset("unlimited", unlimited)
        settings, space = (
            h5py.h5p.create(h5py.h5p.DATASET_CREATE),
            h5py.h5s.create_simple((24, 5, 7), (2**64 - 1, 5, 7)),
        )
        selected, whole = space.copy(), h5py.h5s.create_simple((6, 5, 7))
        selected.select_hyperslab((0, 0, 0), (2**64 - 1, 1, 1), (6, 1, 1), (6, 5, 7))
        settings.set_virtual(selected, b"%b.h5", b"d", whole)
        h5py.h5d.create(file.id, b"numbered", h5py.h5t.NATIVE_INT64, space, settings)
    path = str(tmp_path / "v.h5")
    with h5py.File(path, "r", locking=False) as file:
        truth = {name: data[()].reshape(-1, *data.shape[-2:]) for name, data in file.items()}
    assert len(truth["numbered"]) == 24
    for name, frames in truth.items():
        assert frames.any(axis=(1, 2)).all(), name
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(files.hdf5(path, name, number, ANY, "run"), frame, err_msg=name)


def test_virtual_datasets_that_lead_round_in_a_circle_end(tmp_path, files):
    layout = h5py.VirtualLayout((1, 3, 4), "i4")
    layout[0] = h5py.VirtualSource("b.h5", "d", (3, 4))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    layout = h5py.VirtualLayout((3, 4), "i4")
    layout[...] = h5py.VirtualSource("a.h5", "d", (1, 3, 4))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    with pytest.raises(FrameError, match="lead round in a circle"):
        files.hdf5(str(tmp_path / "a.h5"), "d", 0, ANY, "run")


def test_data_outside_hdf5_are_read_once_they_are_there(tmp_path, files):
    raw, path = tmp_path / "raw.bin", str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("d", (3, 5, 7), "<i4", external=[(str(raw), 16, 3 * 140)])
    frames = np.arange(105, dtype="<i4").reshape(3, 5, 7)
    with pytest.raises(NotThereYetError, match=r"raw.bin is not there"):
        files.hdf5(path, "d", 0, ANY, "run")
    raw.write_bytes(bytes(16) + frames[:2].tobytes())
    np.testing.assert_array_equal(files.hdf5(path, "d", 1, ANY, "run"), frames[1])
    with pytest.raises(NotThereYetError, match=r"data in .*raw.bin are not written yet"):
        files.hdf5(path, "d", 2, ANY, "run")
    raw.unlink()
    os.mkfifo(raw)
    with pytest.raises(FrameError, match="is a named pipe"):
        files.hdf5(path, "d", 0, ANY, "run")


# -- what is read, and how often -------------------------------------------------------------------------


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
        files.image(str(tmp_path / "a.npy"), 0, expected, "run"),
        files.hdf5(str(tmp_path / "a.h5"), "d", 0, expected, "run"),
        files.handled("MINE", "x", {}, {}, 0, expected, "run"),
    ):
        assert found.dtype == np.dtype("u2")
        assert found.dtype.isnative
        np.testing.assert_array_equal(found, frame)
    files.close()


def test_what_is_larger_than_the_descriptor_says_is_refused_before_it_is_read(tmp_path, files):
    """Files of few bytes, whose headers claim gigabytes."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", shape=(1, 300_000, 200_000), dtype="u1", chunks=(1, 1000, 1000))
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"shape": (300_000, 200_000), "fortran_order": False, "descr": "|u1"}
        )
    for expected, message in (
        (Expected((4, 6), None), r"\(300000, 200000\), but the descriptor says \(4, 6\)"),
        (ANY, "more than any detector's"),
    ):
        tracemalloc.start()
        with pytest.raises(FrameError, match=message):
            files.hdf5(str(tmp_path / "a.h5"), "d", 0, expected, "run")
        with pytest.raises(FrameError, match=message):
            files.image(str(tmp_path / "a.npy"), 0, expected, "run")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_stack_in_a_npy_file_is_read_frame_by_frame_once_it_is_whole(tmp_path, files, order):
    stack = np.asarray(np.arange(6 * 5 * 7, dtype="i4").reshape(6, 5, 7), order=order)
    path = tmp_path / "a.npy"
    np.save(path, stack)
    for number, frame in enumerate(stack):
        np.testing.assert_array_equal(
            files.image(str(path), number, Expected((5, 7), np.dtype("i4")), "run"), frame
        )
    with pytest.raises(NotThereYetError, match="has 6 frames, none with number 6"):
        files.image(str(path), 6, ANY, "run")
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(NotThereYetError, match="is not whole: 1 bytes of its frames are missing"):
        files.image(str(path), 0, ANY, "run")
    np.save(path, np.arange(5))
    with pytest.raises(FrameError, match=r"has the shape \(5,\), which is no image"):
        files.image(str(path), 0, ANY, "run")


def test_a_compressed_chunk_of_several_frames_is_decompressed_once_and_again_when_it_changes(
    tmp_path, files, monkeypatch
):
    path, read = str(tmp_path / "a.h5"), []
    real = h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda *given: read.append(given) or real(*given))
    writer = Writer(path, shape=(8, 30, 40), chunks=(4, 30, 40), compression="gzip")
    for number in range(4):
        writer.write(number)
    assert [files.hdf5(path, "d", n, ANY, "run")[0, 0] for n in (0, 1, 2, 3, 0)] == [1, 2, 3, 4, 1]
    assert len(read) == 1
    writer.write(4)
    assert files.hdf5(path, "d", 4, ANY, "run")[0, 0] == 5
    writer.write(5)
    assert [files.hdf5(path, "d", n, ANY, "run")[0, 0] for n in (4, 5)] == [5, 6]
    assert len(read) == 3
    # What was handed out is nobody else's.
    frame = files.hdf5(path, "d", 5, ANY, "run")
    frame[:] = 0
    assert files.hdf5(path, "d", 5, ANY, "run")[0, 0] == 6
    writer.close()


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
        return files.handled("STACK", str(path), {}, datum, position, ANY, run)[0, 0]

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
            files.handled("STACK", str(tmp_path / "a.txt"), resource, datum, 0, ANY, "run")
        assert not isinstance(raised.value, NotThereYetError)
    with pytest.raises(NotThereYetError, match="raised FileNotFoundError"):
        files.handled("STACK", str(tmp_path / "late.txt"), {}, {}, 0, ANY, "run")
    files.close()
