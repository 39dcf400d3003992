"""Files and handlers that do harm: they crash a library, never end, take all memory, or lead elsewhere."""

from __future__ import annotations

import bz2
import ctypes
import gzip
import os
import time
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from dvfb_stream.files.references import Expected, FrameReference, HandledFrame, Hdf5Frame, ImageFrame

SHAPE = (64, 96)
"""More than a block of bitshuffle's."""
EXPECTED = Expected(SHAPE, np.dtype("<u2"))
FRAMES = 3
HANDLERS = {"POISON": "poison:Poison"}


def pixels(number: int) -> np.ndarray:
    return np.full(SHAPE, number + 1, np.uint16)


class Poison:
    """A handler that does what a datum says."""

    def __init__(self, path: str, **kwargs: object) -> None:
        self.path = path
        self.kwargs = kwargs

    def __call__(self, do: str, **datum: object) -> np.ndarray | Many:
        match do:
            case "crash":
                ctypes.string_at(0)
            case "exit":
                os._exit(7)
            case "hang":
                Path(f"{self.path}.hangs").touch()
                while True:
                    time.sleep(1.0)
            case "grow":
                kept = []
                while True:
                    kept.append(np.ones(1 << 24, np.uint8))
            case "open many":
                kept = [open(f"{self.path}/{number}", "w") for number in range(10_000)]  # noqa: SIM115
            case "open":
                with open(str(datum["template"]) % 0, "rb") as file:
                    return np.full(SHAPE, len(file.read(8)), np.uint16)
            case "open as HDF5":
                with h5py.File(str(datum["template"]) % 0) as file:
                    return np.asarray(file["d"][0])
            case "open in C":
                opened = ctypes.CDLL(None).open(os.fsencode(str(datum["file"])), os.O_RDONLY)
                return np.full(SHAPE, opened >= 0, np.uint16)
            case "good":
                return pixels(0)
            case "many":
                return Many()
        raise AssertionError(do)


class Many:
    """Five hundred frames of 8 MB, which are read when they are asked for."""

    def __len__(self) -> int:
        return 500

    def __getitem__(self, number: int) -> np.ndarray:
        return np.full((2000, 2000), number, np.uint16)


def handled(path: str, **datum: object) -> FrameReference:
    return HandledFrame("POISON", path, {}, datum, 0, EXPECTED)


def good(folder: Path) -> list[FrameReference]:
    """A file of frames that can be read."""
    path = folder / "good.h5"
    with h5py.File(path, "w") as file:
        data = np.stack([pixels(number) for number in range(FRAMES)])
        file.create_dataset("d", data=data, chunks=(1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4"))
    return [Hdf5Frame(str(path), "d", number, EXPECTED) for number in range(FRAMES)]


# -- what ends the process, or never ends ------------------------------------------------------------------


def crashing_hdf5(folder: Path) -> list[FrameReference]:
    """The length of a compressed block is larger than all of the file: bitshuffle's LZ4 reads behind its memory."""
    path = folder / "crashing.h5"
    good(folder)
    (folder / "good.h5").rename(path)
    with h5py.File(path) as file:
        chunks = [file["d"].id.get_chunk_info(number).byte_offset for number in range(FRAMES)]
    content = bytearray(path.read_bytes())
    for chunk in chunks:
        content[chunk + 12 : chunk + 16] = b"\x7f\xff\xff\xff"  # behind the size of all, and that of a block
    path.write_bytes(content)
    return [Hdf5Frame(str(path), "d", number, EXPECTED) for number in range(FRAMES)]


def crashing_handler(folder: Path) -> list[FrameReference]:
    return [handled(f"{folder}/handled", do="crash", number=number) for number in range(FRAMES)]


def leaving_handler(folder: Path) -> list[FrameReference]:
    return [handled(f"{folder}/handled", do="exit", number=number) for number in range(FRAMES)]


def endless_handler(folder: Path) -> list[FrameReference]:
    return [handled(f"{folder}/handled", do="hang", number=number) for number in range(FRAMES)]


def growing_handler(folder: Path) -> list[FrameReference]:
    return [handled(f"{folder}/handled", do="grow", number=number) for number in range(FRAMES)]


def opening_handler(folder: Path) -> list[FrameReference]:
    return [handled(str(folder), do="open many", number=number) for number in range(FRAMES)]


def gzip_bomb(folder: Path) -> list[FrameReference]:
    """Half a gigabyte of zeros in some megabytes."""
    path = folder / "bomb.npy.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(500):
            file.write(bytes(1 << 20))
    return [ImageFrame(str(path), number, EXPECTED) for number in range(FRAMES)]


def bzip2_bomb(folder: Path) -> list[FrameReference]:
    path = folder / "bomb.edf.bz2"
    block = bz2.compress(bytes(1 << 24))
    path.write_bytes(block * 32)
    return [ImageFrame(str(path), number, EXPECTED) for number in range(FRAMES)]


def hdf5_bomb(folder: Path) -> list[FrameReference]:
    """A chunk of 450 MB of zeros, in some megabytes."""
    path = folder / "bomb.h5"
    shape = (1, 15_000, 15_000)
    with h5py.File(path, "w") as file:
        file.create_dataset("d", shape, "<u2", chunks=shape, compression="gzip", compression_opts=1)
        file["d"].id.write_direct_chunk((0, 0, 0), gzip_of_zeros(450_000_000))
    return [Hdf5Frame(str(path), "d", 0, EXPECTED)]


def gzip_of_zeros(count: int) -> bytes:
    import zlib

    packer = zlib.compressobj(1)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(count >> 20)), packer.flush()])


