"""A folder of good and bad files of all kinds: each ends with its rows or one line, and the exit status says so."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import fabio.cbfimage
import fabio.edfimage
import h5py
import hdf5plugin
import numpy as np
import pytest
import tifffile
from PIL import Image

from .conftest import CENTRE, SHAPE, pattern


def write_edf(path: Path) -> None:
    image = fabio.edfimage.EdfImage(data=pattern(1))
    image.append_frame(data=pattern(2))
    image.write(str(path))


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        data = np.stack([pattern(3), pattern(4)]).astype("u4")
        file.create_dataset(
            "entry/data/data", data=data, chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")
        )


def write_master(path: Path) -> None:
    """One of its two files is gone."""
    with h5py.File(path.with_name("part_1"), "w") as file:
        file["data"] = np.stack([pattern(5), pattern(6)])
    with h5py.File(path, "w") as file:
        for number in (1, 2):
            file[f"entry/data/data_{number:06d}"] = h5py.ExternalLink(f"part_{number}", "/data")


def write_unwritten(path: Path) -> None:
    """A scan that was aborted after its first frame."""
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (2, *SHAPE), "i4", chunks=(1, *SHAPE))[0] = pattern(7)


def write_two_datasets(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["saxs"], file["waxs"] = pattern(), pattern()


def write_colours(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["rgb"] = np.zeros((*SHAPE, 3), "u1")


def write_compressed_tiff(path: Path) -> None:
    with tifffile.TiffWriter(path, byteorder=">") as writer:
        for seed in range(3):
            writer.write(pattern(seed), compression="lzw", predictor=True, metadata=None)


def cut(write: Callable[[Path], object], share: float = 0.6) -> Callable[[Path], None]:
    def written(path: Path) -> None:
        write(path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return written


def write_tiff(path: Path, **settings: object) -> None:
    tifffile.imwrite(path, pattern(), metadata=None, **settings)


def write_cbf(path: Path) -> None:
    fabio.cbfimage.CbfImage(data=pattern()).write(str(path))


def write_packed(path: Path) -> None:
    write_tiff(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


FILES: dict[str, tuple[Callable[[Path], object], dict[str, int]]] = {
    "01_plain.tif": (write_tiff, {"ok": 1}),
    "02_big.tif": (lambda path: write_tiff(path, bigtiff=True, byteorder=">", compression="zlib"), {"ok": 1}),
    "03_stack.tif": (write_compressed_tiff, {"ok": 3}),
    "04_imagej.tif": (
        lambda p: tifffile.imwrite(p, np.stack([pattern()] * 3).astype("f4"), imagej=True),
        {"ok": 3},
    ),
    "05_packed.tif.gz": (write_packed, {"ok": 1}),
    "06_pilatus.cbf": (write_cbf, {"ok": 1}),
    "07_two.edf": (write_edf, {"ok": 2}),
    "08_array.npy": (lambda path: np.save(path, np.stack([pattern()] * 2)), {"ok": 2}),
    "09_grey.png": (
        lambda path: Image.fromarray(np.maximum(pattern(), 0).astype("u2")).save(path),
        {"ok": 1},
    ),
    "10_eiger.h5": (write_hdf5, {"ok": 2}),
    "11_master.h5": (write_master, {"ok": 2, "failed": 1}),
    "12_aborted.h5": (write_unwritten, {"ok": 1, "failed": 1}),
    "13_other_shape.tif": (lambda path: tifffile.imwrite(path, pattern(0, (50, 60))), {"failed": 1}),
    "14_colours.tif": (
        lambda path: tifffile.imwrite(path, np.zeros((*SHAPE, 3), "u1"), photometric="rgb"),
        {"failed": 1},
    ),
    "15_cut.tif": (cut(write_tiff), {"failed": 1}),
    "16_cut.cbf": (cut(write_cbf), {}),
    "17_cut.edf": (cut(write_edf, 0.8), {"ok": 1, "failed": 1}),
    "18_cut.h5": (cut(write_hdf5), {}),
    "19_cut.npy": (cut(lambda path: np.save(path, pattern())), {"failed": 1}),
    "20_several.h5": (write_two_datasets, {}),
    "21_colours.h5": (write_colours, {}),
    "22_colours.npy": (lambda path: np.save(path, np.zeros((*SHAPE, 3))), {}),
    "23_preview.jpg": (lambda path: Image.fromarray(np.zeros(SHAPE, "u1")).save(path), {}),
    "24_colours.png": (lambda path: Image.fromarray(np.zeros((*SHAPE, 3), "u1")).save(path), {}),
    "25_notes.txt": (lambda path: path.write_text("The beam was lost at noon.\n"), {}),
    "26_empty.tif": (Path.touch, {}),
    "27_arrays.npz": (lambda path: np.savez(path, a=pattern()), {}),
    "28_a_folder": (Path.mkdir, {}),
}
"""What is written, and the rows that come of it; what has none costs a line."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "night"
    made.mkdir()
    for name, (write, _) in FILES.items():
        write(made / name)
    return made


def test_each_file_ends_with_its_rows_or_one_line(dvfb, folder: Path) -> None:
    files = [folder / name for name in FILES]
    outcome = dvfb("annotate", *files, *CENTRE, "--model", "tiny", "--json", "--mask", mask(folder.parent))
    rows = {
        name: dict(Counter(r["status"] for r in outcome.rows if r["file"] == f"{folder / name}"))
        for name in FILES
    }
    assert rows == {name: expected for name, (_, expected) in FILES.items()}
    assert outcome.status == 1
    for name, (_, expected) in FILES.items():
        told = [line for line in outcome.errors if line.startswith(str(folder / name))]
        assert len(told) == ("ok" not in expected or "failed" in expected), name
    assert all(row["reason"] for row in outcome.rows if row["status"] == "failed")


def test_the_good_files_alone_end_with_status_0(dvfb, folder: Path) -> None:
    good = [folder / name for name, (_, rows) in FILES.items() if set(rows) == {"ok"}]
    outcome = dvfb("annotate", *good, *CENTRE, "--model", "tiny", "--json")
    assert (outcome.status, len(outcome.errors)) == (0, 0)
    assert len(outcome.rows) == sum(rows["ok"] for _, rows in FILES.values() if set(rows) == {"ok"})


def test_a_folder_says_what_to_type(dvfb, folder: Path) -> None:
    outcome = dvfb("annotate", folder, *CENTRE, "--model", "tiny")
    assert outcome.status == 1
    assert outcome.errors == [f"{folder} is a directory; give the files in it, for example {folder}/*.tif"]


def mask(folder: Path) -> Path:
    """A mask of the frames' shape: frames of another shape fail."""
    np.save(folder / "mask.npy", np.eye(*SHAPE, dtype=bool))
    return folder / "mask.npy"
