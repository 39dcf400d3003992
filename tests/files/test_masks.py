"""Mask files of the field, where 1 means masked, become validity masks, whatever their format."""

from __future__ import annotations

import io
from pathlib import Path

import fabio.edfimage
import fabio.fit2dmaskimage
import fabio.tifimage
import h5py
import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dvfb_stream.errors import GeometryError
from dvfb_stream.files import read_mask

MASKED = np.zeros((20, 30), dtype=np.uint8)
MASKED[:5] = 1
MASKED[7, 8] = 1


def refusal(path: object) -> str:
    with pytest.raises(GeometryError) as caught:
        read_mask(str(path))
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_text(path: Path, **options: object) -> None:
    np.savetxt(path, MASKED, fmt="%d", **options)  # type: ignore[arg-type]


def write_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["mask"] = MASKED


FORMATS = {
    "mask.npy": lambda path: np.save(path, MASKED),
    "boolean.npy": lambda path: np.save(path, MASKED.astype(bool)),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(MASKED.astype(">f4"))),
    "blanks.txt": write_text,
    "commas.csv": lambda path: write_text(path, delimiter=","),
    "comments.dat": lambda path: write_text(path, header="1 = masked\nmade by hand"),
    "mask.edf": lambda path: fabio.edfimage.EdfImage(data=MASKED).write(str(path)),
    "mask.tif": lambda path: fabio.tifimage.TifImage(data=MASKED).write(str(path)),
    "white.tif": lambda path: fabio.tifimage.TifImage(data=MASKED.astype(np.uint16) * 255).write(str(path)),
    "levels.edf": lambda path: fabio.edfimage.EdfImage(data=MASKED * np.arange(1, 31, dtype=np.uint8)).write(
        str(path)
    ),
    "mask.h5": write_h5,
}


def bits(path: Path) -> None:
    """As DECTRIS and NeXus have it: 1 gap, 2 dead, 3 both reasons, 16 noisy."""
    values = np.zeros((20, 30), np.uint32)
    values[:5] = 1
    values[4, :9] = (2, 3, 16, 2**31, 1, 1, 4, 1, 2)
    values[7, 8] = 2
    with h5py.File(path, "w") as file:
        detector = file.create_group("entry/instrument/detector")
        detector["pixel_mask"] = values
        detector["stacked"] = values[None]
        detector["boolean"] = values != 0


def negative(path: Path) -> None:
    """As Pilatus frames have their gaps and dead pixels."""
    values = -MASKED.astype(np.int32)
    values[7, 8] = -2
    fabio.tifimage.TifImage(data=values).write(str(path))


def fit2d(path: Path) -> None:
    fabio.fit2dmaskimage.Fit2dMaskImage(data=MASKED).write(str(path))


MANY = {
    "pixel_mask": ("nexus.h5", bits, "::/entry/instrument/detector/pixel_mask"),
    "pixel_mask, stacked": ("nexus.h5", bits, "::/entry/instrument/detector/stacked"),
    "boolean HDF5": ("nexus.h5", bits, "::/entry/instrument/detector/boolean"),
    "-1 and -2": ("negative.tif", negative, ""),
    "1-bit TIFF": ("bits.tif", lambda path: tifffile.imwrite(path, MASKED.astype(bool)), ""),
    "big-endian 1-bit TIFF": (
        "bits.tif",
        lambda path: tifffile.imwrite(path, MASKED.astype(bool), byteorder=">"),
        "",
    ),
    "8-bit PNG": ("mask.png", lambda path: PIL.Image.fromarray(MASKED * 255).save(path), ""),
    "1-bit PNG": ("mask.png", lambda path: PIL.Image.fromarray(MASKED.astype(bool)).save(path), ""),
    "Fit2D msk": ("mask.msk", fit2d, ""),
    "pyFAI edf": (
        "mask.edf",
        lambda path: fabio.edfimage.EdfImage(data=MASKED.astype(np.int8)).write(str(path)),
        "",
    ),
}


def independently(path: Path, dataset: str) -> np.ndarray:
    """What another reader finds in the file."""
    if dataset:
        with h5py.File(path) as file:
            return np.squeeze(file[dataset.removeprefix("::")][()])
    if path.suffix == ".png":
        return np.asarray(PIL.Image.open(path))
    return tifffile.imread(path) if path.suffix == ".tif" else fabio.open(path).data


