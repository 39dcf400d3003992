from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from dvfb_stream.catalog.spool import Spool
from dvfb_stream.catalog.spool.encoding import encode
from dvfb_stream.catalog.spool.folder import folder_for, is_in_use, left_files, new_file, spools_folder
from dvfb_stream.catalog.spool.spool_file import RESERVE_SUFFIX, SpoolFile, SpoolFileError
from dvfb_stream.errors import SettingsError

from .conftest import PATIENCE, QUICK, documents, event, unavailable, until


@pytest.fixture
def file(tmp_path):
    file = SpoolFile(tmp_path / "a.sqlite", address="http://there")
    yield file
    file.close()


def fill(file, uid, frames):
    number = file.add_run(uid, encode({"uid": uid}))
    for frame in frames:
        file.add_row(number, frame, encode(event(uid, frame)))
    return number


def fill_up(file):
    number = file.add_run("a", b"")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        any(not file.add_row(number, frame, b"x" * 1000) for frame in range(10_000))


def frames(events):
    return [doc["data"]["frame"] for doc in events]


def test_rows_come_in_the_order_of_frames_whatever_order_they_came_in(file):
    number = fill(file, "a", [3, 1, 2, 0])
    assert frames(file.first_rows(number, 3)) == [0, 1, 2]
    file.remove_rows(number, [0, 2])
    assert frames(file.first_rows(number, 9)) == [1, 3]
    assert frames(file.first_rows(number, 9, after=1)) == [3]


def test_the_row_of_a_frame_waits_once(file):
    number = fill(file, "a", [0])
    assert not file.add_row(number, 0, encode(event("a", 0)))
    assert len(file.first_rows(number, 9)) == 1


def test_another_process_that_reads_sees_what_was_added_and_one_that_writes_is_noticed(file):
    number = fill(file, "a", range(5))
    assert not file.changed_by_another()
    other = SpoolFile(file.path)
    (run,) = other.runs()
    assert (run.uid, run.rows, run.stopped, run.reason) == ("a", 5, False, None)
    assert other.address == "http://there"
    assert not file.changed_by_another()
    other.quarantine(number, "because")
    assert file.changed_by_another()
    assert not file.changed_by_another()
    other.close()


def test_room_that_is_no_longer_needed_is_given_back(file):
    number = file.add_run("a", b"")
    for frame in range(2000):
        file.add_row(number, frame, b"x" * 4000)
    file.remove_run(number)
    before = file.path.stat().st_size
    file.shrink()
    file.sync()
    assert file.n_bytes() < 1 << 16
    with SpoolFile(file.path)._connection as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert file.path.stat().st_size < before / 100


def test_a_file_of_a_later_version_is_left_alone(tmp_path):
    path = tmp_path / "a.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SpoolFileError, match="99"):
        SpoolFile(path)


def test_a_file_that_its_process_makes_just_now_is_not_made_by_who_looks(tmp_path):
    path = tmp_path / "a.sqlite"
    path.touch()
    with pytest.raises(SpoolFileError):
        SpoolFile(path, address=None)
    assert path.stat().st_size == 0


def test_a_damaged_file_is_set_aside_and_the_others_are_taken_over(tmp_path, caplog):
    (tmp_path / "a.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    owned = new_file(tmp_path, max_bytes=1 << 20, address="")
    fill(owned.file, "b", range(3))
    owned.close(remove=False)
    (left,) = left_files(tmp_path)
    assert left.file.runs()[0].rows == 3
    left.close(remove=True)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".unreadable"] == ["a.unreadable"]
    assert "nothing of it is delivered" in caplog.text


def test_a_file_has_one_owner_until_that_lets_go(tmp_path):
    owned = new_file(tmp_path, max_bytes=1 << 20, address="")
    assert is_in_use(owned.file.path)
    assert not list(left_files(tmp_path))
    owned.close(remove=False)
    assert not is_in_use(owned.file.path)
    (left,) = left_files(tmp_path)
    left.close(remove=True)
    assert not list(tmp_path.glob("*.sqlite*"))


