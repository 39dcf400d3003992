"""A frame of a large compressed chunk is read without the rest of it, and is what HDF5 reads of all."""

from __future__ import annotations

import h5py
import hdf5plugin
import numpy as np
import pytest

from dvfb_stream.errors import FrameError
from dvfb_stream.files import hdf5_open_files
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Hdf5Frame


@pytest.fixture(autouse=True)
def _keep_nothing(monkeypatch):
    monkeypatch.setattr(hdf5_open_files, "MOST_KEPT_BYTES", 0)


@pytest.fixture
def decompressed(monkeypatch):
    """How many elements were decompressed at a time."""
    real, counts = hdf5_open_files.ChunkBlocks.part, []

    def part(self, file, start, stop, dtype):
        counts.append(stop - start)
        return real(self, file, start, stop, dtype)

    monkeypatch.setattr(hdf5_open_files.ChunkBlocks, "part", part)
    return counts


def written(path, frames, chunk, **settings):
    with h5py.File(path, "w") as file:
        file.create_dataset("d", data=frames, chunks=chunk, **settings)
    return path


def read(path, number):
    files = FrameFiles()
    try:
        return files.read(Hdf5Frame(str(path), "d", number), "run")
    finally:
        files.close()


@pytest.mark.parametrize("dtype", ["<u1", "<u2", ">u2", "<u4", "<i4", "<f8"])
@pytest.mark.parametrize("shape", [(16, 16), (37, 41), (100, 133), (128, 64)])
@pytest.mark.parametrize(("frames", "chunk"), [(7, 7), (7, 5), (12, 4)])
def test_frames_are_those_that_hdf5_reads(tmp_path, decompressed, dtype, shape, frames, chunk):
    data = np.random.default_rng(0).poisson(3.0, (frames, *shape)).astype(dtype)
    path = written(tmp_path / "a.h5", data, (chunk, *shape), **hdf5plugin.Bitshuffle(cname="lz4"))
    for number in range(frames):
        np.testing.assert_array_equal(read(path, number), data[number])
    assert decompressed == [data[0].nbytes] * frames


@pytest.mark.parametrize("size", [0, 64, 4096])
def test_blocks_may_be_of_any_size_and_points_may_have_several_images(tmp_path, decompressed, size):
    data = np.random.default_rng(0).poisson(3.0, (6, 1, 33, 47)).astype("<u2")
    settings = hdf5plugin.Bitshuffle(nelems=size, cname="lz4")
    path = written(tmp_path / "a.h5", data, (6, 1, 33, 47), **settings)
    for number in range(6):
        np.testing.assert_array_equal(read(path, number), data[number, 0])
    assert len(decompressed) == 6


@pytest.mark.parametrize(
    "settings",
    [
        hdf5plugin.Bitshuffle(cname="zstd"),
        hdf5plugin.Bitshuffle(cname="none"),
        {"compression": "gzip"},
        {"shuffle": True, **hdf5plugin.Bitshuffle(cname="lz4")},
    ],
)
def test_what_is_compressed_otherwise_is_read_by_hdf5(tmp_path, decompressed, settings):
    data = np.random.default_rng(0).poisson(3.0, (4, 30, 40)).astype("<u2")
    path = written(tmp_path / "a.h5", data, (4, 30, 40), **settings)
    for number in range(4):
        np.testing.assert_array_equal(read(path, number), data[number])
    assert not decompressed


@pytest.mark.parametrize(
    "change", [(0, b"\0" * 8), (8, b"\0\0\0\0"), (8, b"\0\0\0\7"), (12, b"\x7f\0\0\0"), (12, b"\0\0\0\1")]
)
def test_of_a_damaged_chunk_nothing_is_made_here(tmp_path, decompressed, change, monkeypatch):
    data = np.random.default_rng(0).poisson(3.0, (4, 100, 120)).astype("<u2")
    path = written(tmp_path / "a.h5", data, (4, 100, 120), **hdf5plugin.Bitshuffle(cname="lz4"))
    with h5py.File(path) as file:
        begin = file["d"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    place, value = change
    content[begin + place : begin + place + len(value)] = value
    path.write_bytes(content)

    def refused(*given):
        raise FrameError("left to HDF5")  # which some of it would crash

    monkeypatch.setattr(h5py.Dataset, "read_direct", refused)
    with pytest.raises(FrameError, match="left to HDF5"):
        read(path, 2)
    assert not decompressed
