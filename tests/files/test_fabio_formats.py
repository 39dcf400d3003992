"""CBF, EDF and what else fabio reads, written by hand by the formats' definitions: each value is the right one."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import struct
from pathlib import Path

import fabio
import numpy as np
import pytest

from dvfb_stream.errors import FrameError
from dvfb_stream.files import read_frames
from dvfb_stream.files.cbf import read_cbf

SHAPE = (40, 33)


def refusal(path: Path) -> str:
    with pytest.raises(FrameError) as raised:
        list(read_frames(str(path)))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def extremes(dtype: str, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Counts with the least and the greatest values of their type side by side."""
    kind = np.dtype(dtype)
    pixels = np.random.default_rng(seed).poisson(3, shape).astype(kind)
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    for column, value in enumerate(
        (limits.max, limits.min, limits.max, limits.max, 0, limits.max, limits.min)
    ):
        pixels[5, column] = value
    if kind.kind != "f":
        pixels[7, 3:6] = limits.max - 1, limits.max // 2, limits.max // 2 + 1
    return pixels


def same(path: Path, *frames: np.ndarray) -> None:
    found = list(read_frames(str(path)))
    assert len(found) == len(frames)
    for frame, truth in zip(found, frames, strict=True):
        assert frame.dtype == truth.dtype.newbyteorder("=")
        np.testing.assert_array_equal(frame, truth)


def byte_offsets(values: np.ndarray) -> bytes:
    """x-CBF_BYTE_OFFSET of the CBF definition, each difference in as few bytes as it takes."""
    packed, last, bits = bytearray(), 0, 8 * values.itemsize
    for value in values.ravel().tolist():
        difference, last = value - last, value
        if bits == 64:  # all sums are taken modulo 2^64
            difference = (difference + 2**63) % 2**64 - 2**63
        if abs(difference) < 128:
            packed += struct.pack("<b", difference)
        elif abs(difference) < 2**15:
            packed += b"\x80" + struct.pack("<h", difference)
        elif abs(difference) < 2**31:
            packed += b"\x80\x00\x80" + struct.pack("<i", difference)
        else:
            packed += b"\x80\x00\x80\x00\x00\x00\x80" + struct.pack("<q", difference)
    return bytes(packed)


def cbf(values: np.ndarray, element: str, *, checksum: bool = True, packed: bytes | None = None) -> bytes:
    packed = byte_offsets(values) if packed is None else packed
    md5 = f"Content-MD5: {base64.b64encode(hashlib.md5(packed).digest()).decode()}\r\n" if checksum else ""
    head = (
        '###CBF: VERSION 1.5\r\n\r\ndata_frame\r\n\r\n_array_data.header_convention "PILATUS_1.2"\r\n'
        "_array_data.header_contents\r\n;\r\n# Detector: PILATUS 1M\r\n;\r\n\r\n_array_data.data\r\n;\r\n"
        "--CIF-BINARY-FORMAT-SECTION--\r\nContent-Type: application/octet-stream;\r\n"
        '     conversions="x-CBF_BYTE_OFFSET"\r\nContent-Transfer-Encoding: BINARY\r\n'
        f"X-Binary-Size: {len(packed)}\r\nX-Binary-ID: 1\r\n"
        f'X-Binary-Element-Type: "{element}"\r\nX-Binary-Element-Byte-Order: LITTLE_ENDIAN\r\n{md5}'
        f"X-Binary-Number-of-Elements: {values.size}\r\nX-Binary-Size-Fastest-Dimension: {values.shape[1]}\r\n"
        f"X-Binary-Size-Second-Dimension: {values.shape[0]}\r\nX-Binary-Size-Padding: 4095\r\n\r\n"
    )
    return (
        head.encode()
        + b"\x0c\x1a\x04\xd5"
        + packed
        + bytes(4095)
        + b"\r\n--CIF-BINARY-FORMAT-SECTION----\r\n;\r\n"
    )


