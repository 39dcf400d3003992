"""Arrays of frames lie beside the rows, element k frame k's, as any client reads them."""

from __future__ import annotations

from itertools import count, product
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from dvfb_stream.catalog import read_annotations
from dvfb_stream.catalog.arrays import read_array
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError
from dvfb_stream.catalog.stored_runs import Stored
from dvfb_stream.errors import SettingsError

from .test_store import Cut, Run

SCORES = (0.1, 0.9, None, 0.8, 0.7, 0.2)
FRAMES = list(range(len(SCORES)))
SHAPES = {"coefficients": (40, 11, 2), "features": (64,)}


def array_of(name: str, frame: int, version: int = 0) -> NDArray[np.float32]:
    if SCORES[frame % len(SCORES)] is None and not version:
        return np.full(SHAPES[name], np.nan, np.float32)
    return np.random.default_rng((frame, version)).normal(size=SHAPES[name]).astype("<f4")


def expected(name: str, *frames: int, version: int = 0) -> NDArray[np.float32]:
    return np.stack([array_of(name, frame, version) for frame in frames])


def with_arrays(run: Run, *names: str, version: int = 0) -> Run:
    """Give the documents of a run arrays, as `AnalysisRun` does."""
    for name in names:
        run.descriptor["data_keys"][name] = {
            "source": "dvfb_stream", "dtype": "array", "shape": list(SHAPES[name]), "dtype_numpy": "<f4",
        }  # fmt: skip
        for event in run.events:
            event["data"][name] = array_of(name, event["data"]["frame"], version)
            event["timestamps"][name] = event["time"]
    return run


@pytest.fixture
def run(analysis_documents) -> Run:
    return with_arrays(Run(analysis_documents(*SCORES)), *SHAPES)


@pytest.fixture
def store(client) -> AnnotationStore:
    return AnnotationStore(client)


def test_an_ordinary_client_reads_the_array_of_frame_k_as_element_k(store, run, client):
    run.write(store, 0, 1, 2)
    run.write(store, *FRAMES)
    run.finish(store)
    stored = run.stored(client)
    for name in SHAPES:
        read = stored["arrays"][name].read()
        assert read.dtype == np.dtype("<f4")
        assert_array_equal(read[FRAMES], expected(name, *FRAMES))
        assert np.isnan(read[len(FRAMES) :]).all(), "behind the last frame"
    dataset = stored["arrays"].read()
    assert dataset["coefficients"].dims[0] == dataset["features"].dims[0] == "frame"
    assert_array_equal(dataset["features"][4], array_of("features", 4))
    assert set(stored) == {"annotations", "arrays"}


def test_rows_and_their_descriptor_are_what_they_are_without_arrays(store, run, client, analysis_documents):
    plain_run = Run(analysis_documents(*SCORES, raw_uid="raw-2"))
    for one in (run, plain_run):
        one.write(store, *FRAMES)
        one.finish(store)
    ours, plain_one = (one.stored(client)["annotations"] for one in (run, plain_run))
    assert list(ours) == list(plain_one)
    assert ours.metadata["data_keys"] == plain_one.metadata["data_keys"]
    assert ours.base["internal"].structure() == plain_one.base["internal"].structure()
    assert set(plain_run.stored(client)) == {"annotations"}
    rows, others = read_annotations(client, "raw-1"), read_annotations(client, "raw-2")
    assert [row["rings"] for row in rows] == pytest.approx([row["rings"] for row in others], nan_ok=True)


