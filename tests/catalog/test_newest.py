"""Of several analyses of the same frames, one query finds the newest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tiled.queries import Key, KeyPresent

from dvfb_stream.catalog import find_doubtful_runs, find_runs
from dvfb_stream.catalog import newest as marks
from dvfb_stream.catalog.moving import misplaced_runs, move_run
from dvfb_stream.catalog.newest import BEGUN, SUPERSEDED_BY, newest, superseded_by
from dvfb_stream.catalog.place import find_place
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError

from .test_moving import write_as_before
from .test_store import Run

MODELS = ("small", "better", "best")


@pytest.fixture
def store(client) -> AnnotationStore:
    return AnnotationStore(client)


@pytest.fixture
def runs(analysis_documents) -> list[Run]:
    """Of the same frames by one model after the other, the newest the surest."""
    return [
        Run(analysis_documents(score, 0.1, model=model))
        for model, score in zip(MODELS, (0.6, 0.4, 0.9), strict=True)
    ]


def begin(store: AnnotationStore, *runs: Run) -> None:
    for run in runs:
        run.write(store, 0, 1)


def finish(store: AnnotationStore, *runs: Run) -> None:
    for run in runs:
        run.finish(store)


def marked(client: Any) -> dict[str, str]:
    """By the model's name, by which model each analysis is superseded."""
    place = find_place(client)
    model = {uid: run.metadata["start"]["analysis"]["model"]["name"] for uid, run in place.items()}
    return {model[uid]: model[by] for uid, run in place.items() if (by := superseded_by(run)) is not None}


def test_one_query_finds_the_newest_of_each_together_with_any_condition(client, store, runs):
    begin(store, *runs)
    finish(store, *runs)
    place = find_place(client)
    assert marked(client) == {"small": "best", "better": "best"}
    assert list(newest(place)) == [runs[2].uid]
    # As a client without this package asks.
    unmarked = place.search(KeyPresent("analysis.superseded_by", exists=False))
    assert list(unmarked.search(Key("stop.summary.rings.count") >= 1)) == [runs[2].uid]


def test_a_label_that_the_newest_analysis_did_not_find_is_not_found(client, store, runs):
    small, better, _ = runs
    begin(store, small)
    finish(store, small)
    assert find_runs(client, "rings") == ["raw-1"]
    begin(store, better)
    assert find_runs(client, "rings") == ["raw-1"], "until the newer one is finished"
    finish(store, better)
    assert find_runs(client, "rings") == []
    assert find_doubtful_runs(client, "rings") == ["raw-1"]


def test_analyses_of_other_frames_supersede_nothing(client, store, analysis_documents):
    others = [
        Run(analysis_documents(0.9, 0.9)),
        Run(analysis_documents(0.9, 0.9, data_key="waxs")),
        Run(analysis_documents(0.9, 0.9, raw_uid="raw-2")),
    ]
    begin(store, *others)
    finish(store, *others)
    assert marked(client) == {}
    assert sorted(find_runs(client, "rings")) == ["raw-1", "raw-2"]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0), (1, 2, 0)])
def test_the_newest_is_the_one_begun_last_whichever_ends_last(client, store, runs, order):
    begin(store, *runs)
    finish(store, *(runs[number] for number in order))
    assert marked(client) == {"small": "best", "better": "best"}


def test_an_older_analysis_with_better_rows_is_the_newest_only_when_asked(client, store, runs):
    small, _, best = runs
    begin(store, small, best)
    finish(store, small, best)
    store.replace(small.start, small.descriptor, small.events)
    assert marked(client) == {"small": "best"}
    finish(store, small)
    assert marked(client) == {"small": "best"}
    store.make_newest(small.uid)
    assert marked(client) == {"best": "small"}
    finish(store, best)
    assert marked(client) == {"best": "small"}


def test_nothing_but_a_finished_run_is_made_the_newest(store, runs):
    with pytest.raises(StoreRefusedError, match="no finished run"):
        store.make_newest(runs[0].uid)
    begin(store, runs[0])
    with pytest.raises(StoreRefusedError, match="no finished run"):
        store.make_newest(runs[0].uid)


def test_of_analyses_that_end_at_a_time_one_is_left(client, runs, analysis_documents):
    runs += [Run(analysis_documents(0.9, 0.9, model=f"further {number}")) for number in range(3)]
    begin(AnnotationStore(client), *runs)
    with ThreadPoolExecutor(len(runs)) as pool:
        list(pool.map(lambda run: run.finish(AnnotationStore(client)), runs))
    assert list(newest(find_place(client))) == [runs[-1].uid]


