"""The copy of a catalog gives what the catalog holds, whatever happened to either."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from dvfb_stream.catalog import TiledSink, find_frames, find_runs, listing
from dvfb_stream.catalog.cache_folder import cache_folder
from dvfb_stream.catalog.mirror import upkeep
from dvfb_stream.catalog.place import find_place, plain
from dvfb_stream.catalog.store import AnnotationStore

KILLS = int(os.environ.get("DVFB_KILLS", "2"))

SEARCHING = """
import sys
from dvfb_stream.catalog import connect, find_frames
import dvfb_stream.catalog.mirror.mirror as mirror
mirror._RUNS_A_FILE = 1
client = connect(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    print(len(find_frames(client, "rings or not rings")), flush=True)
"""


def store(client, *runs):
    sink = TiledSink(client)
    for documents in runs:
        for name, doc in documents:
            sink(name, doc)
    assert sink.close(120)


@pytest.fixture
def requests(server):
    """Addresses that were asked for since the last call."""
    asked: list[str] = []
    hooks = server.context.http_client.event_hooks
    before = hooks["request"]
    server.context.http_client.event_hooks = {
        **hooks,
        "request": [*before, lambda one: asked.append(str(one.url))],
    }

    def since():
        found = list(asked)
        asked.clear()
        return found

    yield since
    server.context.http_client.event_hooks = {**hooks, "request": before}


@pytest.fixture
def place(client, analysis_documents):
    store(client, *(analysis_documents(0.9, 0.1, raw_uid=f"run {k}") for k in range(5)))
    return find_place(client)


@pytest.fixture(scope="module")
def stored_once(server, analysis_documents):
    container = server.create_container(key="mirrored unchanged")
    store(container, *(analysis_documents(0.9, 0.1, raw_uid=f"run {k}") for k in range(5)))
    return find_place(container)


@pytest.fixture
def unchanged(stored_once, monkeypatch, tmp_path):
    """The same as `place`, for tests that only read it; nothing of it is copied yet."""
    monkeypatch.setenv("DVFB_CACHE", str(tmp_path / "cache"))
    return stored_once


def files(place):
    return cache_folder(place) / "rows"


def rings(place):
    return sorted((one.raw_uid, one.frame) for one in find_frames(place, "rings or not rings and not failed"))


FIVE = [(f"run {k}", frame) for k in range(5) for frame in range(2)]


def test_rows_are_read_once_and_new_runs_in_a_few_requests(place, client, analysis_documents, requests):
    assert rings(place) == FIVE
    assert sum("table/full" in one for one in requests()) == 5
    assert rings(place) == FIVE
    # Two for where the place is, one for new runs, one for notes of changes.
    assert len(requests()) <= 4
    store(client, analysis_documents(0.9, raw_uid="run 5"))
    requests()
    assert rings(place) == [*FIVE, ("run 5", 0)]
    asked = requests()
    assert sum("table/full" in one for one in asked) == 1
    assert len(asked) <= 5


def test_rows_are_read_of_those_runs_alone_that_a_summary_leaves_open(unchanged, requests):
    requests()
    assert len(find_runs(unchanged, "rings and not halo")) == 5
    assert not any("table/full" in one for one in requests())
    assert find_runs(unchanged, "rings >= 0.95 or halo") == []
    assert not any("table/full" in one for one in requests())
    assert len(find_runs(unchanged, "rings >= 0.5 and novelty < 0.9 and frame < 1")) == 5
    assert sum("table/full" in one for one in requests()) == 5


def test_runs_are_found_when_they_are_finished(client, analysis_documents):
    documents = analysis_documents(0.9, raw_uid="slow")
    store(client, documents[:-1])
    assert find_runs(client, "rings") == []
    store(client, documents)
    assert find_runs(client, "rings") == ["slow"]


def test_replaced_rows_take_the_place_of_those_before(client, analysis_documents):
    start, descriptor, *before, stop = (doc for _, doc in analysis_documents(0.1, None, raw_uid="late"))
    _, _, *after, _ = (doc for _, doc in analysis_documents(0.1, 0.9, raw_uid="late"))
    writer = AnnotationStore(client)
    writer.write(start, descriptor, before)
    writer.finish(start, descriptor, stop)
    assert rings(client) == [("late", 0)]
    writer.replace(start, descriptor, [after[1]])
    writer.finish(start, descriptor, stop)
    assert rings(client) == [("late", 0), ("late", 1)]
    assert find_runs(client, "rings") == ["late"]


def test_of_two_models_the_newest_counts_until_the_other_is_made_the_newest(client, analysis_documents):
    old, new = (
        analysis_documents(score, raw_uid="both", model=name) for score, name in ((0.9, "old"), (0.1, "new"))
    )
    store(client, old)
    assert find_runs(client, "rings") == ["both"]
    store(client, new)
    assert find_runs(client, "rings") == []
    assert find_runs(client, "rings", newest=False) == find_runs(client, "rings", model="old") == ["both"]
    AnnotationStore(client).make_newest(old[0][1]["uid"])
    assert find_runs(client, "rings") == ["both"]


def test_deleted_runs_are_gone_whatever_came_after(place, client, analysis_documents, requests):
    assert rings(place) == FIVE
    uids = list(plain(place).keys())
    plain(place).delete_contents([uids[1]], recursive=True, external_only=False)
    store(client, analysis_documents(0.9, raw_uid="run 5"))
    requests()
    assert rings(place) == [one for one in [*FIVE, ("run 5", 0)] if one[0] != "run 1"]
    assert sum("table/full" in one for one in requests()) == 1
    plain(place).delete_contents([uids[0]], recursive=True, external_only=False)
    assert rings(place) == [one for one in [*FIVE, ("run 5", 0)] if one[0] not in ("run 0", "run 1")]


def test_a_stop_that_cannot_be_understood_ends_a_run_that_was_known(client, analysis_documents, caplog):
    documents = analysis_documents(0.9, raw_uid="slow")
    store(client, documents[:-1])
    assert find_runs(client, "rings") == []
    run = plain(find_place(client)).values().first()
    run.update_metadata({"stop": {"uid": "q", "summary": [1]}})
    for _ in range(2):
        assert find_runs(client, "rings") == []
    assert caplog.text.count("cannot be understood") == 1


def test_a_table_that_cannot_be_understood_is_named_once_and_has_no_rows(place, caplog):
    first, *_ = plain(place).values()
    stream = plain(plain(first)["annotations"])
    rows = stream["internal"].read().assign(measured_order=[1.5, 2.0])
    stream.delete_contents(["internal"], recursive=True, external_only=False)
    stream.write_table(rows, key="internal")
    for _ in range(2):
        assert rings(place) == FIVE[2:]
    assert caplog.text.count(f"rows of analysis run {first.item['id']} cannot be understood") == 1
    assert "copy of the catalog is damaged" not in caplog.text


@pytest.mark.parametrize("which", [(4,), (2,), (3, 4), (0, 1, 2, 3, 4), (4, 0)])
def test_runs_that_were_deleted_and_made_again_are_read_again(
    place, client, analysis_documents, requests, which
):
    assert rings(place) == FIVE
    uids = list(plain(place).keys())
    for k in which:
        plain(place).delete_contents([uids[k]], recursive=True, external_only=False)
        store(client, analysis_documents(0.1, 0.1, 0.1, raw_uid=f"run {k}"))
    requests()
    again = {f"run {k}" for k in which}
    assert rings(place) == sorted(
        [one for one in FIVE if one[0] not in again] + [(uid, frame) for uid in again for frame in range(3)]
    )
    assert sum("table/full" in one for one in requests()) == len(which)
    assert set(find_runs(place, "rings")) == {f"run {k}" for k in range(5)} - again
    requests()
    assert set(find_runs(place, "rings")) == {f"run {k}" for k in range(5)} - again
    assert len(requests()) <= 4


def test_runs_made_again_are_found_among_pages_of_others(place, client, analysis_documents, monkeypatch):
    monkeypatch.setattr(listing, "PAGE", 2)
    monkeypatch.setattr(upkeep, "PAGE", 2)
    assert rings(place) == FIVE
    uids = list(plain(place).keys())
    for k in (1, 2, 3, 4):
        plain(place).delete_contents([uids[k]], recursive=True, external_only=False)
        store(client, analysis_documents(0.1, raw_uid=f"run {k}"))
    assert rings(place) == [*FIVE[:2], *((f"run {k}", 0) for k in (1, 2, 3, 4))]


def test_of_a_run_that_has_its_stop_no_more_is_read_than_of_others(client, analysis_documents, requests):
    store(client, analysis_documents(0.9, raw_uid="before"))
    documents = analysis_documents(0.9, raw_uid="slow")
    store(client, documents[:-1])
    assert find_runs(client, "rings") == ["before"]
    store(client, documents)
    requests()
    assert set(find_runs(client, "rings")) == {"before", "slow"}
    assert not any("fields=&" in one for one in requests())


@pytest.mark.parametrize("at_first", [0, 1])
def test_fewer_rows_than_the_summary_counts_are_not_kept(place, requests, at_first):
    first, *_ = plain(place).values()
    stream = plain(plain(first)["annotations"])
    rows = stream["internal"].read()
    stream.delete_contents(["internal"], recursive=True, external_only=False)
    if at_first:
        stream.write_table(rows.iloc[:at_first], key="internal")
    for _ in range(2):
        assert rings(place) == [*FIVE[:at_first], *FIVE[2:]]
    if at_first:
        stream.delete_contents(["internal"], recursive=True, external_only=False)
    stream.write_table(rows, key="internal")
    requests()
    for _ in range(2):
        assert rings(place) == FIVE
    assert sum("table/full" in one for one in requests()) == 1
    assert [one.scores["rings"] for one in find_frames(place, "rings") if one.raw_uid == "run 0"] == [0.9]


def _cut_short(folder):
    for file in folder.glob("rows-*.parquet"):
        file.write_bytes(file.read_bytes()[:-100])


def _overwritten(folder):
    for file in folder.glob("rows-*.parquet"):
        data = bytearray(file.read_bytes())
        data[4:400] = bytes(396)
        file.write_bytes(bytes(data))


def _gone(folder):
    for file in folder.glob("runs-*.parquet"):
        file.unlink()


def _no_list(folder):
    (folder / "mirror.json").write_text('{"version": 1, "listed"')


def _other_version(folder):
    stated = json.loads((folder / "mirror.json").read_text())
    (folder / "mirror.json").write_text(json.dumps(stated | {"version": 99, "further": "unknown"}))


def _other_catalog(folder):
    stated = json.loads((folder / "mirror.json").read_text())
    (folder / "mirror.json").write_text(json.dumps(stated | {"last": "a run that is not there"}))


@pytest.mark.parametrize(
    "damage", [_cut_short, _overwritten, _gone, _no_list, _other_version, _other_catalog]
)
def test_a_damaged_copy_is_made_anew(unchanged, damage):
    assert rings(unchanged) == FIVE
    damage(files(unchanged))
    assert rings(unchanged) == FIVE


def test_where_nothing_can_be_kept_everything_is_read_each_time(unchanged, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DVFB_CACHE", str(tmp_path / "file"))
    assert rings(unchanged) == FIVE
    assert "no copy of the catalog can be kept" in caplog.text


def test_a_few_files_hold_many_runs(place, client, analysis_documents):
    for k in range(5, 12):
        store(client, analysis_documents(0.9, raw_uid=f"run {k}"))
        rings(place)
    assert len(rings(place)) == 10 + 7
    assert len(list(files(place).glob("*.parquet"))) <= 6


def test_killed_while_it_is_written_and_written_by_two_at_a_time_it_gives_all(unchanged, tmp_path):
    """Processes search while others do, and are killed at random; after each kill a copy is there, or made."""
    environment = {**os.environ, "TILED_API_KEY": unchanged.context.api_key, "DVFB_CACHE": str(tmp_path)}

    def searching():
        return subprocess.Popen(
            [sys.executable, "-c", SEARCHING, unchanged.uri], env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip

    moments = random.Random(0)
    processes = [searching() for _ in range(KILLS + 2)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
            process.stdin.write("search\n")
            process.stdin.flush()
        for process in processes[:KILLS]:
            time.sleep(moments.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
        for process in processes[KILLS:]:
            assert process.stdout.readline() == "10\n"
    finally:
        for process in processes:
            process.kill()
            process.communicate()