@pytest.mark.parametrize("where", ["raw", "place", "both"])
def test_arrays_are_read_by_frame(store, run, client, where):
    run.write(store, *FRAMES)
    place = find_place(client)
    asked = {"raw": client, "place": place, "both": place.parent}[where]
    if where == "both":
        asked = client.create_container("inner")
        store = AnnotationStore(asked.create_container("raw"))
        run.write(store, *FRAMES)
    frames, array = read_array(asked, run.uid, "features")
    assert frames.tolist() == FRAMES
    assert_array_equal(array, expected("features", *FRAMES))
    frames, array = read_array(asked, run.uid, "coefficients", [4, 0, 4, 700])
    assert frames.tolist() == [4, 0, 4, 700]
    assert_array_equal(array[:3], expected("coefficients", 4, 0, 4))
    assert np.isnan(array[3]).all()
    assert read_array(asked, run.uid, "features", [])[1].shape == (0, 64)


def test_frames_that_came_out_of_order_leave_nan_where_nothing_came_yet(client, analysis_documents):
    run = with_arrays(Run(analysis_documents(*SCORES * 50)), "features")
    store = AnnotationStore(client)
    run.write(store, 70, 69, 290)
    element = run.stored(client)["arrays"]["features"].read()
    assert np.isnan(element[71:290]).all()
    assert np.isnan(element[:69]).all()
    run.write(store, 0, 3, 150, 151)
    frames, array = read_array(client, run.uid, "features")
    assert frames.tolist() == [0, 3, 69, 70, 150, 151, 290]
    assert_array_equal(array, expected("features", *frames))
    assert_array_equal(
        read_array(client, run.uid, "features", [290, 2, 0])[1][[0, 2]], expected("features", 290, 0)
    )
    assert len(run.stored(client)["arrays"]["features"]) == 320, "whole chunks"
    run.write(store, *range(60, 299, 7), *range(1, 64, 2))
    frames, array = read_array(client, run.uid, "features")
    assert len(frames) > 70
    assert_array_equal(array, expected("features", *frames))
    element = run.stored(client)["arrays"]["features"].read()
    assert_array_equal(element[frames], array)
    assert np.isnan(np.delete(element, frames, axis=0)).all()


def test_runs_with_arrays_are_found_by_one_query(store, run, client, analysis_documents):
    from tiled.queries import KeyPresent

    run.write(store, 0)
    Run(analysis_documents(0.5, raw_uid="raw-2")).write(store, 0)
    assert list(find_place(client).search(KeyPresent("start.analysis.arrays.features"))) == [run.uid]
    assert run.stored(client).metadata["start"]["analysis"]["arrays"] == {
        name: list(shape) for name, shape in SHAPES.items()
    }


def test_rows_that_are_there_stay_without_arrays_and_later_ones_have_them(client, analysis_documents):
    before = Run(analysis_documents(*SCORES))
    before.write(AnnotationStore(client), 0, 1)
    later = with_arrays(Run(analysis_documents(*SCORES)), "features")
    later.write(AnnotationStore(client), *FRAMES)
    later.finish(AnnotationStore(client))
    array = read_array(client, later.uid, "features")[1]
    assert np.isnan(array[:2]).all()
    assert_array_equal(array[2:], expected("features", *FRAMES[2:]))


def test_further_rows_of_a_writer_that_has_no_arrays_have_none(client, analysis_documents):
    with_arrays(Run(analysis_documents(*SCORES)), "features").write(AnnotationStore(client), 0, 1)
    later = Run(analysis_documents(*SCORES))
    later.write(AnnotationStore(client), *FRAMES)
    later.finish(AnnotationStore(client))
    array = read_array(client, later.uid, "features")[1]
    assert_array_equal(array[:2], expected("features", 0, 1))
    assert np.isnan(array[2:]).all()


def test_better_rows_bring_their_arrays(client, store, analysis_documents):
    run = with_arrays(Run(analysis_documents(*SCORES)), *SHAPES)
    run.write(store, *FRAMES)
    run.finish(store)
    better = with_arrays(Run(analysis_documents(*[0.9] * 6)), *SHAPES, version=1)
    store.replace(better.start, better.descriptor, [better.events[2], better.events[5]])
    run.finish(store)
    for name in SHAPES:
        array = read_array(client, run.uid, name)[1]
        assert_array_equal(array[[2, 5]], expected(name, 2, 5, version=1))
        assert_array_equal(array[[0, 1, 3, 4]], expected(name, 0, 1, 3, 4))


