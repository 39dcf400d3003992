"""A file may crash its reader, hang, grow, or lead elsewhere: it costs its own frames, and tells nobody anything."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from pathlib import Path

import numpy as np
import poison
import pytest

from dvfb_stream.errors import FrameError, NotThereYetError, SettingsError
from dvfb_stream.files.references import Hdf5Frame, ImageFrame
from dvfb_stream.isolation.files_process import ATTEMPTS, FilesProcess
from dvfb_stream.isolation.limits import ProcessLimits
from dvfb_stream.isolation.lost_time import FILES_OF_A_RUN, SHORT, LostTime

MEMORY = 300 << 20
TIMEOUT = 1.0
"""For what never ends."""
LONG = 60.0
"""For all else, on a busy machine."""


def has_landlock():
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), 1) > 0


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def open_files(*roots, **settings):
    given = {"answer_within": LONG, "limits": ProcessLimits(memory=MEMORY), "handlers": poison.HANDLERS}
    return FilesProcess(allowed_roots=list(map(str, roots)), **given | settings)


@pytest.fixture
def files(folder, request):
    files = open_files(folder, answer_within=getattr(request, "param", LONG))
    yield files
    files.close()


def told(files, frame, run="run"):
    """Return why a frame is not read, when that is final: what is not yet there is asked for again."""
    for _ in range(9):
        try:
            files.read(frame, run)
        except NotThereYetError:
            continue
        except FrameError as error:
            return str(error)
        raise AssertionError(f"{frame} was read")
    raise AssertionError(f"{frame} may come for ever")


CULPRITS = {
    poison.crashing_hdf5: "crashing.h5.*signal SIGSEGV",
    poison.crashing_handler: "handled.*signal SIGSEGV",
    poison.leaving_handler: "handled.*exit status 7",
    poison.endless_handler: "handled.*did not answer within 1 s",
    poison.growing_handler: r"handled.*more memory than the 300 MB that it may \(max_memory of \[files\]\)",
    poison.gzip_bomb: "bomb.npy.gz.*more memory than the 300 MB",
    poison.bzip2_bomb: "bomb.edf.bz2.*more memory than the 300 MB",
    poison.hdf5_bomb: "bomb.h5.*more memory than the 300 MB",
}


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize(
    ("make", "files"),
    [(make, TIMEOUT if make is poison.endless_handler else LONG) for make in CULPRITS],
    ids=[make.__name__ for make in CULPRITS],
    indirect=["files"],
)
def test_a_culprit_costs_its_frames_and_what_lies_behind_it_is_read(folder, files, make):
    culprits = make(folder)
    before, *behind = poison.good(folder)
    np.testing.assert_array_equal(files.read(before, "good"), poison.pixels(0))
    for culprit in culprits:
        assert re.search(CULPRITS[make], told(files, culprit))
    for number, frame in enumerate(behind, 1):
        np.testing.assert_array_equal(files.read(frame, "good"), poison.pixels(number))


@pytest.mark.parametrize("files", [TIMEOUT], indirect=True)
def test_a_file_that_hangs_costs_its_run_two_timeouts_whatever_it_has_of_frames(folder, files):
    hanging = poison.handled(f"{folder}/handled", do="hang")
    assert "did not answer" in told(files, hanging)
    pid = files.pid
    for number in range(1000):
        found = told(files, poison.handled(f"{folder}/handled", do="hang", number=number))
        assert re.search(r"not read any more for this run, after \d+ s that gave nothing", found)
    assert files.pid == pid
    with pytest.raises(NotThereYetError, match="did not answer"):  # of another run it is tried
        files.read(hanging, "another run")


@pytest.mark.parametrize("files", [0.2], indirect=True)
def test_a_run_of_many_files_that_hang_is_given_up(folder, files):
    for number in range(100):
        with pytest.raises(FrameError):
            files.read(poison.handled(f"{folder}/{number}", do="hang"), "run")
    with pytest.raises(FrameError, match="files are not read any more for this run"):
        files.read(poison.handled(f"{folder}/another", do="hang"), "run")
    assert files.pid is None
    assert len(list(folder.iterdir())) <= 1 + ATTEMPTS * 2 * FILES_OF_A_RUN  # reads that were begun


def test_a_process_that_has_read_others_reads_a_frame_that_ends_it_twice(folder, files, tmp_path):
    """What the frame before has broken must not cost the next one."""
    (good, *_), (crash, *_) = poison.good(folder), poison.crashing_handler(folder)
    files.read(good, "run")
    first = files.pid
    assert "SIGSEGV" in told(files, crash)
    assert files.pid is None
    files.read(good, "run")
    assert files.pid not in (None, first)


def test_what_is_written_into_a_limit_of_descriptors_is_said(folder, files):
    (many, *_) = poison.opening_handler(folder)
    with pytest.raises(NotThereYetError, match="Too many open files"):
        files.read(many, "run")


@pytest.mark.parametrize(
    "template", ["%0200000000d", "{:0200000000d}", "a_%5.200000000d", "%0999999999999999999999d"]
)
def test_no_field_of_a_template_is_filled_up_to_more_than_a_path(folder, files, template):
    frame = poison.handled(str(folder), do="open", template=template)
    assert "template has a field wider than 4096 characters" in told(files, frame)


# -- where files may lie -----------------------------------------------------------------------------------

WAYS = [
    poison.absolute,
    poison.dots,
    poison.symbolic_link,
    poison.linked_folder,
    poison.external_link,
    poison.soft_link,
    poison.virtual_dataset,
    poison.external_storage,
    poison.handlers_path,
    poison.handlers_template,
    poison.handlers_hdf5,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_way_leads_out_of_the_roots_or_tells_what_is_there(folder, files, way):
    outside = poison.secrets(folder)
    targets = {
        "frames": f"{outside}/good.h5",
        "an array": f"{outside}/a.npy",
        "a folder": str(outside),
        "nothing": f"{outside}/nothing",
        "nothing below": f"{outside}/nothing/a.h5",
        "shadow": "/etc/shadow",
        "environment": "/proc/self/environ",
        "memory": "/proc/self/mem",
        "device": "/dev/zero",
        "pipe": f"{outside}/pipe",
    }
    os.mkfifo(targets["pipe"])
    said = {}
    for what, target in targets.items():
        for entry in folder.iterdir():
            entry.unlink()
        for number, frame in enumerate(way(folder, target)):
            found = told(files, frame)
            assert "allowed_roots in [files] of the configuration names" in found
            ways_there = (os.path.relpath(target, folder), f"linked/{os.path.basename(target)}")
            for named in (*(f"{folder}/{way_there}" for way_there in ways_there), target):
                found = found.replace(named, "TARGET")
            said.setdefault(number, {})[what] = found
    for of_frame in said.values():
        assert len(set(of_frame.values())) == 1, of_frame


def test_links_within_the_roots_and_roots_that_are_links_are_followed(folder, tmp_path):
    (tmp_path / "data-of-today").symlink_to(folder)
    (good, *_) = poison.good(folder)
    files = open_files(tmp_path / "data-of-today")
    ways = [poison.external_link, poison.soft_link, poison.virtual_dataset, poison.symbolic_link]
    # First: a handler opens it in another way.
    frames = [*poison.handlers_hdf5(folder, f"{folder}/good.h5"), good]
    frames += [way(folder, "good.h5")[0] for way in ways]
    frames.append(Hdf5Frame(f"{tmp_path}/data-of-today/good.h5", "d", 0, poison.EXPECTED))
    try:
        for frame in frames:
            np.testing.assert_array_equal(files.read(frame, "run"), poison.pixels(0))
    finally:
        files.close()


@pytest.mark.skipif(not has_landlock(), reason="Linux has no Landlock, or it is not switched on")
def test_what_a_library_opens_by_itself_the_system_refuses(folder, files):
    outside = poison.secrets(folder)
    poison.good(folder)
    for place, is_read in {
        f"{folder}/good.h5": True,
        f"{outside}/good.h5": False,
        "/etc/passwd": False,
        "/proc/self/environ": False,
        os.__file__: True,
    }.items():
        frame = poison.handled(f"{folder}/handled", do="open in C", file=place)
        assert bool(files.read(frame, "run").all()) == is_read, place


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_lies_in_a_root_and_is_no_regular_file_is_not_opened(folder, files, kind):
    path = folder / "x"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        try:
            os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root makes devices")
    frames = [Hdf5Frame(str(path), "d", 0, poison.EXPECTED), ImageFrame(str(path), 0, poison.EXPECTED)]
    frames += [poison.handled(str(folder), do="open", template=f"{path}%.0s")] if kind != "folder" else []
    for frame in frames:
        assert re.search("is a (named pipe|device|directory), no file of frames", told(files, frame))


def test_without_a_root_no_file_is_opened_and_no_process_started(folder):
    (good, *_) = poison.good(folder)
    files = open_files()
    assert 'add allowed_roots in [files] of the configuration, for example allowed_roots = ["/data"]' in told(
        files, good
    )
    assert files.pid is None
    files.close()


def test_a_root_that_is_mounted_later_is_read(folder, tmp_path):
    """A process that was started before could not see it."""
    (good, *_) = poison.good(folder)
    late = tmp_path / "late"
    files = open_files(folder, late)
    frame = Hdf5Frame(f"{late}/good.h5", "d", 0, poison.EXPECTED)
    try:
        files.read(good, "run")
        with pytest.raises(NotThereYetError):
            files.read(frame, "run")
        late.mkdir()
        poison.good(late)
        np.testing.assert_array_equal(files.read(frame, "run"), poison.pixels(0))
    finally:
        files.close()


# -- the parts ---------------------------------------------------------------------------------------------


def test_time_is_lost_by_file_and_by_run():
    lost = LostTime(10.0)
    lost.lose("run", "a", 9.0, "it hangs")
    assert lost.refusal("run", "a") == ""
    lost.lose("run", "a", 1.0, "it hangs")
    assert "after 10 s that gave nothing: it hangs" in lost.refusal("run", "a")
    assert lost.refusal("run", "b") == lost.refusal("other", "a") == ""
    for number in range(1, FILES_OF_A_RUN):
        assert lost.seconds_for("run") is None
        lost.lose("run", f"b{number}", 10.0, "it hangs")
    assert (lost.seconds_for("run"), lost.seconds_for("other")) == (SHORT, None)
    for number in range(FILES_OF_A_RUN):
        assert lost.refusal("run", "never failed") == ""
        lost.lose("run", f"c{number}", 10.0, "it hangs")
    assert "files are not read any more for this run, after 60 s" in lost.refusal("run", "never failed")
    lost.forget("run")
    assert lost.refusal("run", "a") == lost.refusal("run", "never failed") == ""
    assert lost.seconds_for("run") is None


def test_limits_are_those_of_the_process(folder, files):
    (good, *_) = poison.good(folder)
    files.read(good, "run")
    soft, hard = resource.prlimit(files.pid, resource.RLIMIT_DATA)
    assert soft == hard == MEMORY
    assert resource.prlimit(files.pid, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(files.pid, resource.RLIMIT_NOFILE)[0] == 512
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] != MEMORY


def test_libraries_of_a_process_with_limits_have_one_thread_each_however_many_cores_there_are(
    folder, monkeypatch
):
    """The stack of each is memory."""
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "64")
    files = open_files(folder)
    try:
        files.read(poison.good(folder)[0], "run")
        variables = Path(f"/proc/{files.pid}/environ").read_bytes().split(b"\0")
        assert {b"OMP_NUM_THREADS=1", b"OPENBLAS_NUM_THREADS=1"} <= set(variables)
    finally:
        files.close()


def test_a_handler_that_cannot_be_imported_is_refused_at_once():
    with pytest.raises(SettingsError, match="cannot be imported"):
        open_files(handlers={"X": "poison:Nobody"})
