"""Frames out of files, as they really lie there: of every layout, late, cut off, growing, and of the wrong kind."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from dvfb_stream.callbacks.assets import FrameFiles, NotThereYetError
from dvfb_stream.callbacks.assets.references import Expected, Hdf5Frame, ImageFrame
from dvfb_stream.errors import FrameError

ANY = Expected(None, None)


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