@pytest.mark.parametrize("kind", MANY)
def test_masks_of_the_field_are_what_another_reader_finds(tmp_path: Path, kind: str) -> None:
    name, write, dataset = MANY[kind]
    write(tmp_path / name)
    found = independently(tmp_path / name, dataset)
    np.testing.assert_array_equal(found != 0, MASKED != 0)
    np.testing.assert_array_equal(read_mask(f"{tmp_path / name}{dataset}"), found == 0)


@pytest.mark.parametrize("name", FORMATS)
def test_zero_is_valid_and_all_else_masked_in_every_format(tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name)
    mask = read_mask(f"{tmp_path / name}::/mask" if name.endswith(".h5") else tmp_path / name)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, MASKED == 0)


def test_a_mask_may_mask_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.zeros((3, 4), np.int64))
    assert read_mask(tmp_path / "none.npy").all()


def test_a_detectors_underload_says_nothing_of_its_mask(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "master.h5", "w") as file:
        detector = file.create_group("entry/instrument/detector")
        detector.attrs["NX_class"] = "NXdetector"
        detector["pixel_mask"] = MASKED.astype(np.uint32)
        detector["underload_value"] = 1
    valid = read_mask(f"{tmp_path}/master.h5::/entry/instrument/detector/pixel_mask")
    np.testing.assert_array_equal(valid, MASKED == 0)


def test_a_mask_of_everything_is_refused_with_the_convention(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.ones((3, 4), bool))
    assert "masks every pixel; in a mask file 0 (False) means valid and 1 (True" in refusal(
        tmp_path / "all.npy"
    )


def test_a_frame_is_not_a_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "frame.npy", np.arange(12).reshape(3, 4))
    assert "looks like a frame, not a mask" in refusal(tmp_path / "frame.npy")


def test_a_dim_frame_is_not_a_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "frame.npy", np.random.default_rng(0).poisson(1.5, (50, 60)))
    assert "looks like a frame, not a mask" in refusal(tmp_path / "frame.npy")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "sprung").touch, ())

    np.save(tmp_path / "trap.npy", np.array([[Trap()]], dtype=object), allow_pickle=True)
    refusal(tmp_path / "trap.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("# only a comment\n\n", "is empty"),
        ("0 1 0\n0 1\n", "not a table of numbers"),
        ("zero one\n", "not a table of numbers"),
        ("0 nan\n0 1\n", "not finite"),
        ("0 1\n1 2\n", "2 different values besides 0"),
        ("1 1\n1 1\n", "masks every pixel"),
    ],
)
def test_bad_text(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "mask.txt").write_text(content)
    assert said in refusal(tmp_path / "mask.txt")


def test_binary_under_a_text_name(tmp_path: Path) -> None:
    (tmp_path / "mask.txt").write_bytes(bytes(range(256)))
    assert "not a table of numbers" in refusal(tmp_path / "mask.txt")


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3, 4)), np.zeros(4), np.zeros((0, 4)), np.zeros((3, 4), complex), np.full((3, 4), "0")],
)
def test_npy_files_that_are_no_masks(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "mask.npy", array)
    assert "mask.npy" in refusal(tmp_path / "mask.npy")


def test_an_npy_that_promises_more_than_it_holds_takes_no_memory(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": "|u1", "fortran_order": False, "shape": (1_000_000, 1_000_000)}
    )
    (tmp_path / "mask.npy").write_bytes(content.getvalue() + b"\0" * 100)
    assert "is more than any detector's" in refusal(tmp_path / "mask.npy")


def test_missing_directory_and_stack(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "no.npy")
    assert "no such file" in refusal(tmp_path / "no.txt")
    assert "is a directory" in refusal(tmp_path)
    with h5py.File(tmp_path / "stack.h5", "w") as file:
        file["masks"] = np.zeros((2, 20, 30), np.uint8)
    assert "holds 2 images; a mask is one" in refusal(f"{tmp_path}/stack.h5::/masks")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    masked=arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))),
    separator=st.sampled_from([" ", "\t", ",", ", "]),
)
def test_any_mask_survives_being_written_as_text(tmp_path: Path, masked: np.ndarray, separator: str) -> None:
    path = tmp_path / "mask.txt"
    path.write_text("\n".join(separator.join(str(int(value)) for value in row) for row in masked) + "\n")
    if masked.all():
        refusal(path)
    else:
        np.testing.assert_array_equal(read_mask(path), ~masked)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"\x93NUMPY\x01\0" + tail)
    )
)
@pytest.mark.parametrize("name", ["mask.txt", "mask.npy"])
def test_any_bytes_give_a_mask_or_a_geometry_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    try:
        mask = read_mask(tmp_path / name)
    except GeometryError:
        return
    assert mask.ndim == 2
    assert mask.any()
