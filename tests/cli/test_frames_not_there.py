"""A frame that is not there is a failed row that names its file, from the command line as in live annotation."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from dvfb_stream.errors import NotThereYetError
from dvfb_stream.files.frame_files import FrameFiles
from dvfb_stream.files.references import Hdf5Frame

from .conftest import CENTRE, SHAPE, pattern


def virtual_dataset(folder: Path) -> tuple[Path, Path]:
    """Two frames in each of two files, the second of which was renamed."""
    layout = h5py.VirtualLayout((4, *SHAPE), "f8")
    for number in range(2):
        with h5py.File(folder / f"{number}.h5", "w") as file:
            file["d"] = np.stack([pattern(2 * number), pattern(2 * number + 1)]).astype("f8")
        layout[2 * number : 2 * number + 2] = h5py.VirtualSource(f"{number}.h5", "d", (2, *SHAPE))
    with h5py.File(folder / "frames.h5", "w") as file:
        file.create_virtual_dataset("d", layout)
    (folder / "1.h5").rename(folder / "renamed.h5")
    return folder / "frames.h5", folder / "1.h5"


def unwritten_chunks(folder: Path) -> tuple[Path, Path]:
    """Of four frames, two were written before the detector stopped."""
    with h5py.File(folder / "frames.h5", "w") as file:
        data = file.create_dataset("d", (4, *SHAPE), "f8", chunks=(1, *SHAPE))
        data[0], data[1] = pattern(0), pattern(1)
    return folder / "frames.h5", folder / "frames.h5"


@pytest.mark.parametrize("write", [virtual_dataset, unwritten_chunks])
def test_frames_that_are_not_there_are_failed_rows_that_name_the_file(dvfb, tmp_path: Path, write) -> None:
    path, named = write(tmp_path)
    outcome = dvfb("annotate", f"{path}::d", *CENTRE, "--model", "tiny", "--json")
    assert outcome.status == 1
    assert [row["status"] for row in outcome.rows] == ["ok", "ok", "failed", "failed"]
    live = FrameFiles()
    for number in (2, 3):
        assert str(named) in outcome.rows[number]["reason"]
        with pytest.raises(NotThereYetError) as raised:
            live.read(Hdf5Frame(str(path), "d", number), "run")
        assert outcome.rows[number]["reason"] == str(raised.value)
    live.close()


def test_a_dataset_in_a_file_that_is_gone_names_that_file(dvfb, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "master.h5", "w") as file:
        file["d"] = h5py.ExternalLink("gone.h5", "d")
    outcome = dvfb("annotate", f"{tmp_path}/master.h5::d", *CENTRE, "--model", "tiny", "--json")
    assert outcome.status == 1
    assert outcome.rows == []
    assert f"{tmp_path}/gone.h5 is not there" in outcome.errors[0]