class TestCbf:
    @pytest.mark.parametrize("sign", ["signed", "unsigned"])
    @pytest.mark.parametrize("bits", [8, 16, 32, 64])
    def test_every_type_keeps_its_values(self, tmp_path: Path, sign: str, bits: int) -> None:
        frame, path = extremes(f"{'u' if sign == 'unsigned' else ''}int{bits}"), tmp_path / "a.cbf"
        path.write_bytes(cbf(frame, f"{sign} {bits}-bit integer"))
        same(path, frame)
        if (sign, bits) != ("signed", 32):  # fabio reads differences of 64 bits wrongly there
            np.testing.assert_array_equal(fabio.open(str(path)).data, frame)

    def test_fabio_is_wrong_where_the_second_reader_is_left_out(self, tmp_path: Path) -> None:
        frame, path = extremes("int32"), tmp_path / "a.cbf"
        path.write_bytes(cbf(frame, "signed 32-bit integer"))
        assert (fabio.open(str(path)).data != frame).any()

    def test_unsigned_counts_as_signed_arithmetic_writes_them(self, tmp_path: Path) -> None:
        """A writer that subtracts in 32 bits lets differences of unsigned numbers pass over the end."""
        frame, path = extremes("uint32"), tmp_path / "a.cbf"
        differences = np.diff(frame.view("i4").ravel().astype("i8"), prepend=0).astype("i4")
        differences[differences == -(2**31)] = 0
        wrapped = np.cumsum(differences, dtype="i4").view("u4").reshape(SHAPE)
        path.write_bytes(cbf(wrapped, "unsigned 32-bit integer", packed=byte_offsets(wrapped.view("i4"))))
        same(path, wrapped)

    def test_a_real_pilatus_file_as_fabio_reads_it(self, real_frames: Path) -> None:
        (path,) = real_frames.glob("*.cbf")
        np.testing.assert_array_equal(read_cbf(path, path.read_bytes()), fabio.open(str(path)).data)

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
    def test_compressed_as_a_whole(self, tmp_path: Path, pack: object) -> None:
        frame, path = extremes("int16"), tmp_path / "a.cbf.packed"
        path.write_bytes(pack(cbf(frame, "signed 16-bit integer")))
        same(path, frame)
        path.write_bytes(path.read_bytes()[:-10])
        assert "damaged or incomplete" in refusal(path)

    def test_fewer_pixels_than_it_says_are_told_without_a_checksum_too(self, tmp_path: Path) -> None:
        frame, path = extremes("int16"), tmp_path / "a.cbf"
        path.write_bytes(
            cbf(frame, "signed 16-bit integer", checksum=False, packed=byte_offsets(frame[:-1]) + bytes(9))
        )
        assert "says it has 40 x 33 pixels, and 1296 are there" in refusal(path)
        path.write_bytes(cbf(frame, "signed 16-bit integer", checksum=False))
        same(path, frame)

    def test_several_images_are_refused(self, tmp_path: Path) -> None:
        path, one = tmp_path / "a.cbf", cbf(extremes("int16"), "signed 16-bit integer")
        path.write_bytes(one + one)
        assert "holds several images" in refusal(path)


EDF_TYPES = {
    "SignedByte": "i1",
    "UnsignedByte": "u1",
    "SignedShort": "i2",
    "UnsignedShort": "u2",
    "SignedInteger": "i4",
    "UnsignedInteger": "u4",
    "SignedLong": "i4",
    "UnsignedLong": "u4",
    "Signed64": "i8",
    "Unsigned64": "u8",
    "FloatValue": "f4",
    "DoubleValue": "f8",
}
"""ESRF data format; a long has four bytes there."""


