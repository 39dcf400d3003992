"""Frames come out of detector files as they were written; what is no frame is refused in one clear line."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import fabio.cbfimage
import fabio.edfimage
import fabio.tifimage
import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dvfb_stream.errors import FrameError, GeometryError
from dvfb_stream.files import open_frames, read_frames, read_mask, read_poni

SHAPE = (40, 30)


def counts(seed: int = 0, shape: tuple[int, ...] = SHAPE, dtype: str = "int32") -> np.ndarray:
    pixels = np.random.default_rng(seed).poisson(50, shape).astype(dtype)
    if np.dtype(dtype).kind == "i":
        pixels[..., 3, 4] = -2
    return pixels


def refusal(spec: object) -> str:
    with pytest.raises(FrameError) as caught:
        list(read_frames(str(spec)))
    message = str(caught.value)
    assert "\n" not in message
    return message


WRITERS = {
    "tif": fabio.tifimage.TifImage,
    "cbf": fabio.cbfimage.CbfImage,
    "edf": fabio.edfimage.EdfImage,
}


class TestImages:
    @pytest.mark.parametrize("suffix", WRITERS)
    def test_a_single_image_is_one_frame_with_its_own_values(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"frame.{suffix}"
        WRITERS[suffix](data=counts()).write(str(path))
        (frame,) = read_frames(str(path))
        np.testing.assert_array_equal(frame, counts())
        assert frame.dtype == np.int32

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16", "float32", "float64"])
    def test_pixel_types_are_kept(self, tmp_path: Path, dtype: str) -> None:
        path = tmp_path / "frame.edf"
        fabio.edfimage.EdfImage(data=counts(dtype=dtype)).write(str(path))
        (frame,) = read_frames(str(path))
        assert frame.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(frame, counts(dtype=dtype))

    def test_big_endian_tiff_comes_in_the_machines_byte_order(self, tmp_path: Path) -> None:
        from PIL import Image

        path = tmp_path / "big.tif"
        Image.frombytes("I;16B", SHAPE[::-1], counts(dtype=">u2").tobytes()).save(path)
        (frame,) = read_frames(str(path))
        assert frame.dtype.isnative
        np.testing.assert_array_equal(frame, counts(dtype="uint16"))

    def test_a_deflated_tiff_is_read(self, tmp_path: Path) -> None:
        from PIL import Image

        path = tmp_path / "deflated.tif"
        Image.fromarray(counts()).save(path, compression="tiff_adobe_deflate")
        (frame,) = read_frames(str(path))
        np.testing.assert_array_equal(frame, counts())

    def test_frames_of_a_multi_frame_tiff_come_in_order(self, tmp_path: Path) -> None:
        from PIL import Image

        path = tmp_path / "several.tif"
        first, *rest = [Image.fromarray(counts(seed)) for seed in range(3)]
        first.save(path, save_all=True, append_images=rest)
        frames = list(read_frames(str(path)))
        assert len(frames) == 3
        for seed, frame in enumerate(frames):
            np.testing.assert_array_equal(frame, counts(seed))

    def test_frames_of_a_multi_frame_edf_come_in_any_order_with_bounded_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("dvfb_stream.files.fabio_images.MOST_KEPT_BYTES", 2 * counts().nbytes)
        path = tmp_path / "several.edf"
        image = fabio.edfimage.EdfImage(data=counts(0))
        for seed in range(1, 8):
            image.append_frame(data=counts(seed))
        image.write(str(path))
        with open_frames(str(path)) as file:
            assert file.count == 8
            for seed in (7, 0, 3, 4, 5, 6, 1, 2):
                np.testing.assert_array_equal(file.read(seed), counts(seed))

    def test_a_compressed_cbf_is_read(self, tmp_path: Path) -> None:
        import gzip

        path = tmp_path / "frame.cbf"
        fabio.cbfimage.CbfImage(data=counts()).write(str(path))
        packed = tmp_path / "frame.cbf.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        (frame,) = read_frames(str(packed))
        np.testing.assert_array_equal(frame, counts())


class TestBadImages:
    def test_missing(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "no.tif") == f"{tmp_path}/no.tif: no such file"

    def test_directory(self, tmp_path: Path) -> None:
        assert "is a directory; give the files in it" in refusal(tmp_path)

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "empty.tif").touch()
        assert refusal(tmp_path / "empty.tif").endswith("empty.tif is empty")
        np.save(tmp_path / "none.npy", np.zeros((0, 40, 30)))
        assert refusal(tmp_path / "none.npy").endswith("none.npy is empty, its shape is (0, 40, 30)")

    @pytest.mark.timeout(20)
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.tif")
        assert refusal(tmp_path / "pipe.tif").endswith("pipe.tif is a named pipe, no file of frames")
        assert refusal("/dev/null") == "/dev/null is a device, no file of frames"
        with pytest.raises(GeometryError, match="is a named pipe"):
            read_mask(tmp_path / "pipe.tif")
        with pytest.raises(GeometryError, match="is a named pipe"):
            read_poni(tmp_path / "pipe.tif")

    def test_a_list_of_numbers_is_no_picture_in_colours(self, tmp_path: Path) -> None:
        np.save(tmp_path / "list.npy", np.zeros(30))
        assert refusal(tmp_path / "list.npy").endswith("has the shape (30,), which is no image")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_not_readable(self, tmp_path: Path) -> None:
        path = tmp_path / "secret.tif"
        path.write_bytes(b"II*\0")
        path.chmod(0)
        assert "cannot be opened: Permission denied" in refusal(path)

    @pytest.mark.parametrize(
        "name", ["notes.tif", "notes.txt", "notes.cbf", "notes.edf", "notes.h5", "notes"]
    )
    def test_text_under_any_name(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text("The beam was lost at noon.\n" * 20)
        assert str(path) in refusal(path)

    @pytest.mark.parametrize("suffix", WRITERS)
    @pytest.mark.parametrize("kept", [0.1, 0.5, 0.97])
    def test_cut_off(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = tmp_path / f"frame.{suffix}"
        WRITERS[suffix](data=counts()).write(str(path))
        whole = path.read_bytes()
        path.write_bytes(whole[: int(kept * len(whole))])
        assert str(path) in refusal(path)

    def test_cbf_with_a_wrong_checksum(self, tmp_path: Path) -> None:
        path = tmp_path / "frame.cbf"
        fabio.cbfimage.CbfImage(data=counts()).write(str(path))
        whole = bytearray(path.read_bytes())
        whole[whole.index(b"\x0c\x1a\x04\xd5") + 100] ^= 1
        path.write_bytes(whole)
        assert "checksum of its image is wrong" in refusal(path)

    def test_tiff_whose_images_go_in_a_circle(self, tmp_path: Path) -> None:
        path = tmp_path / "circle.tif"
        path.write_bytes(
            b"II*\0" + (8).to_bytes(4, "little") + (0).to_bytes(2, "little") + (8).to_bytes(4, "little")
        )
        assert "has no end" in refusal(path)

    @pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
    def test_colours(self, tmp_path: Path, compression: str | None) -> None:
        from PIL import Image

        path = tmp_path / "photo.tif"
        Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(path, compression=compression)
        assert "colour images are not frames" in refusal(path)

    def test_jpeg(self, tmp_path: Path) -> None:
        from PIL import Image

        Image.fromarray(np.zeros((40, 30), np.uint8)).save(tmp_path / "preview.jpg")
        assert "is a JPEG picture" in refusal(tmp_path / "preview.jpg")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data(), suffix=st.sampled_from(sorted(WRITERS)))
    def test_any_damage_gives_pixels_or_a_frame_error(
        self, tmp_path: Path, data: st.DataObject, suffix: str
    ) -> None:
        whole = tmp_path / f"whole.{suffix}"
        if not whole.exists():
            WRITERS[suffix](data=counts(shape=(12, 10))).write(str(whole))
        content = bytearray(whole.read_bytes())
        for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
            content[position] = data.draw(st.integers(0, 255))
        content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
        path = tmp_path / f"damaged.{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(FrameError):
            assert all(frame.ndim == 2 and frame.dtype.kind in "iuf" for frame in read_frames(str(path)))


class TestHdf5:
    @pytest.mark.parametrize(
        "filters",
        [
            {},
            {"compression": "gzip"},
            dict(hdf5plugin.Bitshuffle(cname="lz4")),
            dict(hdf5plugin.LZ4()),
            dict(hdf5plugin.Blosc()),
        ],
        ids=["plain", "gzip", "bitshuffle-lz4", "lz4", "blosc"],
    )
    @pytest.mark.parametrize("axes", [3, 4])
    def test_a_stack_gives_its_frames_in_order(
        self, tmp_path: Path, filters: dict[str, object], axes: int
    ) -> None:
        path = tmp_path / "stack.h5"
        stack = counts(shape=(5, *SHAPE), dtype="uint16")
        shaped = stack if axes == 3 else stack[:, None]
        with h5py.File(path, "w") as file:
            file.create_dataset("entry/data/data", data=shaped, chunks=(1, *shaped.shape[1:]), **filters)
        frames = list(read_frames(f"{path}::/entry/data/data"))
        np.testing.assert_array_equal(np.stack(frames), stack)
        assert frames[0].dtype == np.uint16

    def test_a_plain_image_is_one_frame_and_the_leading_slash_optional(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "image.h5", "w") as file:
            file["data"] = counts()
        for name in ("/data", "data"):
            (frame,) = read_frames(f"{tmp_path}/image.h5::{name}")
            np.testing.assert_array_equal(frame, counts())

    def test_the_count_is_known_and_frames_are_read_one_by_one(self, tmp_path: Path) -> None:
        # Ten thousand frames of a megapixel would be 20 GB; one is written, and only what is asked for is read.
        with h5py.File(tmp_path / "long.h5", "w") as file:
            data = file.create_dataset("data", (10_000, 1000, 1000), "uint16", chunks=(1, 1000, 1000))
            data[9_999] = 7
        with open_frames(f"{tmp_path}/long.h5::/data") as file:
            assert file.count == 10_000
            assert file.read(9_999)[0, 0] == 7

    def test_external_links_of_a_master_file_are_followed(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "data_000001.h5", "w") as file:
            file["entry/data/data"] = counts(shape=(2, *SHAPE))
        with h5py.File(tmp_path / "master.h5", "w") as file:
            file["entry/data/data_000001"] = h5py.ExternalLink("data_000001.h5", "/entry/data/data")
            file["entry/data/data_000002"] = h5py.ExternalLink("data_000002.h5", "/entry/data/data")
        assert len(list(read_frames(f"{tmp_path}/master.h5::/entry/data/data_000001"))) == 2
        late = refusal(f"{tmp_path}/master.h5::/entry/data/data_000002")
        assert f"{tmp_path}/data_000002.h5 is not there" in late
        assert f"{tmp_path}/master.h5::/entry/data (2 parts)" in late

    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Path:
        path = tmp_path / "mixed.h5"
        with h5py.File(path, "w") as file:
            file["good"] = counts(shape=(3, *SHAPE))
            file["dark"] = counts(shape=(1, *SHAPE))
            file["curve"] = np.arange(100.0)
            file["volume"] = np.zeros((2, 3, 2, 2, 2, *SHAPE))
            file["complex"] = np.zeros(SHAPE, complex)
            file["names"] = np.full(SHAPE, b"text")
            file["objects"] = np.full(SHAPE, "text", dtype=object)
            file["flags"] = np.zeros(SHAPE, bool)
            file["none"] = np.zeros((0, *SHAPE), np.uint16)
            file["null"] = h5py.Empty("f4")
            file["nothing"] = np.zeros((3, 0, 20))
            file["group/again"] = h5py.SoftLink("/group")
            file["type"] = np.dtype("f8")
        return path

    def test_without_a_dataset_the_image_like_ones_are_listed(self, mixed: Path) -> None:
        message = refusal(mixed)
        assert f"{mixed}::/good (3, 40, 30)" in message
        for other in ("curve", "volume", "complex", "names", "objects", "flags"):
            assert other not in message

    @pytest.mark.parametrize("name", ["/wrong", "/", "", "/type", "/good/deeper"])
    def test_a_wrong_path_says_which_would_do(self, mixed: Path, name: str) -> None:
        assert f"{mixed}::/good" in refusal(f"{mixed}::{name}")

    def test_a_group_without_images_is_refused(self, mixed: Path) -> None:
        message = refusal(f"{mixed}::/group")
        assert "::/group: it holds no frames: it holds no dataset that looks like images" in message
        assert f"{mixed}::/good (3, 40, 30)" in message

    @pytest.mark.parametrize("name", ["curve", "volume", "complex", "names", "objects", "null"])
    def test_what_is_no_stack_of_counts_is_refused_with_its_shape_and_type(
        self, mixed: Path, name: str
    ) -> None:
        message = refusal(f"{mixed}::/{name}")
        assert "has shape" in message
        assert "frames are integers or real numbers" in message

    @pytest.mark.parametrize("name", ["none", "nothing"])
    def test_an_empty_stack_is_refused(self, mixed: Path, name: str) -> None:
        assert "is empty" in refusal(f"{mixed}::/{name}")

    def test_a_dataset_of_what_is_no_hdf5(self, tmp_path: Path) -> None:
        fabio.tifimage.TifImage(data=counts()).write(str(tmp_path / "frame.tif"))
        assert "is not an HDF5 file" in refusal(f"{tmp_path}/frame.tif::/data")
        assert "no such file" in refusal(f"{tmp_path}/no.h5::/data")
        assert "no file" in refusal("::/data")

    def test_a_cut_off_file(self, mixed: Path) -> None:
        whole = mixed.read_bytes()
        mixed.write_bytes(whole[: len(whole) // 2])
        assert "incomplete, damaged or still being written" in refusal(f"{mixed}::/good")

    def test_one_damaged_chunk_costs_one_frame(self, tmp_path: Path) -> None:
        path = tmp_path / "stack.h5"
        stack = counts(shape=(3, *SHAPE), dtype="uint16")
        with h5py.File(path, "w") as file:
            data = file.create_dataset("data", data=stack, chunks=(1, *SHAPE), compression="gzip")
            chunk = data.id.get_chunk_info(1)
        with path.open("r+b") as file:
            file.seek(chunk.byte_offset)
            file.write(b"\xff" * chunk.size)
        with open_frames(f"{path}::/data") as file:
            np.testing.assert_array_equal(file.read(0), stack[0])
            with pytest.raises(FrameError, match="/data frame 1 cannot be read"):
                file.read(1)
            np.testing.assert_array_equal(file.read(2), stack[2])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_no_spec_makes_anything_but_a_frame_error(spec: str) -> None:
    with pytest.raises(FrameError):
        list(read_frames(f"no-such-folder/{spec}"))
