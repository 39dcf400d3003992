"""Several writers of one run, and writers that are killed: an ordinary client reads each frame once, in order.

The runs have arrays, which those writers share, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiled.client import from_uri

from dvfb_stream.catalog.arrays import read_array
from dvfb_stream.catalog.newest import superseded_by
from dvfb_stream.catalog.place import CATALOG_SPECS, find_place

from . import writing_process
from .test_arrays import expected, with_arrays
from .test_store import Run
from .tiled_process import KEY, on_postgresql, on_sqlite

FRAMES, BATCH = 24, 8
KILLS = int(os.environ.get("DVFB_KILLS", "5"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def raw(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Client of a container of raw runs, on a server of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        if request.param == "postgresql":
            address = request.getfixturevalue("postgresql_address")
            server = stack.enter_context(on_postgresql(folder, address))
        else:
            server = stack.enter_context(on_sqlite(folder))
        client = from_uri(server.uri, api_key=KEY)
        stack.callback(client.context.close)
        yield client.create_container("raw", specs=list(CATALOG_SPECS))


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, writing_process.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TILED_API_KEY": KEY},
        start_new_session=True,
    ) as process:
        yield process
        _end(process)


def _end(nursery: subprocess.Popen[str]) -> None:
    """End it with the writers that it has forked, which never give up by themselves."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(nursery.pid, signal.SIGKILL)


@pytest.fixture
def write(nursery, raw, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Have documents written by processes of their own; returns how each ended."""

    def order(documents: list[Any], **how: Any) -> list[dict[str, Any]]:
        path = tmp_path / "documents.json"
        path.write_text(json.dumps(documents, default=np.ndarray.tolist))
        uri = raw.uri.removesuffix("/raw")
        nursery.stdin.write(json.dumps({"uri": uri, "documents": str(path), "batch": BATCH, **how}) + "\n")
        nursery.stdin.flush()
        try:
            return json.loads(nursery.stdout.readline())
        except BaseException:  # the time of the test is over
            _end(nursery)
            raise

    return order


@pytest.fixture
def documents_of(analysis_documents) -> Callable[..., list[Any]]:
    """Compose an analysis run with an array of each frame."""

    def compose(raw_uid: str) -> list[Any]:
        documents = analysis_documents(*[0.9] * FRAMES, raw_uid=raw_uid)
        with_arrays(Run(documents), "features")
        return documents

    return compose


def frames(raw: Any, uid: str) -> list[int]:
    run = find_place(raw)[uid]
    assert run.metadata["stop"]["summary"]["frames"] == FRAMES
    array = read_array(raw, uid, "features")[1]
    np.testing.assert_array_equal(array, expected("features", *range(FRAMES)))
    return run["annotations"]["frame"].read().tolist()


@pytest.mark.parametrize("processes", [2, 3])
def test_writers_of_one_run_at_once_store_each_frame_once(raw, write, documents_of, processes):
    documents = documents_of(f"{processes} at once")
    answers = write(documents, processes=processes, shuffle=True)
    assert [answer["ended"] for answer in answers] == [0] * processes, answers
    assert frames(raw, documents[0][1]["uid"]) == list(range(FRAMES))
    leases = find_place(raw).parent["raw_annotations_leases"]
    assert len(leases) == 0, "leases are left behind"


def test_a_writer_killed_at_any_request_loses_no_row_and_repeats_none(raw, write, documents_of):
    documents = documents_of("whole")
    (answer,) = write(documents)
    assert answer["ended"] == 0, answer
    points = [(number, kill) for number in range(1, int(answer["said"]) + 1) for kill in ("before", "after")]
    for number, kill in random.Random(0).sample(points, KILLS):
        documents = documents_of(f"killed {kill} request {number}")
        (killed,) = write(documents, kill_at=number, kill=kill)
        assert killed["ended"] == -signal.SIGKILL, killed
        (again,) = write(documents)
        assert again["ended"] == 0, again
        assert frames(raw, documents[0][1]["uid"]) == list(range(FRAMES)), (number, kill)


def test_a_writer_killed_before_it_marks_what_it_supersedes_leaves_that_to_the_next(
    raw, write, analysis_documents
):
    def documents(raw_uid: str, model: str) -> list[Any]:
        return analysis_documents(0.9, 0.9, raw_uid=raw_uid, model=model)

    write(documents("marked", "older"))
    (answer,) = write(documents("marked", "newer"))
    last = int(answer["said"])
    for number in range(last - 2, last + 1):  # a look, the mark, another look
        raw_uid = f"killed before request {number} of {last}"
        older, newer = documents(raw_uid, "older"), documents(raw_uid, "newer")
        write(older)
        (killed,) = write(newer, kill_at=number, kill="before")
        assert killed["ended"] == -signal.SIGKILL, killed
        place, (older_uid, newer_uid) = find_place(raw), (each[0][1]["uid"] for each in (older, newer))
        assert place[newer_uid].metadata["stop"], "its last requests are about the marks"
        write(newer)
        assert superseded_by(place[older_uid]) == newer_uid
        assert superseded_by(place[newer_uid]) is None