def edf(
    frame: np.ndarray, kind: str, order: str, number: int = 1, packed: bytes | None = None, **more: str
) -> bytes:
    data = frame.astype(frame.dtype.newbyteorder(order)).tobytes() if packed is None else packed
    fields = {
        "HeaderID": f"EH:{number:06d}:000000:000000",
        "Image": str(number),
        "ByteOrder": {"<": "LowByteFirst", ">": "HighByteFirst"}[order],
        "DataType": kind,
        "Dim_1": str(frame.shape[-1]),
        "Dim_2": str(frame.shape[-2]),
        "Size": str(len(data)),
        **more,
    }
    head = "{\n" + "".join(f"{key} = {value} ;\n" for key, value in fields.items() if value)
    return head.ljust(1022).encode() + b"}\n" + data


class TestEdf:
    @pytest.mark.parametrize("kind", EDF_TYPES)
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("frames", [1, 3])
    @pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
    def test_types_byte_orders_frames_and_compressions(
        self, tmp_path: Path, kind: str, order: str, frames: int, suffix: str
    ) -> None:
        stack = [extremes(EDF_TYPES[kind], seed) for seed in range(frames)]
        content = b"".join(edf(frame, kind, order, number + 1) for number, frame in enumerate(stack))
        path = tmp_path / f"a.edf{suffix}"
        path.write_bytes({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[suffix](content))
        same(path, *stack)
        path.write_bytes(path.read_bytes()[:-200])
        assert "damaged or incomplete" in refusal(path)

    @pytest.mark.parametrize("packing", ["GZIP", "BZIP2", "ZLIB"])
    def test_compressed_inside(self, tmp_path: Path, packing: str) -> None:
        import zlib

        frame, path = extremes("u2"), tmp_path / "a.edf"
        packed = {"GZIP": gzip.compress, "BZIP2": bz2.compress, "ZLIB": zlib.compress}[packing](
            frame.tobytes()
        )
        path.write_bytes(edf(frame, "UnsignedShort", "<", packed=packed, Compression=packing))
        same(path, frame)
        path.write_bytes(edf(frame, "UnsignedShort", "<", packed=packed[:-30], Compression=packing))
        assert "a.edf" in refusal(path)

    def test_what_fabio_would_guess_is_told(self, tmp_path: Path) -> None:
        frame, path = extremes("u2"), tmp_path / "a.edf"
        path.write_bytes(edf(frame, "", "<"))
        assert "its header says no DataType" in refusal(path)
        path.write_bytes(edf(frame, "UnsignedShort", "<", Compression="CBF_BYTE_OFFSET"))
        assert "is compressed by 'CBF_BYTE_OFFSET'; only GZIP, BZIP2, ZLIB are read" in refusal(path)

    def test_what_a_head_of_a_few_bytes_claims_is_not_allocated(self, tmp_path: Path) -> None:
        path = tmp_path / "a.edf"
        path.write_bytes(edf(extremes("u2"), "UnsignedShort", "<", Dim_1="300000", Dim_2="200000"))
        assert "more than any detector's" in refusal(path)

    def test_a_third_axis_is_no_image(self, tmp_path: Path) -> None:
        stack = np.stack([extremes("u2", seed) for seed in range(3)])
        path = tmp_path / "a.edf"
        path.write_bytes(edf(stack, "UnsignedShort", "<", Dim_3="3"))
        assert "has the shape (3, 40, 33), which is no image" in refusal(path)


class TestOtherFormats:
    """Those that fabio reads, and whose bytes are easily written by their definitions."""

    @pytest.mark.parametrize("greatest", [200, 60_000])
    def test_pgm(self, tmp_path: Path, greatest: int) -> None:
        from PIL import Image

        dtype = "u1" if greatest < 256 else "u2"
        frame, path = np.random.default_rng(0).integers(0, greatest, SHAPE).astype(dtype), tmp_path / "a.pgm"
        path.write_bytes(f"P5\n33 40\n{greatest}\n".encode() + frame.astype(f">{dtype}").tobytes())
        same(path, frame)
        # Pillow scales by the greatest value that the head says.
        path.write_bytes(path.read_bytes().replace(b"\n%d\n" % greatest, b"\n%d\n" % np.iinfo(dtype).max))
        same(path, frame)
        np.testing.assert_array_equal(np.asarray(Image.open(path)), frame)
        path.write_bytes(path.read_bytes()[:-1])
        assert "a.pgm" in refusal(path)

    @pytest.mark.parametrize("kind", [b"P1", b"P2", b"P3", b"P4", b"P6", b"P7"])
    def test_pnm_of_other_kinds(self, tmp_path: Path, kind: bytes) -> None:
        path = tmp_path / "a.pnm"
        path.write_bytes(kind + b"\n33 40\n255\n" + bytes(3 * 33 * 40))
        assert f"is a {kind.decode()} (PNM) picture" in refusal(path)

    @pytest.mark.parametrize("order", ["little_endian", "big_endian"])
    @pytest.mark.parametrize("maker", ["ADSC", "Rigaku"])
    def test_dtrek_and_adsc(self, tmp_path: Path, order: str, maker: str) -> None:
        frame, path = extremes("u2"), tmp_path / "a.img"
        kind = "TYPE=unsigned_short;" if maker == "ADSC" else "Data_type=unsigned short int;"
        head = (
            f"{{\nHEADER_BYTES=  512;\nDIM=2;\nBYTE_ORDER={order};\n{kind}\nSIZE1=33;\nSIZE2=40;\n}}\n\x0c\n"
        )
        stored = frame.astype("<u2" if order == "little_endian" else ">u2")
        path.write_bytes(head.ljust(512).encode() + stored.tobytes())
        same(path, frame)
        path.write_bytes(path.read_bytes()[:-20])
        assert "a.img" in refusal(path)

    def test_marccd(self, tmp_path: Path) -> None:
        """A TIFF whose first image description lies in the first kilobyte, and whose pixels begin at byte 4096."""
        frame, path = extremes("u2"), tmp_path / "a.mccd"
        entries = {256: (4, 33), 257: (4, 40), 258: (3, 16), 259: (3, 1), 262: (3, 1), 273: (4, 4096)}
        entries |= {277: (3, 1), 278: (4, 40), 279: (4, frame.nbytes)}
        directory = struct.pack("<H", len(entries)) + b"".join(
            struct.pack("<HHI", tag, kind, 1) + struct.pack({3: "<H2x", 4: "<I"}[kind], value)
            for tag, (kind, value) in entries.items()
        )
        marccd = bytearray(3072)
        struct.pack_into("<I16s", marccd, 0, 2, b"MMX")
        struct.pack_into("<III", marccd, 80, 33, 40, 2)
        head = (b"II*\0\x08\0\0\0" + directory).ljust(1024, b"\0") + marccd
        path.write_bytes(head + frame.tobytes())
        same(path, frame)
        np.testing.assert_array_equal(fabio.open(str(path)).data, frame)
        path.write_bytes(path.read_bytes()[:-2])
        assert "is not whole: it ends at byte 6736, the file at byte 6734" in refusal(path)

    def test_fit2d_mask(self, tmp_path: Path) -> None:
        mask, path = np.random.default_rng(0).random(SHAPE) < 0.4, tmp_path / "a.msk"
        head = bytearray(1024)
        head[0:16:4] = b"MASK"
        struct.pack_into("<ii", head, 16, 33, 40)
        bits = np.zeros((40, 64), bool)
        bits[:, :33] = mask
        path.write_bytes(bytes(head) + np.packbits(bits, axis=1, bitorder="little").tobytes())
        same(path, mask.astype("u1"))
        path.write_bytes(path.read_bytes()[:-1])
        assert "a.msk" in refusal(path)

    @pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2")])
    def test_mrc(self, tmp_path: Path, mode: int, dtype: str) -> None:
        frame, path = extremes(dtype), tmp_path / "a.mrc"
        head = bytearray(1024)
        struct.pack_into("<4i", head, 0, 33, 40, 1, mode)
        head[208:212] = b"MAP "
        path.write_bytes(bytes(head) + frame.tobytes())
        same(path, frame)
        path.write_bytes(path.read_bytes()[:-2])
        assert "a.mrc cannot be read" in refusal(path)
