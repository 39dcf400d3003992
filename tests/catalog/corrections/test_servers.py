"""The same on Tiled servers of their own, by several people at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tiled.client import from_uri

from dvfb_stream.catalog.corrections import (
    WantedCorrection,
    correct,
    correct_many,
    corrected_labels,
    corrections_of,
    undo,
)
from dvfb_stream.catalog.corrections import documents as documents_module
from dvfb_stream.catalog.store_errors import StoreRefusedError

from ..test_place import take_runs, walk
from ..tiled_process import KEY

FRAMES = 6


@pytest.fixture(scope="module")
def uids(real_raw, annotate) -> list[str]:
    """Two raw runs with annotations."""
    uids = take_runs(real_raw, 7, 8)
    for uid in uids:
        annotate(real_raw, *[0.9] * FRAMES, raw_uid=uid)
    return uids


def test_two_people_at_once_are_both_heard_and_the_raw_runs_are_as_before(real_raw, uids):
    before = walk(real_raw)
    first, _ = uids

    def say(by: str, add: str) -> list[str]:
        client = from_uri(real_raw.uri, api_key=KEY)
        try:
            return [correct(client, first, frame, add=[add], by=by).uid for frame in range(FRAMES)]
        finally:
            client.context.close()

    with ThreadPoolExecutor(2) as pool:
        said = [pool.submit(say, "ann", "four_fold"), pool.submit(say, "bob", "halo")]
        made = [uid for one in said for uid in one.result()]
    found = corrections_of(real_raw, [first])
    assert sorted(one.uid for one in found) == sorted(made)
    assert [one.time for one in found] == sorted(one.time for one in found)
    for frame in range(FRAMES):
        of_frame = [one for one in found if one.origin.index == frame]
        assert corrected_labels(["rings"], of_frame) == ("halo", "rings", "four_fold")
    assert walk(real_raw) == before


def test_many_at_once_are_taken_back_at_once(real_raw, uids, monkeypatch):
    monkeypatch.setattr(documents_module, "FRAMES_OF_A_RUN", 4)
    _, second = uids
    wanted = [WantedCorrection(run=-1, frame=frame, remove=["rings"]) for frame in range(FRAMES)]
    made = correct_many(real_raw, wanted, by="ann")
    assert corrections_of(real_raw, [second]) == sorted(made, key=lambda one: one.uid)
    taken_back = undo(real_raw, made[0].call, by="bob")
    assert {one.undone_by for one in corrections_of(real_raw, [second])} == {taken_back.uid}


def test_who_may_only_read_reads_and_is_told_what_is_missing(real_raw, uids, request):
    if "sqlite" not in request.node.name:
        pytest.skip("everybody may read on the other server")
    first, _ = uids
    correct(real_raw, first, 0, add=["weak"], by="ann")
    reader: Any = from_uri(real_raw.uri)
    try:
        assert corrections_of(reader, [first]) == corrections_of(real_raw, [first])
        with pytest.raises(
            StoreRefusedError, match=r"401.*TILED_API_KEY a key that may read and create in raw_corr"
        ):
            correct(reader, first, 0, add=["rings"], by="ann")
    finally:
        reader.context.close()
