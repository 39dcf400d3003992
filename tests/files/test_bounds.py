"""The bounds that reading keeps, each at its own value: what lies within is read, what lies beyond is not."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import fabio
import fabio.edfimage
import h5py
import numpy as np
import pytest

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files import DetectorDescription, handlers, open_files_cache, open_frames
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, HandledFrame, Hdf5Frame
from dvfb_stream.files.tiff_directories import frame_directories


def chain_of_links(folder, steps):
    """A dataset that is reached through so many external links."""
    with h5py.File(folder / "0.h5", "w") as file:
        file["d"] = np.ones((3, 4))
    for step in range(steps):
        with h5py.File(folder / f"{step + 1}.h5", "w") as file:
            file["d"] = h5py.ExternalLink(f"{step}.h5", "d")
    return Hdf5Frame(str(folder / f"{steps}.h5"), "d", 0)


def chain_of_virtual_datasets(folder, steps):
    with h5py.File(folder / "0.h5", "w") as file:
        file["d"] = np.ones((3, 4))
    for step in range(steps):
        layout = h5py.VirtualLayout((3, 4), "f8")
        layout[...] = h5py.VirtualSource(f"{step}.h5", "d", (3, 4))
        with h5py.File(folder / f"{step + 1}.h5", "w") as file:
            file.create_virtual_dataset("d", layout)
    return Hdf5Frame(str(folder / f"{steps}.h5"), "d", 0)


@pytest.mark.parametrize("chain", [chain_of_links, chain_of_virtual_datasets])
def test_eight_steps_from_file_to_file_are_followed_and_nine_are_a_circle(tmp_path, files, chain):
    for steps in (8, 9):
        (tmp_path / str(steps)).mkdir()
    assert files.read(chain(tmp_path / "8", 8), "run").all()
    with pytest.raises(FrameError, match="lead round in a circle"):
        files.read(chain(tmp_path / "9", 9), "run")


def test_a_frame_of_a_gigabyte_is_believed_and_a_larger_one_is_not():
    Expected().check_promise((1 << 14, 1 << 14), np.dtype("f4"), "it")
    with pytest.raises(FrameError, match="more than any detector's"):
        Expected().check_promise((1 + (1 << 14), 1 << 14), np.dtype("f4"), "it")


def test_datasets_that_could_be_images_are_offered_up_to_six_of_them(tmp_path):
    path = tmp_path / "a.h5"
    deep = "/".join("g" * 12)
    with h5py.File(path, "w") as file:
        for number in range(7):
            file[f"d{number}"] = np.zeros((16, 16), "u2")
        file["narrow"] = np.zeros((100, 15), "u2")
    with pytest.raises(FrameError, match=r"d5 \(16, 16\) and 1 more$"), open_frames(str(path)):
        pass
    with h5py.File(path, "w") as file:
        file[f"{deep}/twelve"] = np.zeros((16, 16), "u2")
        file[f"{deep}/g/thirteen"] = np.ones((16, 16), "u2")
    with open_frames(str(path)) as frames:
        assert not frames.read(0).any()


def test_a_datum_or_chunk_of_sixteen_frames_of_four_megapixels_is_kept():
    assert open_files_cache.MOST_KEPT_BYTES == 16 * 4 * 2**20 * 4


@pytest.mark.parametrize(("bound", "calls"), [(2 * 96, 1), (2 * 96 - 1, 2)])
def test_a_datum_is_kept_for_its_next_frame_up_to_the_bound(monkeypatch, bound, calls):
    monkeypatch.setattr(handlers, "MOST_KEPT_BYTES", bound)
    called = []

    class Stack:
        def __init__(self, path):
            pass

        def __call__(self):
            called.append(1)
            return np.ones((2, 3, 4))

    files = FrameFiles(handlers={"STACK": Stack})
    for position in range(2):
        files.read(HandledFrame("STACK", "x", {}, {}, position), "run")
    assert len(called) == calls
    files.close()


@pytest.mark.parametrize(
    ("bound", "reads"), [(7 * 96, 1), (4 * 96, 2), (3 * 96 + 95, 3), (2 * 96, 4), (96, 7)]
)
def test_a_chunk_is_kept_for_its_next_frames_up_to_the_bound(tmp_path, monkeypatch, bound, reads):
    monkeypatch.setattr("dvfb_stream.files.hdf5_open_files.MOST_KEPT_BYTES", bound)
    monkeypatch.setattr("dvfb_stream.files.open_files_cache.MOST_KEPT_BYTES", bound)
    frames = np.arange(14 * 12.0).reshape(14, 3, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=frames, chunks=(7, 3, 4), compression="gzip")
    read, real = [], h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda *given: read.append(given) or real(*given))
    files = FrameFiles()
    for number in range(14):
        found = files.read(Hdf5Frame(str(tmp_path / "a.h5"), "d", number), "run")
        np.testing.assert_array_equal(found, frames[number])
    assert len(read) == 2 * reads
    files.close()


def test_of_a_datum_that_is_too_large_the_next_frames_are_kept(monkeypatch):
    monkeypatch.setattr(handlers, "MOST_KEPT_BYTES", 3 * 96)
    called, frames = [], np.arange(7 * 12.0).reshape(7, 3, 4)

    class Stack:
        def __init__(self, path):
            pass

        def __call__(self):
            called.append(1)
            return frames

    files = FrameFiles(handlers={"STACK": Stack})
    for position in (0, 1, 2, 3, 4, 5, 6, 0):
        found = files.read(HandledFrame("STACK", "x", {}, {}, position), "run")
        np.testing.assert_array_equal(found, frames[position])
    assert len(called) == 4
    with pytest.raises(NotThereYetError, match="has 7 frames, none with number 7"):
        files.read(HandledFrame("STACK", "x", {}, {}, 7), "run")
    files.close()


def tiff_of(images):
    """A chain of so many empty image directories."""
    entries = [struct.pack("<HI", 0, 8 + 6 * (number + 1)) for number in range(images - 1)]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(entries) + struct.pack("<HI", 0, 0)


def test_a_tiff_of_100_000_images_is_followed_and_one_more_is_damage():
    path = Path("a.tif")
    assert frame_directories(path, io.BytesIO(tiff_of(100_000))) == list(range(100_000))
    with pytest.raises(FrameError, match="has no end"):
        frame_directories(path, io.BytesIO(tiff_of(100_001)))


def test_a_file_of_several_images_is_opened_anew_once_fabio_keeps_more_than_64_megabytes(
    tmp_path, monkeypatch
):
    image = fabio.edfimage.EdfImage(data=np.zeros((1024, 1024)))
    image.append_frame(data=np.zeros((1024, 1024)))
    image.write(str(tmp_path / "a.edf"))
    opened, real = [], fabio.open
    monkeypatch.setattr(fabio, "open", lambda path: opened.append(path) or real(path))
    with open_frames(str(tmp_path / "a.edf")) as file:
        for _ in range(9):
            file.read(0)
        assert len(opened) == 1
        file.read(1)
        assert len(opened) == 2


def test_geometries_of_a_detector_are_kept_for_a_few_shapes():
    detector = DetectorDescription(center_x=1.0, center_y=2.0).load()
    first = detector.geometry((1, 9))
    for rows in range(2, 17):
        detector.geometry((rows, 9))
    assert detector.geometry((1, 9)) is first
    for rows in range(2, 18):
        detector.geometry((rows, 9))
    assert detector.geometry((1, 9)) is not first