def test_a_run_that_was_stored_without_arrays_gets_them_with_better_rows(client, store, analysis_documents):
    run = Run(analysis_documents(*SCORES))
    run.write(store, *FRAMES)
    run.finish(store)
    better = with_arrays(Run(analysis_documents(*SCORES)), "features", version=1)
    store.replace(better.start, better.descriptor, better.events)
    assert run.finish(store)["summary"]["reannotated"] == 6
    assert_array_equal(read_array(client, run.uid, "features")[1], expected("features", *FRAMES, version=1))
    assert run.stored(client).metadata["start"]["analysis"]["arrays"] == {"features": [64]}


class ArraysCut(Cut):
    """Counts requests about arrays, and the append that follows them."""

    def __call__(self, request: httpx.Request, **how: Any) -> httpx.Response:
        url = str(request.url)
        if "/arrays" in url or "/table/partition/" in url:
            return super().__call__(request, **how)
        return self._send(request, **how)


@pytest.mark.parametrize("answered", [False, True])
def test_whatever_request_or_answer_is_lost_each_row_that_is_there_has_its_arrays(
    client, analysis_documents, answered
):
    for number in count(1):
        run = with_arrays(Run(analysis_documents(*SCORES, raw_uid=f"{number} {answered}")), "features")
        with ArraysCut(client) as cut:
            cut.answered, cut.left = answered, number
            store = AnnotationStore(client)
            try:
                run.write(store, *FRAMES)
            except StoreUnavailableError:
                has_arrays_of_its_rows(client, run)
                run.write(store, *FRAMES)
            is_beyond_the_last = cut.left > 0
        assert run.frames(client) == FRAMES, number
        has_arrays_of_its_rows(client, run)
        assert run.stored(client).metadata["start"]["analysis"]["arrays"] == {"features": [64]}
        if is_beyond_the_last:
            break
    assert number > 6, "stream and array looked for and made, written, read back; rows appended"


def has_arrays_of_its_rows(client: Any, run: Run) -> None:
    if frames := run.frames(client):
        assert_array_equal(read_array(client, run.uid, "features")[1], expected("features", *frames))


def test_whatever_is_lost_while_rows_are_replaced_the_same_call_again_brings_rows_and_arrays(
    client, analysis_documents
):
    for number, answered in product((1, 2), (False, True)):
        raw_uid = f"{number} {answered}"
        run = with_arrays(Run(analysis_documents(*SCORES[:4], raw_uid=raw_uid)), "features")
        better = with_arrays(Run(analysis_documents(*[0.9] * 4, raw_uid=raw_uid)), "features", version=1)
        store = AnnotationStore(client)
        run.write(store, *range(4))
        with ArraysCut(client) as cut:
            cut.answered, cut.left = answered, number
            with pytest.raises(StoreUnavailableError):
                store.replace(better.start, better.descriptor, better.events[2:])
            assert store.state(run.uid).stored is Stored.OPEN
            store.replace(better.start, better.descriptor, better.events[2:])
        array = read_array(client, run.uid, "features")[1]
        assert_array_equal(array[2:], expected("features", 2, 3, version=1), str(number))
        assert_array_equal(array[:2], expected("features", 0, 1))
        assert run.stored(client)["annotations"]["rings"].read().tolist() == [0.1, 0.9, 0.9, 0.9]


def test_arrays_that_somebody_overwrote_on_the_way_are_not_called_stored(client, run, store, monkeypatch):
    run.write(store, 0)
    http_client = client.context.http_client
    send = http_client.send

    def without_patches(request: Any, **how: Any) -> Any:
        if request.method == "PATCH" and "/array/" in str(request.url):
            return httpx.Response(200, request=request, json={"shape": [64, 64]})
        return send(request, **how)

    with monkeypatch.context() as patched:
        patched.setattr(http_client, "send", without_patches)
        with pytest.raises(StoreUnavailableError, match="not there when they were read back"):
            run.write(store, 1)
    assert run.frames(client) == [0]
    run.write(store, 1)
    assert_array_equal(read_array(client, run.uid, "features")[1], expected("features", 0, 1))


