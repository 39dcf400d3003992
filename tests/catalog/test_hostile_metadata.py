"""Whatever a raw start document says, its run is annotated and stored, on SQLite and on PostgreSQL alike."""

import math

import numpy as np
import pytest

from dvfb_stream.callbacks import AnnotationPipeline
from dvfb_stream.catalog import TiledSink, read_annotations
from dvfb_stream.catalog.spool import Pace
from tests.catalog.spool.conftest import until
from tests.catalog.tiled_process import on_postgresql, on_sqlite
from tests.kafka.conftest import DETECTORS, BrightnessAnnotator, RawRun


def nested(depth):
    value = 1
    for _ in range(depth):
        value = {"deeper": [value]}
    return value


HOSTILE = {
    "access tags a text": {"tiled_access_tags": "public"},
    "access tags a number": {"tiled_access_tags": 3},
    "access tags nested": {"tiled_access_tags": [["a"], {"b": 1}, None]},
    "access tags with NUL": {"tiled_access_tags": ["a\0b", "\ud800"]},
    "thousands of access tags": {"tiled_access_tags": [f"tag {n}" for n in range(3000)]},
    "NUL in a text": {"sample_name": "a\0b", "data_session": "\0"},
    "NUL in a key": {"sample_name": {"a\0b": "c\0"}},
    "half of a surrogate pair": {"sample_name": "\ud800", "proposal": {"\udcff": "\udfff"}},
    "control characters": {"sample_name": "\x1b[2J\x07\r\n\x85\u2028"},
    "what is no character": {"sample_name": "\uffff\ufdd0\U0001fffe"},
    "NaN and infinity": {"sample_name": {"x": math.nan, "y": [math.inf, -math.inf]}},
    "NaN in an array": {"sample_name": np.array([np.nan, 1.0])},
    "integers beyond 64 bits": {"scan_id": 2**80, "sample_name": {"n": -(2**70)}},
    "the largest integers": {"scan_id": 2**63 - 1, "sample_name": [-(2**63), 2**64 - 1]},
    "deep": {"sample_name": nested(31)},
    "deeper": {"proposal": nested(120)},
    "a text of megabytes": {"sample_name": "x" * 3_000_000},
    "a key of kilobytes": {"sample_name": {"k" * 50_000: 1}},
    "a list without end": {"sample_name": [1.5] * 200_000},
    "keys without end": {"proposal": {f"k{n}": n for n in range(50_000)}},
    "keys that are no text": {"sample_name": {1: 2, None: 3, (4,): 5}},
    "keys of databases": {"sample_name": {"": 1}, "proposal": {"$where": "1", "a.b": 2, "c/d": 3}},
    "bytes": {"sample_name": b"\xff\0"},
    "numbers of other kinds": {"sample_name": 1 + 2j, "scan_id": np.uint64(2**64 - 1)},
    "an object": {"sample_name": object(), "proposal": {1, 2}},
    "a time that is none": {"time": math.nan},
    "a time in another age": {"time": 1e300},
    "a time before all times": {"time": -1e12},
    "a time in words": {"time": "yesterday"},
    "a scan number in words": {"scan_id": "seven", "data_session": 5, "beamline_id": True},
    "text that looks like JSON": {"sample_name": '{"$ref": "#/"}', "proposal": "'; DROP TABLE nodes; --"},
}


WITH_TABLES_IN_POSTGRESQL = (
    "access tags nested", "NUL in a text", "half of a surrogate pair", "a time in another age", "bytes"
)  # fmt: skip
"""Start documents lie in SQLite there, too: PostgreSQL has the rows, which have little of them."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiled")
    if request.param == "sqlite":
        with on_sqlite(folder) as server:
            yield server, HOSTILE
        return
    with on_postgresql(folder, request.getfixturevalue("postgresql_address")) as server:
        yield server, {name: HOSTILE[name] for name in WITH_TABLES_IN_POSTGRESQL}


def test_every_run_is_stored_whatever_its_start_says(served, tmp_path):
    from tiled.client import from_uri

    server, hostile = served
    client = from_uri(server.uri, api_key=server.key)
    raw = client.create_container(key="raw")
    runs = {name: RawRun([100, 200], **start) for name, start in hostile.items()}
    stored, refused = set(), {}
    pace = Pace(max_age=0.05, first_pause=0.2, longest_pause=1.0)
    with TiledSink(raw, spool=tmp_path, pace=pace) as sink, AnnotationPipeline(
        BrightnessAnnotator(), sinks=[sink], detectors=DETECTORS, max_wait=0.01, on_run_stored=stored.add,
        on_run_refused=lambda run: refused.update({run.raw_uid: [each.reason for each in run.refusals]}),
    ) as pipeline:  # fmt: skip
        for run in runs.values():
            for document in run.documents:
                pipeline(*document)
        until(lambda: len(stored) + len(refused) == len(runs), seconds=240.0)
        assert refused == {}
        assert pipeline.stats().rejected_documents == 0
    for name in ("NUL in a text", "access tags nested", "a time in another age"):
        rows = read_annotations(raw, runs[name].uid)
        assert [round(row["rings"] * 1000) for row in rows] == [100, 200]
    client.context.close()