def test_a_look_that_was_too_early_is_followed_by_another(client, store, runs, monkeypatch):
    """The newest gets better rows and has no stop meanwhile; it ends right after somebody looked."""
    small, _, best = runs
    begin(store, small, best)
    finish(store, small, best)
    find_place(client)[best.uid].update_metadata({"stop": None})
    look: Callable[..., list[Any]] = marks._analyses
    looks = []

    def look_early(*asked: Any) -> list[Any]:
        seen = look(*asked)
        looks.append(seen)
        if len(looks) == 1:
            finish(AnnotationStore(client), best)
        return seen

    monkeypatch.setattr(marks, "_analyses", look_early)
    finish(AnnotationStore(client), small)
    assert marked(client) == {"small": "best"}
    monkeypatch.setattr(marks, "_marked", lambda _: True)
    with pytest.raises(StoreUnavailableError, match="again and again"):
        finish(store, small)


def test_marks_that_a_failure_prevented_are_made_by_the_next_call(client, store, runs, monkeypatch):
    small, better, _ = runs
    begin(store, small, better)
    finish(store, small)
    with monkeypatch.context() as patch:
        patch.setattr("dvfb_stream.catalog.store.supersede", lambda *_: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(StoreUnavailableError):
            finish(store, better)
    assert marked(client) == {}
    finish(AnnotationStore(client), better)
    assert marked(client) == {"small": "better"}


def test_a_mark_touches_nothing_else(client, store, runs):
    small, better, _ = runs
    begin(store, small, better)
    finish(store, small)
    before = find_place(client)[small.uid].metadata_copy()
    finish(store, better)
    metadata, *rest = find_place(client)[small.uid].metadata_copy()
    assert metadata["start"]["analysis"].pop(SUPERSEDED_BY) == better.uid
    assert [metadata, *rest] == list(before)


def test_runs_of_versions_without_marks_are_all_found_and_older_than_marked_ones(client, store, runs):
    small, better, best = runs
    begin(store, small, better)
    finish(store, small, better)
    for run in find_place(client).values():
        kept = run.metadata_copy()[0]
        kept["start"]["analysis"].pop(SUPERSEDED_BY, None)
        del kept[BEGUN]
        run.replace_metadata(kept, drop_revision=True)
    assert len(newest(find_place(client))) == 2
    assert find_runs(client, "rings") == find_doubtful_runs(client, "rings") == ["raw-1"]
    begin(store, best)
    finish(store, best)
    assert marked(client) == {"small": "best", "better": "best"}


def test_runs_that_are_moved_are_older_than_those_of_the_place(client, store, runs):
    small, better, _ = runs
    write_as_before(client, [("start", small.start), ("descriptor", small.descriptor),
                             *(("event", event) for event in small.events), ("stop", small.stop)])  # fmt: skip
    begin(store, better)
    finish(store, better)
    for run in list(misplaced_runs(client)):
        move_run(client, run.uid, store)
    assert marked(client) == {"small": "better"}


def test_postgresql_answers_the_query_as_sqlite_does(postgresql_address):
    """Tiled cannot keep a catalog in the PostgreSQL of the package: so the condition that it would ask is asked."""
    from types import SimpleNamespace

    import asyncpg
    from sqlalchemy import select
    from sqlalchemy.dialects import postgresql as dialect
    from tiled.catalog import orm
    from tiled.catalog.adapter import key_present

    tree = SimpleNamespace(
        conditions=[],
        context=SimpleNamespace(
            engine=SimpleNamespace(
                url=SimpleNamespace(get_dialect=lambda: SimpleNamespace(name="postgresql"))
            )
        ),
        new_variation=lambda conditions: conditions,
    )
    (condition,) = key_present(KeyPresent("start.analysis.superseded_by", exists=False), tree)
    query = select(orm.Node.key).where(condition)
    sql = str(query.compile(dialect=dialect.dialect(), compile_kwargs={"literal_binds": True}))

    async def found(address: str) -> list[str]:
        connection = await asyncpg.connect(f"postgresql://{address}/postgres")
        try:
            await connection.execute("CREATE TEMPORARY TABLE nodes (key text, metadata jsonb)")
            await connection.execute(
                """INSERT INTO nodes VALUES ('new', '{"start": {"analysis": {}}}'),
                   ('old', '{"start": {"analysis": {"superseded_by": "x"}}}'), ('other', '{}')"""
            )
            return [row["key"] for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    assert asyncio.run(found(postgresql_address)) == ["new", "other"]
