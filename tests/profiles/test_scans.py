"""Scans of the simulated beamline: stored frame by frame, annotated, numbered on; one server a folder."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dvfb_stream import Annotator
from dvfb_stream.catalog import read_annotations
from dvfb_stream.errors import DvfbError, SettingsError
from dvfb_stream.profiles.catalogs import last_scan_id, served_folder
from dvfb_stream.profiles.exposures import SAMPLES, SimulatedExposures
from dvfb_stream.profiles.scans import Scan, run_scans, scans_of_samples

from .conftest import PATIENCE


@pytest.fixture(scope="module")
def annotator(tiny_bundle):
    return Annotator.load(tiny_bundle)


@pytest.mark.parametrize(
    ("frames", "each"), [(1, [1]), (3, [1, 1, 1]), (4, [1, 1, 1, 1]), (10, [3, 3, 2, 2])]
)
def test_frames_are_shared_out_among_the_samples(frames, each):
    scans = scans_of_samples(frames, seed=0)
    assert [scan.frames for scan in scans] == each
    assert [scan.sample for scan in scans] == [sample.name for sample in SAMPLES[: len(each)]]


def test_raw_frames_and_their_annotations_are_stored_and_scans_numbered_on(catalog, annotator):
    first, second = run_scans(scans_of_samples(12, 0)[1:3], annotator, catalog, timeout=PATIENCE)
    supply = SimulatedExposures(0, sample=SAMPLES[1])
    stored = catalog[first]["primary"]["det_image"].read()
    assert stored.dtype == np.int32
    np.testing.assert_array_equal(stored, [supply.expose().pixels for _ in range(3)])
    assert catalog[first].metadata["start"]["sample_name"] == "square lattice"
    for uid in (first, second):
        rows = read_annotations(catalog, uid)
        assert [row["frame"] for row in rows] == list(range(3))
        assert {row["status"] for row in rows} == {"ok"}
    assert last_scan_id(catalog) == 2
    (third,) = run_scans(scans_of_samples(1, 0), annotator, catalog, timeout=PATIENCE)
    assert catalog[third].metadata["start"]["scan_id"] == 3


class Broken(SimulatedExposures):
    def expose(self):
        raise OSError("the detector is off")


def test_a_scan_that_fails_is_one_error_that_names_sample_and_cause(catalog, annotator):
    with pytest.raises(DvfbError, match=r"the scan of 'fibre' failed: the detector is off"):
        run_scans([Scan(sample="fibre", exposures=Broken(), frames=2)], annotator, catalog)


def test_a_folder_that_another_process_serves_is_refused_at_once(tmp_path):
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(); input()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(SettingsError, match="is served by another process"), served_folder(tmp_path):
            pass
        other.communicate(b"\n")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SettingsError, match="cannot be written to"),
        served_folder(tmp_path / "file" / "catalog"),
    ):
        pass
