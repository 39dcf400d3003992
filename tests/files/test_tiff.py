"""TIFF as others write it: every kind is read as a second reader reads it, or refused with the reason."""

from __future__ import annotations

import io
import struct
from itertools import product
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files import open_frames, read_frames
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, ImageFrame

SHAPE = (40, 33)
TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8", "u8", "i8")
COMPRESSIONS = (None, "packbits", "lzw", "deflate", "zstd", "lzma")


def counts(dtype: str, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Counts that fill their type: its least and greatest value, runs of equal values, and noise."""
    kind = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    pixels = rng.poisson(3, shape).astype(kind)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    pixels[..., 3, 4], pixels[..., 5, 6] = limits.min, limits.max
    pixels[..., 10:12, :] = 7
    return pixels


def refusal(path: Path) -> str:
    with pytest.raises(FrameError) as raised:
        list(read_frames(str(path)))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def same(found: np.ndarray, truth: np.ndarray) -> None:
    assert found.dtype == truth.dtype.newbyteorder("=")
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, truth)


class TestAgainstLibtiff:
    """tifffile writes; libtiff, through imagecodecs, is the second reader."""

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("pages", [1, 3])
    def test_types_byte_orders_compressions_and_pages(
        self, tmp_path: Path, dtype: str, order: str, compression: str | None, pages: int
    ) -> None:
        stack = np.stack([counts(dtype, seed) for seed in range(pages)])
        path = tmp_path / "a.tif"
        with tifffile.TiffWriter(path, byteorder=order) as writer:
            for frame in stack:
                writer.write(frame, compression=compression, rowsperstrip=7, metadata=None)
        frames = list(read_frames(str(path)))
        assert len(frames) == pages
        for number, frame in enumerate(frames):
            same(frame, stack[number])
            same(frame, imagecodecs.tiff_decode(path.read_bytes(), index=number))

    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("bigtiff", [False, True])
    @pytest.mark.parametrize(
        "layout",
        [{"tile": (16, 32)}, {"rowsperstrip": 7}, {"rowsperstrip": 40}],
    )
    def test_layouts(self, tmp_path: Path, dtype: str, order: str, bigtiff: bool, layout: dict) -> None:
        stack = np.stack([counts(dtype, seed) for seed in range(2)])
        path = tmp_path / "a.tif"
        with tifffile.TiffWriter(path, byteorder=order, bigtiff=bigtiff) as writer:
            for frame in stack:
                writer.write(frame, metadata=None, **layout)
        for number, frame in enumerate(read_frames(str(path))):
            same(frame, stack[number])
            same(frame, imagecodecs.tiff_decode(path.read_bytes(), index=number).reshape(SHAPE))

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("compression", ["lzw", "deflate"])
    @pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i2", "i4", "f4", "f8"])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    def test_predictors(self, tmp_path: Path, order: str, compression: str, dtype: str, tile: object) -> None:
        frame, path = counts(dtype), tmp_path / "a.tif"
        predictor = 3 if dtype.startswith("f") else 2
        tifffile.imwrite(
            path,
            frame,
            byteorder=order,
            compression=compression,
            predictor=predictor,
            tile=tile,
            metadata=None,
        )
        with tifffile.TiffFile(path) as written:
            assert written.pages[0].predictor == predictor
        (found,) = read_frames(str(path))
        same(found, frame)
        same(found, imagecodecs.tiff_decode(path.read_bytes()))


class TestFromOtherWriters:
    @pytest.mark.parametrize(
        ("mode", "compression"),
        [
            ("I;16B", None),  # Pillow compresses native bytes only
            *product(
                ["L", "I;16", "I", "F"], [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"]
            ),
        ],
    )
    def test_pillow(self, tmp_path: Path, mode: str, compression: str | None) -> None:
        dtype = {"L": "u1", "I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}[mode]
        path, frames = tmp_path / "a.tif", [counts(dtype, seed) for seed in range(3)]
        first, *rest = [Image.frombytes(mode, SHAPE[::-1], frame.tobytes()) for frame in frames]
        first.save(path, compression=compression, save_all=True, append_images=rest)
        found = list(read_frames(str(path)))
        assert len(found) == 3
        for number, frame in enumerate(found):
            same(frame, frames[number])

    @pytest.mark.parametrize("compression", [None, "group3", "group4", "tiff_lzw", "packbits"])
    def test_one_bit_a_pixel(self, tmp_path: Path, compression: str | None) -> None:
        mask = np.random.default_rng(0).random(SHAPE) < 0.3
        path = tmp_path / "mask.tif"
        Image.fromarray(mask).save(path, compression=compression)
        (found,) = read_frames(str(path))
        same(found, mask)
        np.testing.assert_array_equal(found, np.asarray(Image.open(path)))

    @pytest.mark.parametrize("suffix", ["gz", "bz2"])
    def test_compressed_as_a_whole(self, tmp_path: Path, suffix: str) -> None:
        import bz2
        import gzip

        path, pack = tmp_path / f"a.tif.{suffix}", {"gz": gzip.compress, "bz2": bz2.compress}[suffix]
        file = io.BytesIO()
        stack = np.stack([counts("i4", seed) for seed in range(2)])
        tifffile.imwrite(file, stack, metadata=None)
        path.write_bytes(pack(file.getvalue()))
        for number, frame in enumerate(read_frames(str(path))):
            same(frame, stack[number])
        path.write_bytes(path.read_bytes()[:-20])
        assert "damaged or incomplete" in refusal(path)

    def test_areadetector_writes_one_strip_of_all_rows(self, tmp_path: Path) -> None:
        """NDFileTIFF: one strip, types by SampleFormat, private tags 65000 to 65500 with text."""
        path, frame = tmp_path / "a.tif", counts("u2")
        extra = [(65000 + n, "s", 0, f"attribute{n}:{n}", True) for n in range(4)]
        tifffile.imwrite(path, frame, rowsperstrip=SHAPE[0], extratags=extra, metadata=None)
        (found,) = read_frames(str(path))
        same(found, frame)


class TestStacks:
    @pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
    @pytest.mark.parametrize("bigtiff", [False, True])
    def test_imagej_keeps_a_stack_under_one_description(
        self, tmp_path: Path, dtype: str, bigtiff: bool
    ) -> None:
        stack = np.stack([counts(dtype, seed) for seed in range(6)])
        path = tmp_path / "stack.tif"
        with tifffile.TiffWriter(path, imagej=not bigtiff, bigtiff=bigtiff) as writer:
            if bigtiff:
                writer.write(stack, truncate=True)
            else:
                writer.write(stack.reshape(2, 3, 1, *SHAPE), metadata={"axes": "TZCYX"}, truncate=True)
        with tifffile.TiffFile(path) as written:
            assert len(written.pages) == 1
        with open_frames(str(path)) as file:
            assert file.count == 6
            for number in (5, 0, 3):
                same(file.read(number), stack[number])
        path.write_bytes(path.read_bytes()[:-300])
        assert "is not whole: it says that it has 6 images" in refusal(path)

    @pytest.mark.parametrize("compression", [None, "lzw"])
    @pytest.mark.parametrize("kind", ["imagej", "ome", "shaped"])
    def test_stacks_with_a_description_of_each_image(
        self, tmp_path: Path, kind: str, compression: str | None
    ) -> None:
        stack = np.stack([counts("u2", seed) for seed in range(4)])
        path = tmp_path / f"stack.{'ome.' if kind == 'ome' else ''}tif"
        form = {} if kind == "shaped" else {kind: True}
        tifffile.imwrite(path, stack, compression=compression, photometric="minisblack", **form)
        found = list(read_frames(str(path)))
        assert len(found) == 4
        for number, frame in enumerate(found):
            same(frame, stack[number])

    def test_smaller_copies_and_transparencies_are_no_frames(self, tmp_path: Path) -> None:
        for order in "<>":
            path, frames = tmp_path / f"a{ord(order)}.tif", [counts("u2", seed) for seed in range(2)]
            with tifffile.TiffWriter(path, byteorder=order) as writer:
                for frame in frames:
                    writer.write(frame, metadata=None)
                    writer.write(frame[::2, ::2], subfiletype=1, metadata=None)
                    writer.write(frame > 3, subfiletype=4, photometric="mask", metadata=None)
            found = list(read_frames(str(path)))
            assert len(found) == 2
            for number, frame in enumerate(found):
                same(frame, frames[number])

    def test_images_of_several_shapes_each_come_in_their_own(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        with tifffile.TiffWriter(path) as writer:
            for side in (20, 30):
                writer.write(counts("u2", shape=(side, side)), metadata=None)
        assert [frame.shape for frame in read_frames(str(path))] == [(20, 20), (30, 30)]

    def test_a_page_that_is_not_there_may_come(self, tmp_path: Path) -> None:
        path, files = tmp_path / "a.tif", FrameFiles()
        frame = counts("u2")
        with tifffile.TiffWriter(path) as writer:
            writer.write(frame, metadata=None)
        expected = Expected(SHAPE, np.dtype("u2"))
        same(files.read(ImageFrame(str(path), 0, expected), "run"), frame)
        with pytest.raises(NotThereYetError, match="has 1 frames, none with number 1"):
            files.read(ImageFrame(str(path), 1, expected), "run")
        tifffile.imwrite(path, frame + 1, append=True, metadata=None)
        same(files.read(ImageFrame(str(path), 1, expected), "run"), frame + 1)


def tiff(tags: dict[int, tuple[int, int]], pixels: bytes, order: str = "<") -> bytes:
    """A TIFF by the bytes: a head, the pixels at byte 8, and a directory of short and long values."""
    entries = {273: (4, 8), 279: (4, len(pixels)), **tags}
    directory = struct.pack(order + "H", len(entries))
    for tag, (kind, value) in sorted(entries.items()):
        packed = struct.pack(order + {3: "H2x", 4: "I"}[kind], value)
        directory += struct.pack(order + "HHI", tag, kind, 1) + packed
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + len(pixels))
    return head + pixels + directory + bytes(4)


def tags(bits: int, **more: int) -> dict[int, tuple[int, int]]:
    """Tags of a grey image of SHAPE that is not compressed."""
    return {256: (3, SHAPE[1]), 257: (3, SHAPE[0]), 258: (3, bits), 259: (3, 1), 262: (3, 1), 277: (3, 1)}


class TestByTheBytes:
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize(
        ("dtype", "sample_format"), [("u2", None), ("u4", 1), ("i4", 2), ("f4", 3), ("u2", 4)]
    )
    def test_sample_formats(self, tmp_path: Path, order: str, dtype: str, sample_format: int | None) -> None:
        frame = counts(dtype)
        described = tags(8 * frame.itemsize) | ({} if sample_format is None else {339: (3, sample_format)})
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(described, frame.astype(frame.dtype.newbyteorder(order)).tobytes(), order))
        (found,) = read_frames(str(path))
        same(found, frame)

    def test_planes_of_one_number_a_pixel(self, tmp_path: Path) -> None:
        frame, path = counts("u2"), tmp_path / "a.tif"
        path.write_bytes(tiff(tags(16) | {284: (3, 2)}, frame.tobytes()))
        (found,) = read_frames(str(path))
        same(found, frame)

    @pytest.mark.parametrize("bits", [8, 16])
    def test_numbers_are_read_as_stored_where_white_is_zero(self, tmp_path: Path, bits: int) -> None:
        """An imaging plate's scan is shown with white for no count; inverted, it would be its own negative."""
        frame, path = counts(f"u{bits // 8}"), tmp_path / "a.tif"
        path.write_bytes(tiff(tags(bits) | {262: (3, 0)}, frame.tobytes()))
        (found,) = read_frames(str(path))
        same(found, frame)

    def test_numbers_of_an_old_pilatus_are_signed(self, tmp_path: Path) -> None:
        """It wrote no SampleFormat, which by TIFF 6.0 means unsigned: gaps would read 4294967295."""
        frame, path = counts("i4"), tmp_path / "a.tif"
        frame[7] = -1
        text = b"# Pixel_size 172e-6 m x 172e-6 m\r\n# Silicon sensor, thickness 0.000320 m\r\n"
        file = io.BytesIO()
        extra = [(270, "s", 0, text, True), (305, "s", 0, b"TVX TIFF v 1.3", True)]
        tifffile.imwrite(
            file, frame.view("u4"), metadata=None, description=None, software=False, extratags=extra
        )
        path.write_bytes(file.getvalue())
        with tifffile.TiffFile(path) as written:
            assert 339 not in written.pages[0].tags
        (found,) = read_frames(str(path))
        same(found, frame)

    @pytest.mark.parametrize(
        ("changed", "reason"),
        [
            ({262: (3, 2), 277: (3, 3)}, "a picture in colours (RGB)"),
            ({277: (3, 2)}, "a picture in colours (2 numbers a pixel)"),
            ({262: (3, 3)}, "a picture in colours (a palette)"),
            ({262: (3, 6), 277: (3, 3)}, "a picture in colours (YCbCr)"),
            ({262: (3, 32803)}, "a picture in colours (a colour filter)"),
            ({262: (3, 32844)}, "a picture in colours (photometric interpretation 32844)"),
            ({259: (3, 7)}, "is compressed as JPEG, which has lost the counts"),
            ({32997: (4, 5)}, "is a volume of 5 images"),
            ({339: (3, 3), 258: (3, 8)}, "has pixels of 8 bits, sample format 3, which are not read"),
            ({339: (3, 6), 258: (3, 64)}, "holds values of the type complex64"),
            ({259: (3, 34712), 256: (3, 3)}, "cannot be read"),
            ({33628: (4, 9)}, "is a stack of MetaMorph's own kind"),
        ],
    )
    def test_what_is_no_frame_is_refused_with_the_reason(
        self, tmp_path: Path, changed: dict, reason: str
    ) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(tags(16) | changed, bytes(100_000)))
        assert reason in refusal(path)

    def test_strips_that_were_never_written_are_no_zeros(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        for changed in ({273: (4, 0)}, {279: (4, 0)}):
            path.write_bytes(tiff(tags(16) | changed, bytes(2 * SHAPE[0] * SHAPE[1])))
            assert "0 of its 1 strips are written" in refusal(path)
        path.write_bytes(tiff(tags(16) | {278: (3, 10)}, bytes(2 * SHAPE[0] * SHAPE[1])))
        assert "1 of its 4 strips are described" in refusal(path)

    def test_what_a_head_of_a_few_bytes_claims_is_not_allocated(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        path.write_bytes(tiff(tags(32) | {256: (4, 300_000), 257: (4, 200_000), 259: (3, 8)}, bytes(100)))
        assert "more than any detector's" in refusal(path)

    @pytest.mark.parametrize("magic", [b"II+\0\x08\0\0\0", b"MM\0+\0\x08\0\0"])
    def test_circles_of_a_big_tiff_end(self, tmp_path: Path, magic: bytes) -> None:
        order = "<" if magic[:2] == b"II" else ">"
        path = tmp_path / "a.tif"
        path.write_bytes(magic + struct.pack(order + "QQQ", 16, 0, 16))
        assert "has no end" in refusal(path)
        path.write_bytes(magic + struct.pack(order + "QQ", 16, 2**63))
        assert "the description of image 0 is not all there" in refusal(path)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", "<>")
def test_a_file_cut_off_anywhere_gives_no_wrong_frame(
    tmp_path: Path, compression: str | None, order: str
) -> None:
    stack = np.stack([counts("u2", seed) for seed in range(2)])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack, byteorder=order, compression=compression, rowsperstrip=7, metadata=None)
    whole = path.read_bytes()
    for kept in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:kept])
        try:
            with open_frames(str(path)) as file:
                for number in range(file.count):
                    same(file.read(number), stack[number])
        except FrameError:
            continue


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compression=st.sampled_from(COMPRESSIONS))
def test_any_damage_gives_pixels_or_a_frame_error(
    tmp_path: Path, data: st.DataObject, compression: str | None
) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, counts("u2", shape=(12, 20)), compression=compression, metadata=None)
    content = bytearray(file.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    try:
        frames = list(read_frames(str(path)))
    except FrameError:
        return
    assert all(frame.ndim == 2 and frame.dtype.kind in "biuf" for frame in frames)
