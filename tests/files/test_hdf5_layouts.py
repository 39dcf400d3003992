"""HDF5 as detectors and beamlines lay it out: which dataset holds the frames, in which order, and what is none."""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import fabio
import fabio.eigerimage
import h5py
import hdf5plugin
import numpy as np
import pytest

from dvfb_stream.errors import FrameError, NotThereYetError
from dvfb_stream.files import open_frames, read_frames
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Expected, Hdf5Frame

from .conftest import ANY

SHAPE = (40, 30)


def counts(number: int, seed: int = 0, shape: tuple[int, ...] = SHAPE, dtype: str = "u4") -> np.ndarray:
    return np.random.default_rng(seed).poisson(50, (number, *shape)).astype(dtype)


def refusal(spec: object) -> str:
    with pytest.raises(FrameError) as caught:
        list(read_frames(str(spec)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reasons(spec: object) -> list[str]:
    """Return why each frame is not there, "" where it is."""
    found = []
    with open_frames(str(spec)) as file:
        for number in range(file.count):
            try:
                file.read(number)
            except NotThereYetError as error:
                found.append(str(error))
            else:
                found.append("")
    return found


def same(spec: object, frames: np.ndarray) -> None:
    """Each frame is as it should be, from a command and live, and there is none behind the last."""
    found = list(read_frames(str(spec)))
    assert len(found) == len(frames)
    np.testing.assert_array_equal(np.stack(found), frames)
    assert found[0].dtype == frames.dtype
    path, _, name = str(spec).partition("::")
    live, expected = FrameFiles(), Expected(frames.shape[1:], frames.dtype)
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(live.read(Hdf5Frame(path, name, number, expected), "run"), frame)
    with pytest.raises(NotThereYetError, match=f"none with number {len(frames)}"):
        live.read(Hdf5Frame(path, name, len(frames), expected), "run")
    live.close()


def group(parent: h5py.Group, name: str, nx_class: str, **attributes: object) -> h5py.Group:
    made = parent.require_group(name)
    made.attrs["NX_class"] = nx_class
    made.attrs.update(attributes)
    return made


class TestWithoutAName:
    def test_the_only_dataset_of_images_is_found(self, tmp_path: Path) -> None:
        """areaDetector's NDFileHDF5: the image under two names, and attributes a frame each."""
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["entry/instrument/detector/data"] = counts(3)
            file["entry/data/data"] = file["entry/instrument/detector/data"]
            file["entry/instrument/performance/timestamp"] = np.zeros((3, 5))
            file["entry/instrument/NDAttributes/NDArrayUniqueId"] = np.arange(3)
            file["entry/instrument/detector/pixel_mask"] = np.zeros(SHAPE, "u4")
            file["entry/instrument/detector/detectorSpecific/flatfield"] = np.ones(SHAPE, "f4")
            file["entry/valid"] = np.ones(SHAPE, bool)
            file["entry/round"] = h5py.SoftLink("/entry")
        same(tmp_path / "a.h5", counts(3))
        same(f"{tmp_path}/a.h5::/entry", counts(3))
        same(f"{tmp_path}/a.h5::entry/data", counts(3))

    def test_several_are_listed(self, tmp_path: Path) -> None:
        """APS's data exchange: frames, white fields and dark fields."""
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for seed, name in enumerate(("data", "data_white", "data_dark")):
                file[f"exchange/{name}"] = counts(2, seed)
        message = refusal(tmp_path / "a.h5")
        assert "say which dataset" in message
        for name in ("data", "data_white", "data_dark"):
            assert f"{tmp_path}/a.h5::/exchange/{name} (2, 40, 30)" in message
        same(f"{tmp_path}/a.h5::/exchange/data_white", counts(2, 1))

    @pytest.mark.parametrize("style", ["attribute", "field", "bytes", "path"])
    def test_the_default_of_nexus_is_obeyed(self, tmp_path: Path, style: str) -> None:
        with h5py.File(tmp_path / "a.nxs", "w") as file:
            entry = group(file, "second", "NXentry", default="waxs")
            group(file, "first", "NXentry")["data"] = counts(2, 1)
            saxs, waxs = group(entry, "saxs", "NXdata", signal="frames"), group(entry, "waxs", "NXdata")
            saxs["frames"], waxs["frames"], waxs["sum"] = counts(2, 2), counts(2, 3), counts(1, 4)
            file.attrs["default"] = "second"
            if style == "field":
                waxs["frames"].attrs["signal"] = 1
            else:
                waxs.attrs["signal"] = np.bytes_("frames") if style == "bytes" else "frames"
            if style == "path":
                file.attrs["default"] = "/second/waxs"
        same(tmp_path / "a.nxs", counts(2, 3))
        same(f"{tmp_path}/a.nxs::/second", counts(2, 3))
        same(f"{tmp_path}/a.nxs::/second/saxs", counts(2, 2))

    def test_a_default_that_is_a_curve_leaves_the_images(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.nxs", "w") as file:
            entry = group(file, "entry", "NXentry", default="plot")
            group(entry, "plot", "NXdata", signal="counts")["counts"] = np.arange(9.0)
            entry["measurement/saxs"] = counts(3)
            file.attrs["default"] = "entry"
        same(tmp_path / "a.nxs", counts(3))

    def test_a_default_that_leads_nowhere_is_none(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.attrs["default"] = "removed"
            group(file, "entry", "NXentry", default="removed/too")
            group(file, "entry/data", "NXdata", signal="counts")["counts"] = counts(2)
        same(tmp_path / "a.h5", counts(2))
        same(f"{tmp_path}/a.h5::/entry", counts(2))

    @pytest.mark.parametrize(
        "names", [("data_1", "data_2"), ("data1", "data2"), ("data_000001", "data_000002")]
    )
    def test_numbered_datasets_of_two_detectors_are_no_stack(
        self, tmp_path: Path, names: tuple[str, str]
    ) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file[f"entry/{names[0]}"], file[f"entry/{names[1]}"] = counts(2), counts(3, shape=(50, 20))
        assert "several that look like images" in refusal(tmp_path / "a.h5")
        same(f"{tmp_path}/a.h5::/entry/{names[1]}", counts(3, shape=(50, 20)))

    @pytest.mark.parametrize("names", [("data_1", "data_2"), ("data1", "data2"), ("data01", "data02")])
    def test_a_sample_and_its_background_are_no_stack(self, tmp_path: Path, names: tuple[str, str]) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            data = file.create_group("entry/data")
            data[names[0]], data[names[1]] = counts(2), counts(3)
        assert "several that look like images" in refusal(tmp_path / "a.h5")
        with h5py.File(tmp_path / "a.h5", "a") as file:
            file["entry/data"].attrs.update({"NX_class": "NXdata", "signal": names[1]})
        same(tmp_path / "a.h5", counts(3))

    @pytest.mark.parametrize("signal", [None, "data_02"])
    def test_a_numbered_dataset_of_images_is_found_among_columns_of_a_scan(
        self, tmp_path: Path, signal: str | None
    ) -> None:
        """SOLEIL's flyscans number all sensors: curves and images."""
        with h5py.File(tmp_path / "a.h5", "w") as file:
            data = group(file, "scan/scan_data", "NXdata")
            data["data_01"], data["data_02"], data["data_03"] = np.arange(3.0), counts(3), np.arange(3.0)
            if signal:
                data.attrs["signal"] = signal
        same(tmp_path / "a.h5", counts(3))

    def test_the_only_signal_is_preferred(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.nxs", "w") as file:
            group(file, "entry/data", "NXdata", signal="data")["data"] = counts(3)
            file["entry/thumbnail"] = counts(1)[0]
        same(tmp_path / "a.nxs", counts(3))

    def test_nothing_is_found_where_nothing_is(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["table"] = np.zeros((100, 7))
            file["spectra"] = np.zeros((30, 30, 64))
            file["spectra"].attrs["interpretation"] = "spectrum"
        assert refusal(tmp_path / "a.h5").endswith(
            "it holds no frames: it holds no dataset that looks like images"
        )

    def test_a_link_whose_file_is_gone_names_the_file(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["entry/data/data"] = h5py.ExternalLink("gone.h5", "/data")
        for spec in (
            tmp_path / "a.h5",
            f"{tmp_path}/a.h5::/entry/data",
            f"{tmp_path}/a.h5::/entry/data/data",
        ):
            assert f"{tmp_path}/gone.h5 is not there" in refusal(spec)
        with h5py.File(tmp_path / "a.h5", "a") as file:
            file["thumbnail"] = counts(1)
        message = refusal(tmp_path / "a.h5")
        assert "::/thumbnail (1, 40, 30)" in message
        assert f"::/entry/data/data (which is not there: {tmp_path}/gone.h5 is not there)" in message

    def test_a_file_of_many_groups_that_lead_round_ends(self, tmp_path: Path) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for number in range(12):
                file.create_group(f"g{number}")
            for number in range(12):
                for other in range(12):
                    file[f"g{number}/to{other}"] = file[f"g{other}"]
            file["g3/data"] = counts(2)
        same(tmp_path / "a.h5", counts(2))


def write_master(folder: Path, lengths: list[int], **planned: int) -> np.ndarray:
    """DECTRIS's FileWriter, legacy format: a master, and files of a thousand frames, here a few."""
    frames = counts(sum(lengths), shape=(64, 48))
    with h5py.File(folder / "s_master.h5", "w") as master:
        group(master, "entry", "NXentry")
        data = group(master, "entry/data", "NXdata")
        first = 0
        for number, length in enumerate(lengths, start=1):
            with h5py.File(folder / f"s_data_{number:06d}.h5", "w") as file:
                file.create_dataset(
                    "entry/data/data",
                    data=frames[first : first + length],
                    chunks=(1, 64, 48),
                    **hdf5plugin.Bitshuffle(cname="lz4"),
                )
            first += length
            data[f"data_{number:06d}"] = h5py.ExternalLink(f"s_data_{number:06d}.h5", "/entry/data/data")
        specific = group(master, "entry/instrument/detector/detectorSpecific", "NXcollection")
        for name, shape in (("pixel_mask", (64, 48)), ("flatfield", (64, 48))):
            specific[name] = np.zeros(shape, "u4")
        for name, value in planned.items():
            specific[name] = value
    return frames


class TestDectris:
    def test_the_files_of_a_master_are_one_stack_in_order(self, tmp_path: Path) -> None:
        frames = write_master(tmp_path, [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2])
        for name in ("", "::/entry/data", "::/entry"):
            same(f"{tmp_path}/s_master.h5{name}", frames)
        same(f"{tmp_path}/s_master.h5::/entry/data/data_000002", frames[3:6])
        second = fabio.open(str(tmp_path / "s_master.h5"))
        assert second.nframes == len(frames)
        for number, frame in enumerate(frames):
            np.testing.assert_array_equal(second.getframe(number).data, frame)

    def test_a_single_file_of_data_is_read_without_its_master(self, tmp_path: Path) -> None:
        frames = write_master(tmp_path, [3, 2])
        same(tmp_path / "s_data_000002.h5", frames[3:])

    @pytest.mark.parametrize(
        ("gone", "planned", "missing"),
        [
            (2, {}, 3),
            (3, {}, 1),
            (3, {"nimages": 8, "ntrigger": 1}, 2),
            (3, {"nimages": 4, "ntrigger": 2}, 2),
        ],
    )
    def test_frames_of_a_file_that_is_gone_are_not_there_and_the_others_keep_their_numbers(
        self, tmp_path: Path, gone: int, planned: dict[str, int], missing: int
    ) -> None:
        frames = write_master(tmp_path, [3, 3, 2], **planned)
        (tmp_path / f"s_data_{gone:06d}.h5").rename(tmp_path / "renamed.h5")
        found = reasons(tmp_path / "s_master.h5")
        before = 3 * (gone - 1)
        assert [bool(reason) for reason in found[before : before + missing]] == [True] * missing
        assert all(
            f"{tmp_path}/s_data_{gone:06d}.h5 is not there" in r for r in found[before : before + missing]
        )
        assert not any(found[:before] + found[before + missing :])
        if gone == 2:
            with open_frames(str(tmp_path / "s_master.h5")) as file:
                np.testing.assert_array_equal(file.read(6), frames[6])

    def test_a_master_without_any_of_its_files_names_the_first(self, tmp_path: Path) -> None:
        write_master(tmp_path, [3])
        (tmp_path / "s_data_000001.h5").unlink()
        assert f"{tmp_path}/s_data_000001.h5 is not there" in refusal(tmp_path / "s_master.h5")

    @pytest.mark.parametrize(
        ("picked", "truth"),
        [("4", np.s_[4]), ("-1", np.s_[-1]), ("2:5", np.s_[2:5]), ("::3", np.s_[::3]), ("::-1", np.s_[::-1])],
    )
    def test_brackets_select_from_all_files_of_a_master_as_from_one_array(
        self, tmp_path: Path, picked: str, truth: int | slice
    ) -> None:
        frames = write_master(tmp_path, [3, 3, 2])
        found = list(read_frames(f"{tmp_path}/s_master.h5::/entry/data[{picked}]"))
        np.testing.assert_array_equal(np.stack(found), frames[truth].reshape(-1, 64, 48))

    def test_brackets_select_images_and_thresholds_from_all_files_of_a_master(self, tmp_path: Path) -> None:
        frames = counts(10).reshape(5, 2, *SHAPE)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["entry/data_000001"], file["entry/data_000002"] = frames[:3], frames[3:]
        for picked, truth in (
            ("1:4", frames[1:4]),
            ("::2,1", frames[::2, 1]),
            ("3", frames[3]),
            (":,0", frames[:, 0]),
        ):
            found = list(read_frames(f"{tmp_path}/a.h5::/entry[{picked}]"))
            np.testing.assert_array_equal(np.stack(found), truth.reshape(-1, *SHAPE))

    def test_brackets_that_select_what_is_gone_or_none_say_so(self, tmp_path: Path) -> None:
        write_master(tmp_path, [3, 3, 2])
        (tmp_path / "s_data_000002.h5").unlink()
        gone = f"{tmp_path}/s_data_000002.h5 is not there"
        assert [gone in r for r in reasons(f"{tmp_path}/s_master.h5::/entry/data[2:7:2]")] == [
            False,
            True,
            False,
        ]
        assert gone in refusal(f"{tmp_path}/s_master.h5::/entry/data[4]")
        assert "there are 8 images, none with the number 8" in refusal(
            f"{tmp_path}/s_master.h5::/entry/data[8]"
        )
        assert "is empty: there are 8 images" in refusal(f"{tmp_path}/s_master.h5::/entry/data[8:]")

    def test_live_a_frame_is_waited_for_until_the_file_before_is_whole(self, tmp_path: Path) -> None:
        frames = write_master(tmp_path, [3, 3])
        (tmp_path / "s_data_000001.h5").rename(tmp_path / "late.h5")
        files, master = FrameFiles(), str(tmp_path / "s_master.h5")
        with pytest.raises(NotThereYetError, match=r"s_data_000001\.h5 is not there"):
            files.read(Hdf5Frame(master, "entry/data", 4, ANY), "run")
        (tmp_path / "late.h5").rename(tmp_path / "s_data_000001.h5")
        np.testing.assert_array_equal(files.read(Hdf5Frame(master, "entry/data", 4, ANY), "run"), frames[4])
        files.close()

    def test_of_several_thresholds_nexus_names_the_first_and_brackets_any(self, tmp_path: Path) -> None:
        """The format v2024.2: (images, thresholds, rows, columns), virtual, and the slice that NeXus shows."""
        frames = counts(12, shape=(64, 48)).reshape(4, 3, 64, 48)
        layout = h5py.VirtualLayout((4, 3, 64, 48), "u4")
        for number in range(2):
            with h5py.File(tmp_path / f"s_data_{number:06d}.h5", "w") as file:
                file.create_dataset("data", data=frames[2 * number : 2 * number + 2], chunks=(1, 1, 64, 48))
            layout[2 * number : 2 * number + 2] = h5py.VirtualSource(
                f"s_data_{number:06d}.h5", "data", (2, 3, 64, 48)
            )
        with h5py.File(tmp_path / "s_master.h5", "w") as master:
            master.attrs["default"] = "entry"
            group(master, "entry", "NXentry", default="data")
            data = group(master, "entry/data", "NXdata", signal="data")
            data.attrs["axes"] = ["image_id", "channel", ".", "."]
            data.attrs["default_slice"] = [".", "threshold_1", ".", "."]
            data["image_id"], data["channel"] = np.arange(1, 5), ["threshold_1", "threshold_2", "difference"]
            data.create_virtual_dataset("data", layout)
            for channel in ("threshold_1", "threshold_2"):
                master[f"entry/instrument/detector/{channel}_channel/pixel_mask"] = np.zeros((64, 48), "u4")
        path = tmp_path / "s_master.h5"
        same(path, frames[:, 0])
        same(f"{path}::/entry/data", frames[:, 0])
        same(f"{path}::/entry/data/data", frames.reshape(-1, 64, 48))
        same(f"{path}::/entry/data/data[:,1]", frames[:, 1])
        same(f"{path}::/entry/data[:, 2]", frames[:, 2])
        same(f"{path}::/entry/data/data[1:3]", frames[1:3].reshape(-1, 64, 48))
        same(f"{path}::/entry/data/data[-1,::2]", frames[-1, ::2])
        (tmp_path / "s_data_000001.h5").rename(tmp_path / "renamed.h5")
        assert [f"{tmp_path}/s_data_000001.h5 is not there" in r for r in reasons(path)] == [False] * 2 + [
            True
        ] * 2


class TestSelections:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["grid"] = counts(12).reshape(3, 4, *SHAPE)
            file["odd[0]"] = counts(2, 1)
            file["one"] = counts(1)[0]
        return tmp_path / "a.h5"

    @pytest.mark.parametrize(
        ("picked", "truth"),
        [
            ("0", np.s_[0]),
            ("-1", np.s_[-1]),
            (":", np.s_[:]),
            ("1:", np.s_[1:]),
            ("::2", np.s_[::2]),
            ("::-1", np.s_[::-1]),
            ("1,2", np.s_[1, 2]),
            (":,3", np.s_[:, 3]),
            ("2:0:-1, 1:3", np.s_[2:0:-1, 1:3]),
        ],
    )
    def test_brackets_select_as_numpy_does(self, path: Path, picked: str, truth: object) -> None:
        same(f"{path}::grid[{picked}]", counts(12).reshape(3, 4, *SHAPE)[truth].reshape(-1, *SHAPE))

    def test_a_dataset_that_has_brackets_in_its_name_is_itself(self, path: Path) -> None:
        same(f"{path}::odd[0]", counts(2, 1))
        same(f"{path}::odd[0][1]", counts(2, 1)[1:])

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("grid[3]", "none has the number 3 along an axis of 3"),
            ("grid[0,-5]", "none has the number -5 along an axis of 4"),
            ("grid[0,0,0]", "3 axes are named, and images lie along 2"),
            ("grid[0:1:0]", "selects no frames; write for example grid[:,0]"),
            ("grid[,]", "selects no frames"),
            ("grid[a]", "has no dataset 'grid[a]'"),
            ("one[0]", "1 axes are named, and images lie along 0"),
            ("grid[3:]", "is empty"),
            ("nothing[0]", "has no dataset 'nothing'"),
        ],
    )
    def test_what_selects_nothing_says_why(self, path: Path, name: str, reason: str) -> None:
        assert reason in refusal(f"{path}::{name}")


class TestBeamlines:
    def test_bliss(self, tmp_path: Path) -> None:
        """ESRF: a scan's file maps Lima's files, and links lead from measurement to instrument."""
        frames = counts(6)
        layout = h5py.VirtualLayout((6, *SHAPE), "u4")
        (tmp_path / "scan0001").mkdir()
        for number in range(3):
            with h5py.File(tmp_path / f"scan0001/eiger_{number:04d}.h5", "w") as lima:
                lima.attrs.update(creator="LIMA-1.9.20", default="entry_0000", NX_class="NXroot")
                entry = group(lima, "entry_0000", "NXentry", default="/entry_0000/measurement")
                group(entry, "instrument/eiger", "NXdetector")["data"] = frames[2 * number : 2 * number + 2]
                entry["instrument/eiger/data"].attrs["interpretation"] = "image"
                group(entry, "measurement", "NXdata", signal="data")["data"] = h5py.SoftLink(
                    "/entry_0000/instrument/eiger/data"
                )
            layout[2 * number : 2 * number + 2] = h5py.VirtualSource(
                f"scan0001/eiger_{number:04d}.h5", "/entry_0000/instrument/eiger/data", (2, *SHAPE)
            )
        with h5py.File(tmp_path / "sample.h5", "w") as file:
            file.attrs.update(NX_class="NXroot", creator="Bliss", default="1.1")
            entry = group(file, "1.1", "NXentry", default="plotselect")
            detector = group(entry, "instrument/eiger", "NXdetector")
            detector.create_virtual_dataset("data", layout)
            group(entry, "measurement", "NXcollection")["eiger"] = h5py.SoftLink("/1.1/instrument/eiger/data")
            entry["measurement/diode"] = np.arange(6.0)
            group(entry, "plotselect", "NXdata", signal="diode")["diode"] = h5py.SoftLink(
                "/1.1/measurement/diode"
            )
        for name in (
            "",
            "::1.1",
            "::/1.1/measurement",
            "::/1.1/measurement/eiger",
            "::/1.1/instrument/eiger",
        ):
            same(f"{tmp_path}/sample.h5{name}", frames)
        same(tmp_path / "scan0001/eiger_0001.h5", frames[2:4])
        second = fabio.open(str(tmp_path / "scan0001/eiger_0001.h5"))
        np.testing.assert_array_equal(np.stack([second.getframe(n).data for n in range(2)]), frames[2:4])
        with h5py.File(tmp_path / "sample.h5", "a") as file:
            group(file, "2.1", "NXentry")["measurement/eiger"] = counts(2, 5)
        message = refusal(tmp_path / "sample.h5")
        assert "/1.1/instrument/eiger/data (6, 40, 30)" in message
        assert "/2.1/measurement/eiger (2, 40, 30)" in message
        # Moved as beamlines move them, with the folder of the scan; then without.
        shutil.move(tmp_path / "sample.h5", tmp_path / "scan0001/sample.h5")
        same(f"{tmp_path}/scan0001/sample.h5::1.1", frames)

    def test_a_virtual_dataset_and_what_it_is_made_of_are_one_stack(self, tmp_path: Path) -> None:
        frames, layout = counts(6), h5py.VirtualLayout((6, *SHAPE), "u4")
        with h5py.File(tmp_path / "a.h5", "w") as file:
            for number in range(2):
                file[f"raw/module{number}"] = frames[3 * number : 3 * number + 3]
                layout[3 * number : 3 * number + 3] = h5py.VirtualSource(
                    ".", f"raw/module{number}", (3, *SHAPE)
                )
            file.create_virtual_dataset("all", layout)
        same(tmp_path / "a.h5", frames)

    def test_lambda(self, tmp_path: Path) -> None:
        """X-Spectrum's Lambda, which fabio has a reader of its own for."""
        frames = counts(3, dtype="u2")
        with h5py.File(tmp_path / "a.nxs", "w") as file:
            detector = group(file, "entry/instrument/detector", "NXdetector")
            detector["data"], detector["description"] = frames, np.bytes_("Lambda")
            detector["pixel_mask"] = np.zeros((1, *SHAPE), "u4")
        same(tmp_path / "a.nxs", frames)
        second = fabio.open(str(tmp_path / "a.nxs"))
        np.testing.assert_array_equal(np.stack([second.getframe(n).data for n in range(3)]), frames)


class TestMatlab:
    @pytest.mark.parametrize("block", [512, 1024, 4096])
    def test_hdf5_behind_a_user_block_is_read(self, tmp_path: Path, block: int) -> None:
        with h5py.File(tmp_path / "a.h5", "w", userblock_size=block) as file:
            file["d"] = counts(3)
        with (tmp_path / "a.h5").open("r+b") as raw:
            raw.write(b"Written at the beamline, with a head of its own".ljust(block, b" "))
        same(tmp_path / "a.h5", counts(3))
        same(f"{tmp_path}/a.h5::d", counts(3))

    @pytest.mark.parametrize("axes", [2, 3, 4])
    def test_arrays_of_matlab_have_the_axes_that_they_had_there(self, tmp_path: Path, axes: int) -> None:
        """MATLAB's A(row, column, frame) is stored as (frame, column, row)."""
        array = (
            counts(6)
            .transpose(1, 2, 0)[..., : 6 if axes > 2 else 1]
            .reshape(*SHAPE, *[[], [6], [2, 3]][axes - 2])
        )
        with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
            file.create_dataset("A", data=array.T).attrs["MATLAB_class"] = np.bytes_("uint32")
        with (tmp_path / "a.mat").open("r+b") as raw:
            text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Nov 30 09:00:00 2026 HDF5 schema 1.00 ."
            raw.write(text.ljust(124) + b"\x00\x02IM")
        same(tmp_path / "a.mat", array.T.reshape(-1, *SHAPE[::-1]).transpose(0, 2, 1))

    def test_a_file_that_is_written_behind_a_user_block_is_followed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.h5"
        with h5py.File(path, "w", libver="latest", userblock_size=512) as file:
            data = file.create_dataset("d", (0, *SHAPE), "u4", maxshape=(None, *SHAPE), chunks=(1, *SHAPE))
            file.swmr_mode = True
            data.resize(1, axis=0)
            data[0] = counts(1)[0]
            data.flush()
            shutil.copy(path, tmp_path / "copy.h5")  # as another machine sees it: marked as being written
        found = FrameFiles().read(Hdf5Frame(str(tmp_path / "copy.h5"), "d", 0, ANY), "run")
        np.testing.assert_array_equal(found, counts(1)[0])


class TestColours:
    @pytest.mark.parametrize("shape", [(300, 300, 3), (300, 300, 4), (5, 300, 300, 3), (16, 16, 3)])
    def test_a_picture_is_one_picture_and_no_stack_of_lines(
        self, tmp_path: Path, shape: tuple[int, ...]
    ) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["rgb"] = np.zeros(shape, "u1")
        for spec in (tmp_path / "a.h5", f"{tmp_path}/a.h5::rgb"):
            message = refusal(spec)
            assert "is a picture in colours" in message
            assert "colour images are not frames" in message
        with pytest.raises(FrameError, match="is a picture in colours") as raised:
            FrameFiles().read(Hdf5Frame(str(tmp_path / "a.h5"), "rgb", 0, ANY), "run")
        assert not isinstance(raised.value, NotThereYetError)

    @pytest.mark.parametrize(
        ("attribute", "value"),
        [
            ("interpretation", "rgb-image"),
            ("interpretation", "rgba-image"),
            ("IMAGE_SUBCLASS", np.bytes_("IMAGE_TRUECOLOR")),
        ],
    )
    def test_planes_of_colours_say_so(self, tmp_path: Path, attribute: str, value: object) -> None:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("rgb", data=counts(3)).attrs[attribute] = value
        assert f"its {attribute} is" in refusal(tmp_path / "a.h5")
        assert f"its {attribute} is" in refusal(f"{tmp_path}/a.h5::rgb")

    def test_npy(self, tmp_path: Path) -> None:
        np.save(tmp_path / "rgb.npy", np.zeros((300, 300, 3), "u1"))
        assert "is a picture in colours, its shape is (300, 300, 3)" in refusal(tmp_path / "rgb.npy")
        np.save(tmp_path / "grid.npy", counts(12).reshape(3, 4, *SHAPE))
        np.testing.assert_array_equal(np.stack(list(read_frames(str(tmp_path / "grid.npy")))), counts(12))

    @pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "pdf", "webp"])
    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "L"])
    def test_pictures(self, tmp_path: Path, suffix: str, mode: str) -> None:
        from PIL import Image

        path, picture = tmp_path / f"a.{suffix}", Image.fromarray(np.zeros((300, 300), "u1")).convert(mode)
        if suffix in ("jpg", "gif", "bmp", "pdf"):
            picture = picture.convert("L" if mode == "L" else "RGB")
        picture.save(path)
        if (suffix, mode) == ("png", "L"):
            assert len(list(read_frames(str(path)))) == 1
        else:
            assert " picture" in refusal(path)


FILTERS = [
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    hdf5plugin.Bitshuffle(cname="lz4"),
    hdf5plugin.Bitshuffle(cname="zstd"),
    hdf5plugin.Bitshuffle(cname="none"),
    hdf5plugin.LZ4(),
    hdf5plugin.Zstd(),
    hdf5plugin.Blosc(cname="lz4", shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    hdf5plugin.Blosc(cname="zstd"),
    hdf5plugin.Blosc2(cname="zstd"),
    hdf5plugin.BZip2(),
]


@pytest.mark.parametrize(
    ("filters", "dtype"),
    [
        *product(FILTERS, ["u1", "u2", "u4", ">u2", "f4"]),
        *product([hdf5plugin.FciDecomp()], ["u1", "u2"]),  # JPEG-LS has at most 16 bits
    ],
    ids=lambda value: (
        value
        if isinstance(value, str)
        else type(value).__name__ + "".join(f"-{v}" for v in dict(value).values() if isinstance(v, str))
    ),
)
@pytest.mark.parametrize("chunk", [1, 2])
def test_filters_of_detectors(tmp_path: Path, filters: dict, dtype: str, chunk: int) -> None:
    frames = counts(3).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("d", data=frames, chunks=(chunk, *SHAPE), **filters)
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["d"][()], frames)
    same(tmp_path / "a.h5", frames.astype(frames.dtype.newbyteorder("=")))
