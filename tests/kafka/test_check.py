"""`dvfb daemon --check` tries everything, says all that is wrong at once, and leaves nothing behind."""

import json

import pytest
from tiled.client import from_uri

from tests.forked_processes import dvfb
from tests.kafka.conftest import RawRun

CONFIG = """
spool = "spool"

[sinks]
jsonl = "annotations.jsonl"

[detectors.image]
shape = [4, 6]
center_x = 2.5
center_y = 1.5

[files]
allowed_roots = ["{root}"]

[root_map]
"/ioc" = "{root}"
"""


@pytest.fixture
def config(write_config, tmp_path):
    return write_config(CONFIG.format(root=tmp_path))


@pytest.fixture
def check(config, tiled_server, tmp_path_factory):
    """Function that checks; returns the exit status, the findings by part, and what was said."""
    said = tmp_path_factory.mktemp("said")
    stdout, stderr = said / "stdout", said / "stderr"

    def run(**environment):
        settled = {"TILED_API_KEY": tiled_server.api_key} | environment
        words = ("daemon", "--check", "--json", "--config", config)
        status = dvfb(*words, environment=settled, stdout=stdout, stderr=stderr).wait(120)
        return status, [json.loads(line) for line in stdout.read_text().splitlines()], stderr.read_text()

    return run


def tree(tiled_server):
    client = from_uri(tiled_server.uri)
    try:
        top = client.parent
        return {key: sorted(top[key].keys()) for key in top}
    finally:
        client.context.close()


def test_where_all_is_well_it_says_so_and_changes_nothing(check, config, topic, tiled_server):
    topic.send(*RawRun([1]).documents)
    before, files = tree(tiled_server), sorted(config.parent.iterdir())
    status, found, said = check()
    assert (status, said) == (0, ""), found
    assert {each["outcome"] for each in found} == {"ok"}, found
    what = {each["part"]: each["what"] for each in found}
    assert what["kafka.topics"] == f"{topic.name}: 1 partition"
    assert what["kafka.group"] == f"dvfb-{topic.name} is new, and begins with the oldest documents"
    assert "a row was written, read and deleted" in what["sinks.tiled"]
    assert what["spool"].endswith("spool, which will be made")
    assert what["model"].endswith("on cpu")
    assert set(what) == {
        "broker", "kafka.topics", "kafka.group", "detectors", "root_map", "files", "sinks.tiled", "spool",
        "sinks.jsonl", "model",
    }  # fmt: skip
    assert tree(tiled_server) == before
    assert sorted(config.parent.iterdir()) == files
    assert topic.committed(f"dvfb-{topic.name}") is None


def test_several_faults_are_all_told(check, config, topic):
    text = config.read_text().replace(f'["{topic.name}"]', f'["{topic.name}x"]')
    text = text.replace(f'= "{config.parent}"', '= "/nowhere/at/all"').replace('model = "', 'model = "/no')
    config.write_text(text.replace('spool = "spool"', 'spool = "daemon.toml/spool"'))
    status, found, said = check(TILED_API_KEY="wrong")
    assert status == 1
    faults = {each["part"]: each["what"] for each in found if each["outcome"] == "fault"}
    assert set(faults) == {"kafka.topics", "root_map", "sinks.tiled", "spool", "model"}
    assert f"did you mean {topic.name}?" in faults["kafka.topics"]
    assert "is it mounted?" in faults["root_map"]
    assert "401" in faults["sinks.tiled"]
    assert "is no folder" in faults["spool"]
    (line,) = said.splitlines()
    assert line == f"dvfb: error: 5 of {len(found)} findings would keep a daemon from its work"


def test_servers_that_are_away_are_told_beside_the_rest(check, config, topic):
    text = config.read_text().replace(topic.bootstrap_servers[0], "127.0.0.1:1")
    config.write_text(
        text.replace("http://127.0.0.1:", "http://127.0.0.1:1").replace(
            "http://localhost:", "http://localhost:1"
        )
    )
    status, found, _ = check()
    assert status == 1
    faults = {each["part"]: each["what"] for each in found if each["outcome"] == "fault"}
    assert set(faults) == {"broker", "sinks.tiled"}
    assert "nobody listens there" in faults["broker"]
    assert "is sinks.tiled.uri right" in faults["sinks.tiled"]
