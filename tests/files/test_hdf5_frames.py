"""Frames of HDF5 datasets of every layout, in one file and in several, compared with what HDF5 or NumPy say."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, Hdf5Frame

from .conftest import ANY, PREALLOCATED, Writer


@pytest.mark.parametrize("shape", [(3, 4), (6, 3, 4), (6, 1, 3, 4), (2, 3, 3, 4)])
def test_datasets_of_every_shape_are_counted_through(tmp_path, shape):
    path, values = str(tmp_path / "a.h5"), np.arange(np.prod(shape)).reshape(shape)
    with h5py.File(path, "w") as file:
        file["d"] = values
    files, flat = FrameFiles(), values.reshape(-1, 3, 4)
    for number, frame in enumerate(flat):
        np.testing.assert_array_equal(files.read(Hdf5Frame(path, "d", number, ANY), "run"), frame)
    with pytest.raises(NotThereYetError, match=f"has {len(flat)} frames, none with number {len(flat)}"):
        files.read(Hdf5Frame(path, "d", len(flat), ANY), "run")
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
        found = files.read(Hdf5Frame(path, "d", number, Expected((3, 4), np.dtype(dtype))), "run")
        np.testing.assert_array_equal(found, frame)
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
        assert found.flags.c_contiguous
    files.close()


@pytest.mark.parametrize("settings", [{}, {"compression": "gzip"}])
def test_a_frame_that_was_never_written_is_not_made_up(tmp_path, files, settings):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("d", (3, 30, 40), "<i4", chunks=(1, 15, 40), fillvalue=-1, **settings)
        data[0], data[2] = 5, 6
        data[1, :15] = 7
        file.create_dataset("contiguous", (3, 30, 40), "f4")
    assert [files.read(Hdf5Frame(path, "d", number, ANY), "run")[0, 0] for number in (0, 2)] == [5, 6]
    for name, number in (("d", 1), ("contiguous", 0)):
        with pytest.raises(
            NotThereYetError, match=rf"a.h5::{name} frame {number} is not there: it is not written"
        ):
            files.read(Hdf5Frame(path, name, number, ANY), "run")


def test_a_compressed_chunk_of_several_frames_is_decompressed_once_and_again_when_it_changes(
    tmp_path, files, monkeypatch
):
    path, read = str(tmp_path / "a.h5"), []
    real = h5py.Dataset.read_direct
    monkeypatch.setattr(h5py.Dataset, "read_direct", lambda *given: read.append(given) or real(*given))
    writer = Writer(path, shape=(8, 30, 40), chunks=(4, 30, 40), compression="gzip")
    for number in range(4):
        writer.write(number)
    assert [files.read(Hdf5Frame(path, "d", n, ANY), "run")[0, 0] for n in (0, 1, 2, 3, 0)] == [1, 2, 3, 4, 1]
    assert len(read) == 1
    writer.write(4)
    assert files.read(Hdf5Frame(path, "d", 4, ANY), "run")[0, 0] == 5
    writer.write(5)
    assert [files.read(Hdf5Frame(path, "d", n, ANY), "run")[0, 0] for n in (4, 5)] == [5, 6]
    assert len(read) == 3
    # What was handed out is nobody else's.
    frame = files.read(Hdf5Frame(path, "d", 5, ANY), "run")
    frame[:] = 0
    assert files.read(Hdf5Frame(path, "d", 5, ANY), "run")[0, 0] == 6
    writer.close()


def test_a_compression_that_is_not_installed_is_named(tmp_path, files):
    path = str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((1, 3, 4))
        settings.set_filter(32767, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((1, 3, 4))
        h5py.h5d.create(file.id, b"d", h5py.h5t.NATIVE_INT32, space, settings)
        file["d"].id.write_direct_chunk((0, 0, 0), b"whatever")
    with pytest.raises(
        FrameError, match=r"a.h5::d frame 0: it is compressed by the HDF5 filter 32767"
    ) as raised:
        files.read(Hdf5Frame(path, "d", 0, ANY), "run")
    assert not isinstance(raised.value, NotThereYetError)


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
            np.testing.assert_array_equal(files.read(Hdf5Frame(master, name, number, ANY), "run"), frame)
        np.testing.assert_array_equal(
            files.read(Hdf5Frame(other, "entry/d", number, ANY), "other run"), frame + 10_000
        )
    assert files.open_files == 3
    with pytest.raises(FrameError, match="lead round in a circle"):
        files.read(Hdf5Frame(master, "circle", 0, ANY), "run")
    with pytest.raises(
        NotThereYetError, match=r"master.h5::late frame 0 is not there: .*late.h5 is not there"
    ):
        files.read(Hdf5Frame(master, "late", 0, ANY), "run")


def test_a_virtual_frame_is_there_once_its_own_file_is_and_reaches_as_far(tmp_path, files):
    path = str(tmp_path / "virtual.h5")
    layout = h5py.VirtualLayout((5, 3, 4), "i8", maxshape=(None, 3, 4))
    for number in range(2):
        layout[2 * number : 2 * number + 2] = h5py.VirtualSource(f"{number}.h5", "d", (2, 3, 4))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("d", layout, fillvalue=-1)
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file["d"] = np.full((2, 3, 4), 5)
    assert (files.read(Hdf5Frame(path, "d", 1, ANY), "run") == 5).all()
    with pytest.raises(NotThereYetError, match=r"virtual.h5::d frame 2 .*1.h5::d: .*1.h5 is not there"):
        files.read(Hdf5Frame(path, "d", 2, ANY), "run")
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file.create_dataset("d", data=np.full((1, 3, 4), 7), maxshape=(2, 3, 4))
    with pytest.raises(NotThereYetError, match=r"1.h5::d: it has the shape \(1, 3, 4\)"):
        files.read(Hdf5Frame(path, "d", 3, ANY), "run")
    with h5py.File(tmp_path / "1.h5", "a") as file:
        file["d"].resize(2, axis=0)
        file["d"][1] = 8
    assert [files.read(Hdf5Frame(path, "d", number, ANY), "run")[2, 3] for number in range(4)] == [5, 5, 7, 8]
    with pytest.raises(NotThereYetError, match="no file is mapped there yet"):
        files.read(Hdf5Frame(path, "d", 4, ANY), "run")


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
            files.read(Hdf5Frame(path, "d", number, ANY), "run")
        writers[number % 2].write(number // 2)
        assert (files.read(Hdf5Frame(path, "d", number, ANY), "run") == number // 2 + 1).all()
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
            np.testing.assert_array_equal(
                files.read(Hdf5Frame(path, name, number, ANY), "run"), frame, err_msg=name
            )


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
        files.read(Hdf5Frame(str(tmp_path / "a.h5"), "d", 0, ANY), "run")


def test_data_outside_hdf5_are_read_once_they_are_there(tmp_path, files):
    raw, path = tmp_path / "raw.bin", str(tmp_path / "a.h5")
    with h5py.File(path, "w") as file:
        file.create_dataset("d", (3, 5, 7), "<i4", external=[(str(raw), 16, 3 * 140)])
    frames = np.arange(105, dtype="<i4").reshape(3, 5, 7)
    with pytest.raises(NotThereYetError, match=r"raw.bin is not there"):
        files.read(Hdf5Frame(path, "d", 0, ANY), "run")
    raw.write_bytes(bytes(16) + frames[:2].tobytes())
    np.testing.assert_array_equal(files.read(Hdf5Frame(path, "d", 1, ANY), "run"), frames[1])
    with pytest.raises(NotThereYetError, match=r"data in .*raw.bin are not written yet"):
        files.read(Hdf5Frame(path, "d", 2, ANY), "run")
    raw.unlink()
    os.mkfifo(raw)
    with pytest.raises(FrameError, match="is a named pipe"):
        files.read(Hdf5Frame(path, "d", 0, ANY), "run")