def test_two_stores_of_one_process_take_turns(client, run):
    one, two = AnnotationStore(client), AnnotationStore(client)
    run.write(one, 0, 1)
    run.write(two, 1, 2, 3)
    run.write(one, 2, 3, 4)
    run.write(two, 5)
    assert_array_equal(read_array(client, run.uid, "features")[1], expected("features", *FRAMES))


def test_a_run_that_was_deleted_is_written_again_with_its_arrays(client, run, store):
    run.write(store, *FRAMES)
    find_place(client).delete_contents([run.uid], recursive=True, external_only=False)
    store = AnnotationStore(client)
    run.write(store, 1)
    array = read_array(client, run.uid, "features", [0, 1])[1]
    assert np.isnan(array[0]).all()
    assert_array_equal(array[1], array_of("features", 1))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda run: run.descriptor["data_keys"]["features"].update(shape=[]), r"no table .*\['features'\]"),
        (
            lambda run: run.descriptor["data_keys"]["features"].update(shape=["n"]),
            r"no table .*\['features'\]",
        ),
        (
            lambda run: run.descriptor["data_keys"]["features"].update(dtype_numpy="<i4"),
            r"no table .*\['features'\]",
        ),
        (
            lambda run: run.descriptor["data_keys"].update({"a/b": run.descriptor["data_keys"]["features"]}),
            "a/b",
        ),
        (lambda run: run.events[1]["data"].update(features=[1.0, 2.0]), r"frame 1 .* \(2,\), not \(64,\)"),
        (lambda run: run.events[1]["data"].update(features="many"), "'features' of frame 1"),
        (lambda run: run.events[1]["data"].pop("features"), "'features' of frame 1"),
        (lambda run: run.events[1]["data"].update(frame=-1), "frames count from 0"),
    ],
)
def test_arrays_that_cannot_be_stored_are_refused_for_their_run_alone(store, run, spoil, reason):
    spoil(run)
    with pytest.raises(StoreRefusedError, match=reason) as refused:
        run.write(store, *FRAMES)
    assert not refused.value.everything


def test_arrays_of_another_shape_than_those_that_are_there_are_refused(store, run, client):
    run.write(store, 0)
    run.descriptor["data_keys"]["features"]["shape"] = [2]
    run.events[1]["data"]["features"] = [1.0, 2.0]
    with pytest.raises(StoreRefusedError, match=r"keeps 'features' of shape \(64,\), not \(2,\)"):
        run.write(AnnotationStore(client), 1)


def test_numbers_that_came_as_json_are_arrays(store, run, client):
    for event in run.events:
        event["data"]["features"] = [
            None if np.isnan(number) else number for number in event["data"]["features"].tolist()
        ]
    run.write(store, *FRAMES)
    assert_array_equal(read_array(client, run.uid, "features")[1], expected("features", *FRAMES))


def test_errors_name_what_there_is(store, run, client, analysis_documents):
    run.write(store, 0)
    with pytest.raises(SettingsError, match="keeps no 'feature', but coefficients, features"):
        read_array(client, run.uid, "feature")
    with pytest.raises(SettingsError, match="there is no analysis run 'nope'"):
        read_array(client, "nope", "features")
    other = Run(analysis_documents(0.5, raw_uid="raw-2"))
    other.write(store, 0)
    with pytest.raises(SettingsError, match="keeps no 'features', but no arrays"):
        read_array(client, other.uid, "features")
    for frames in ([-1], [0.5], [[1]], ["a"]):
        with pytest.raises(SettingsError, match="frame"):
            read_array(client, run.uid, "features", frames)
