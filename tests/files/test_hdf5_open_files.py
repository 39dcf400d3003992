"""HDF5 files as their writers leave them: growing, locked by nobody, written anew, cut off."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plans as bp

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, Hdf5Frame

from .conftest import ANY, GROWING, PREALLOCATED, Writer


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("settings", [GROWING, PREALLOCATED, GROWING | {"chunks": (2, 15, 40)}])
def test_a_file_of_another_process_is_followed_as_it_grows(tmp_path, files, settings, compression):
    path = str(tmp_path / "a.h5")
    writer, late = Writer(path, compression=compression, **settings), []
    for number in range(6):
        if settings["chunks"][0] == 1 or number % 2 == 0:
            with pytest.raises(NotThereYetError, match=r"is not written yet|none with number") as raised:
                files.read(Hdf5Frame(path, "d", number, ANY), "run")
            late.append(raised)  # and with it all that its traceback refers to
        with pytest.raises(FrameError, match=r"none with number|not written yet") as raised:
            files.read(Hdf5Frame(path, "d", 99, Expected((1, 1), None)), "run")
        late.append(raised)
        writer.write(number)
        for known in range(number + 1):
            assert (files.read(Hdf5Frame(path, "d", known, ANY), "run") == known + 1).all()
    writer.close()
    assert (files.read(Hdf5Frame(path, "d", 5, ANY), "run") == 6).all()


def test_a_file_that_was_whole_when_it_was_opened_is_followed_when_it_grows(tmp_path, files):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=np.ones((1, 3, 4)), maxshape=(None, 3, 4))
    assert files.read(Hdf5Frame(path, "d", 0, ANY), "run")[0, 0] == 1
    with pytest.raises(NotThereYetError, match="none with number 1"):
        files.read(Hdf5Frame(path, "d", 1, ANY), "run")
    assert files.read(Hdf5Frame(path, "d", 0, ANY), "run")[0, 0] == 1
    append = f"import h5py; f = h5py.File({path!r}, 'a'); f['d'].resize(2, axis=0); f['d'][1] = 2; f.close()"
    subprocess.run([sys.executable, "-c", append], check=True)
    assert files.read(Hdf5Frame(path, "d", 1, ANY), "run")[0, 0] == 2
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
                files.read(Hdf5Frame(path, "d", number, ANY), "run")
            data.resize(number + 1, axis=0)
            data[number] = number + 1
            assert (files.read(Hdf5Frame(path, "d", number, ANY), "run") == number + 1).all()
            assert files.open_files == 0
    # As a process of its own finds it: closed.
    subprocess.run([sys.executable, "-c", f"import h5py; h5py.File({path!r}, 'r+').close()"], check=True)


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_file_that_is_read_can_be_opened_for_writing_by_another_process(tmp_path, files, libver):
    path = str(tmp_path / "a.h5")
    for mode in ("r+", "w"):
        with h5py.File(path, "w", libver=libver) as file:
            file["d"] = np.ones((2, 3, 4))
        files.read(Hdf5Frame(path, "d", 0, ANY), "run")
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
        files.read(Hdf5Frame(path, "d", 0, ANY), run)
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
            assert (files.read(Hdf5Frame(path, "d", number, ANY), run) == value).all()


def test_files_are_kept_open_up_to_a_bound_and_a_replaced_one_is_opened_anew(tmp_path):
    files = FrameFiles(max_open=3)
    for number in range(8):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["d"] = np.full((2, 3, 4), number)
    for number in [*range(8), *range(8)]:
        assert files.read(Hdf5Frame(str(tmp_path / f"{number}.h5"), "d", 1, ANY), "run")[0, 0] == number
    assert files.open_files == 3
    with h5py.File(tmp_path / "new.h5", "w") as file:
        file["d"] = np.full((2, 3, 4), 99)
    (tmp_path / "new.h5").rename(tmp_path / "7.h5")
    assert files.read(Hdf5Frame(str(tmp_path / "7.h5"), "d", 1, ANY), "run")[0, 0] == 99
    files.close()
    with pytest.raises(FrameError, match="the files are closed"):
        files.read(Hdf5Frame(str(tmp_path / "7.h5"), "d", 1, ANY), "run")


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
        files.read(Hdf5Frame(path, "d", 0, ANY), "run")
    os.truncate(path, os.path.getsize(path) - 1500)
    with pytest.raises(NotThereYetError, match=r"cannot be opened as HDF5 .*truncated file"):
        files.read(Hdf5Frame(path, "d", 39, ANY), "run")
    files.close()


def test_a_copy_of_a_file_that_is_being_written_and_is_not_whole_does_not_hang(tmp_path, files):
    path, copy = str(tmp_path / "a.h5"), str(tmp_path / "copy.h5")
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset("d", data=np.full((40, 4, 6), 9, "u4"), chunks=(1, 4, 6), compression="gzip")
        file.swmr_mode = True
        shutil.copy(path, copy)
    assert (files.read(Hdf5Frame(copy, "d", 39, ANY), "run") == 9).all()
    os.truncate(copy, os.path.getsize(copy) - 1500)
    with pytest.raises(NotThereYetError, match="cannot be opened"):
        files.read(Hdf5Frame(copy, "d", 39, ANY), "run")


def test_a_frame_past_the_end_of_a_growing_file_is_not_made_up(tmp_path, files):
    """As on a file server, which shows a file to be longer only after it says so: HDF5 reads zeros there."""
    path, copy = str(tmp_path / "a.h5"), str(tmp_path / "copy.h5")
    writer = Writer(path, **GROWING)
    for number in range(3):
        writer.write(number)
    shutil.copy(path, copy)
    with h5py.File(copy, "r", locking=False, swmr=True) as file:
        chunk = file["d"].id.get_chunk_info_by_coord((2, 0, 0))
    os.truncate(copy, chunk.byte_offset + chunk.size - 1000)
    assert (files.read(Hdf5Frame(copy, "d", 1, ANY), "run") == 2).all()
    with pytest.raises(NotThereYetError, match="is not whole"):
        files.read(Hdf5Frame(copy, "d", 2, ANY), "run")
    writer.close()


def test_contiguous_frames_past_the_end_of_a_growing_file_are_not_made_up(tmp_path, files):
    path, copy = str(tmp_path / "a.h5"), str(tmp_path / "copy.h5")
    writer = Writer(path, shape=(3, 30, 40))
    for number in range(3):
        writer.write(number)
    shutil.copy(path, copy)
    os.truncate(copy, os.path.getsize(copy) - 1000)
    with pytest.raises(NotThereYetError):
        files.read(Hdf5Frame(copy, "d", 2, ANY), "run")
    writer.close()


def test_a_detector_writes_the_same_file_again_in_the_next_run_of_this_process(tmp_path, files):
    """ophyd-async's simulated detector; each frame is read as soon as it is announced, while its file is written."""
    from ophyd_async.core import StaticFilenameProvider, StaticPathProvider, init_devices
    from ophyd_async.sim import PatternGenerator, SimBlobDetector

    RE, where, read = RunEngine(), {}, []

    def reads(name, doc):
        if name == "stream_resource":
            where[doc["uid"]] = (doc["uri"].removeprefix("file://localhost"), doc["parameters"]["dataset"])
        elif name == "stream_datum" and where[doc["stream_resource"]][1] == "/entry/data/data":
            for number in range(doc["indices"]["start"], doc["indices"]["stop"]):
                read.append(
                    files.read(Hdf5Frame(*where[doc["stream_resource"]], number, ANY), RE.md["scan_id"])
                )
        elif name == "stop":
            files.release(RE.md["scan_id"])

    RE.subscribe(reads)
    provider = StaticPathProvider(StaticFilenameProvider("same"), tmp_path)
    with init_devices():
        detector = SimBlobDetector(
            provider, PatternGenerator(sleep=lambda seconds: asyncio.sleep(0)), name="saxs"
        )
    for _ in range(2):
        read.clear()
        RE(bp.count([detector], 3))
        assert files.open_files == 0
        with h5py.File(tmp_path / "same.h5") as file:
            frames = file["entry/data/data"][()].reshape(3, *read[0].shape)
        np.testing.assert_array_equal(np.stack(read), frames)