# -- what lies elsewhere -----------------------------------------------------------------------------------


def secrets(folder: Path) -> Path:
    """A folder beside, with what nobody should read: frames, and a file that is none."""
    outside = folder.parent / f"{folder.name}-outside"
    outside.mkdir(exist_ok=True)
    good(outside)
    np.save(outside / "a.npy", pixels(0))
    return outside


def external_link(folder: Path, target: str) -> list[FrameReference]:
    with h5py.File(folder / "external.h5", "w") as file:
        file["d"] = h5py.ExternalLink(target, "/d")
    return [Hdf5Frame(f"{folder}/external.h5", "d", 0, EXPECTED)]


def soft_link(folder: Path, target: str) -> list[FrameReference]:
    """A link within the file to a link out of it."""
    with h5py.File(folder / "soft.h5", "w") as file:
        file["out"] = h5py.ExternalLink(target, "/")
        file["d"] = h5py.SoftLink("/out/d")
    return [Hdf5Frame(f"{folder}/soft.h5", "d", 0, EXPECTED)]


def virtual_dataset(folder: Path, target: str) -> list[FrameReference]:
    layout = h5py.VirtualLayout((FRAMES, *SHAPE), "<u2")
    layout[:] = h5py.VirtualSource(target, "d", (FRAMES, *SHAPE))
    with h5py.File(folder / "virtual.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    return [Hdf5Frame(f"{folder}/virtual.h5", "d", 0, EXPECTED)]


def external_storage(folder: Path, target: str) -> list[FrameReference]:
    """HDF5 takes another file's bytes for pixels."""
    size = FRAMES * SHAPE[0] * SHAPE[1] * 2
    with h5py.File(folder / "raw.h5", "w") as file:
        file.create_dataset("d", (FRAMES, *SHAPE), "<u2", external=[(target, 0, size)])
    return [Hdf5Frame(f"{folder}/raw.h5", "d", 0, EXPECTED)]


def symbolic_link(folder: Path, target: str) -> list[FrameReference]:
    (folder / "link.h5").symlink_to(target)
    return [Hdf5Frame(f"{folder}/link.h5", "d", 0, EXPECTED), ImageFrame(f"{folder}/link.h5", 0, EXPECTED)]


def linked_folder(folder: Path, target: str) -> list[FrameReference]:
    (folder / "linked").symlink_to(Path(target).parent)
    return [Hdf5Frame(f"{folder}/linked/{Path(target).name}", "d", 0, EXPECTED)]


def absolute(folder: Path, target: str) -> list[FrameReference]:
    return [Hdf5Frame(target, "d", 0, EXPECTED), ImageFrame(target, 0, EXPECTED)]


def dots(folder: Path, target: str) -> list[FrameReference]:
    path = f"{folder}/{os.path.relpath(target, folder)}"
    return [Hdf5Frame(path, "d", 0, EXPECTED), ImageFrame(path, 0, EXPECTED)]


def handlers_path(folder: Path, target: str) -> list[FrameReference]:
    return [handled(target, do="good")]


def handlers_template(folder: Path, target: str) -> list[FrameReference]:
    return [handled(str(folder), do="open", template=f"{target}%s".replace("%s", "%.0s"))]


def handlers_hdf5(folder: Path, target: str) -> list[FrameReference]:
    return [handled(str(folder), do="open as HDF5", template=f"{target}%s".replace("%s", "%.0s"))]
