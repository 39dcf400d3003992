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