def test_the_system_frees_the_file_of_a_process_that_ended_without_a_word(tmp_path):
    script = (
        "import os, pathlib, sys\n"
        "from dvfb_stream.catalog.spool.folder import new_file\n"
        "owned = new_file(pathlib.Path(sys.argv[1]), max_bytes=1 << 20, address='')\n"
        "number = owned.file.add_run('a', b'\\x80')\n"
        "os._exit(1)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    (left,) = left_files(tmp_path)
    assert [run.uid for run in left.file.runs()] == ["a"]
    left.close(remove=True)


def test_files_of_one_folder_share_its_bytes(tmp_path):
    first = new_file(tmp_path, max_bytes=1 << 20, address="")
    fill_up(first.file)
    first.file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    second = new_file(tmp_path, max_bytes=1 << 20, address="")
    fill_up(second.file)
    assert 10 < second.file.runs()[0].rows < first.file.runs()[0].rows / 8
    for owned in (first, second):
        owned.close(remove=True)


def test_the_folder_is_this_users_alone(tmp_path):
    owned = new_file(tmp_path / "spool", max_bytes=1 << 20, address="")
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    owned.close(remove=True)


def test_each_catalog_has_a_folder_and_no_key_is_in_its_name(monkeypatch, tmp_path):
    monkeypatch.setenv("DVFB_SPOOL", str(tmp_path))
    assert spools_folder() == tmp_path
    address = "http://localhost:8000/api/v1/metadata/raw"
    assert folder_for(address) == folder_for(f"{address}/?api_key=secret")
    assert folder_for(address) == folder_for("http://localhost:8000/api/v1/metadata//raw")
    assert folder_for(address) != folder_for(f"{address}2")
    assert folder_for(address).name.startswith("localhost-8000-raw-")
    monkeypatch.delenv("DVFB_SPOOL")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert spools_folder() == tmp_path / "state" / "dvfb_stream" / "spool"


def test_a_disk_that_is_full_loses_rows_and_nothing_else(tmp_path):
    """The system refuses to let any file of the process grow: to SQLite, and to us, a full disk."""
    script = (
        "import resource, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from catalog.spool.conftest import QUICK, RememberingStore, documents, unavailable, until\n"
        "from dvfb_stream.catalog.spool import Spool\n"
        "store = RememberingStore()\n"
        "store.fault = lambda kind, uid: unavailable()\n"
        "spool = Spool(store, Path(sys.argv[1]), pace=QUICK)\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))\n"
        "for name, doc in documents('a', 500, size=2000): spool(name, doc)\n"
        "stats = spool.stats()\n"
        "assert 0 < stats.lost_rows < 500, stats\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "store.fault = lambda kind, uid: None\n"
        "assert not spool.wait(20)\n"
        "assert len(store.rows['a']) == 500 - stats.lost_rows, (len(store.rows['a']), stats)\n"
        "assert 'a' not in store.stops\n"
        "for name, doc in documents('b', 50): spool(name, doc)\n"
        "until(lambda: 'b' in store.stops)\n"
        "print('done')\n"
    )
    tests = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), tests], capture_output=True, text=True, check=False
    )
    assert ended.stdout == "done\n", ended.stderr
    assert "no room" in ended.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted; it takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_what_is_stored_leaves_the_spool_while_the_disk_is_full(small_disk, store):
    store.fault = lambda kind, uid: unavailable()
    with Spool(store, small_disk / "spool", pace=QUICK) as spool:
        for name, doc in documents("a", 1000, size=2000)[:-1]:
            spool(name, doc)
        with (small_disk / "others").open("ab", buffering=0) as others, suppress(OSError):
            while others.write(b"x" * 4096):
                pass
        assert spool.stats().lost_rows == 0
        store.fault = lambda kind, uid: None
        assert spool.wait(PATIENCE)
        assert spool.stats().spooled_rows == 0
        assert len(store.rows["a"]) == 1000


def left_by_a_process(folder, uid, frames):
    """A file as one leaves it that is killed."""
    owned = new_file(folder, max_bytes=1 << 24, address="")
    (_, start), (_, descriptor), *events, (_, stop) = documents(uid, frames)
    number = owned.file.add_run(uid, encode(start))
    owned.file.add_descriptor(number, encode(descriptor))
    for _, doc in events:
        owned.file.add_row(number, doc["data"]["frame"], encode(doc))
    owned.file.add_stop(number, encode(stop))
    owned.file.close()
    owned.lock.release()


def test_a_process_keeps_room_once_however_many_files_it_takes_over(tmp_path, store):
    for uid in "abc":
        left_by_a_process(tmp_path, uid, 3)
    store.fault = lambda kind, uid: unavailable()
    with Spool(store, tmp_path, pace=QUICK) as spool:
        until(lambda: spool.stats().inherited_rows == 9)
        assert len(list(tmp_path.glob(f"*{RESERVE_SUFFIX}"))) == 1
        store.fault = lambda kind, uid: None
        until(lambda: spool.stats().inherited_rows == 0)


@pytest.mark.parametrize("kept", [2, 0])
def test_a_process_that_starts_on_a_full_disk_delivers_what_others_left(small_disk, store, kept):
    """It could not even begin: every start ended with an error, and the rows stayed where they were."""
    folder = small_disk / "spool"
    for uid in "ab":
        left_by_a_process(folder, uid, 50)
    reserves = list(folder.glob(f"*{RESERVE_SUFFIX}"))
    assert len(reserves) == 2
    for reserve in reserves[kept:]:
        reserve.unlink()
    with (small_disk / "others").open("ab", buffering=0) as others, suppress(OSError):
        while others.write(b"x" * 4096):
            pass
    if not kept:
        with pytest.raises(SettingsError, match="full"):
            Spool(store, folder)
        (small_disk / "others").unlink()
    with Spool(store, folder, pace=QUICK):
        until(lambda: {uid: len(rows) for uid, rows in store.rows.items()} == {"a": 50, "b": 50})


def test_nothing_of_a_file_stays_when_it_is_removed(tmp_path):
    owned = new_file(tmp_path, max_bytes=1 << 20, address="")
    fill(owned.file, "a", range(3))
    assert Path(f"{owned.file.path}{RESERVE_SUFFIX}").stat().st_size == 8 << 20
    owned.close(remove=True)
    assert not list(tmp_path.iterdir())
