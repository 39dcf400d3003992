"""Finds raw runs and frames by what they show, and reads the rows that say so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pyarrow
from tiled.queries import Key

from dvfb_stream.catalog.mirror.mirror import Progress
from dvfb_stream.catalog.place import KIND, find_place, places_in, plain, table_of_run
from dvfb_stream.catalog.raw_runs import raw_uid_of
from dvfb_stream.catalog.searching.found_frames import TABLE_COLUMNS, FoundFrames, Part, schema_of_frames
from dvfb_stream.catalog.searching.found_runs import FoundRun, found_runs
from dvfb_stream.catalog.searching.matches import Matches
from dvfb_stream.catalog.searching.question import Moment, Question, question
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import ALL_LABELS
from dvfb_stream.rows import COLUMNS, row_of

logger = logging.getLogger(__name__)


def find_runs(
    client: Any,
    expression: str,
    min_frames: int = 1,
    *,
    min_score: float | None = None,
    fraction: float = 0.0,
    model: str | None = None,
    newest: bool = True,
    since: Moment | None = None,
    until: Moment | None = None,
    source: str = "model",
    progress: Progress | None = None,
    **raw: Any,
) -> list[str]:
    """Return the uids of the raw runs with frames for which an expression holds, the newest run first.

    ``find_runs(client, "four_fold and not halo", min_frames=3, sample_name="lamella")``. Runs are counted whose
    annotation is finished. A raw run appears once, however many detectors or models found something in it. Searches
    read a copy of what the catalog holds, in this user's cache folder, which is brought up to date first; the first
    one takes longer.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, of that of the analysis runs, or of what both lie in.
    expression
        What holds for a frame: labels, ``and``, ``or``, ``not``, comparisons; see docs/finding.md.
    min_frames
        Least number of frames for which it holds, counted for each data key of a run separately.
    min_score
        Of the expression's labels: one is taken as accepted only where its probability is as high.
    fraction
        Least share of the run's annotated frames for which it holds.
    model
        Name of the model, ``name@version``, or the beginning of its SHA-256; None: any.
    newest
        Whether of several analyses of the same frames the newest alone counts; of `model`, where that is given.
    since, until
        Raw runs begun at or after the one, before the other: a datetime, ISO 8601, or seconds since 1970.
    source
        ``model``, or ``human``: then labels that people corrected win, in the expression and in the frames found.
        Probabilities, doubt and the counts of `search_runs` by label stay the model's.
    progress
        Is told of what takes time: what, how much is done, of how much (0: not known).
    **raw
        What the raw start document says: ``sample_name="lamella"``, ``scan_id=[7, 8]``, ``**{"user.name": "Ann"}``.
        Of a field whose name looks like a parameter's, ``**{"start.mode": "fast"}``.

    Raises
    ------
    ExpressionError
        When the expression cannot be understood; the message points at the place.
    SettingsError
        When `client` is no Tiled container, or an argument is out of range.
    """
    found = search_runs(
        client,
        expression,
        min_frames=min_frames,
        min_score=min_score,
        fraction=fraction,
        model=model,
        newest=newest,
        since=since,
        until=until,
        source=source,
        progress=progress,
        exact=False,
        **raw,
    )
    return list(dict.fromkeys(run.raw_uid for run in found))


def search_runs(
    client: Any, expression: str, *, exact: bool = True, progress: Progress | None = None, **how: Any
) -> list[FoundRun]:
    """Return the analysis runs with enough frames, those of the newest raw run first.

    Parameters
    ----------
    exact
        Whether `FoundRun.found` is to be all frames for which the expression holds, for which rows may have to be
        read; otherwise as many as are certain.
    client, expression, progress, **how
        As `find_runs` takes them, and `raw_uids`: of the raw runs that are looked at.

    Raises
    ------
    SettingsError
        As `find_runs`.
    """
    asked = question(expression, **how)
    found: list[FoundRun] = []
    for container in _containers(client):
        runs, counts = Matches(container, asked, progress).runs(exact=exact)
        found += found_runs(runs, counts, asked.labels)
    return sorted(found, key=lambda run: run.time, reverse=True)


def find_frames(client: Any, expression: str, *, progress: Progress | None = None, **how: Any) -> FoundFrames:
    """Return the frames for which an expression holds: those of the newest raw run first, in a run in their order.

    ``for found in find_frames(client, "four_fold and halo")``: both labels are on the same frame. A frame found has
    ``raw_uid``, ``frame``, ``scores``, ``row``; ``image()`` reads its pixels, ``raw`` is the raw run. ``table()``
    gives all as an Arrow table. Parameters are those of `find_runs`; with `min_frames` and `fraction`, frames of the
    runs that have as many.

    Raises
    ------
    ExpressionError
        When the expression cannot be understood; the message points at the place.
    SettingsError
        When `client` is no Tiled container, or an argument is out of range.
    """
    asked = question(expression, **how)
    return FoundFrames([part for part in _parts(client, asked, progress) if len(part.at)])


def annotations_table(
    client: Any, expression: str | None = None, *, progress: Progress | None = None, **how: Any
) -> pyarrow.RecordBatchReader:
    """Return the rows of a proposal, a sample, or whatever is asked for, as a stream of Arrow record batches.

    ``annotations_table(client, proposal="313131").read_pandas()`` makes one DataFrame; a loop over it has 10,000 rows
    at most in memory. Columns are those of `dvfb_stream.rows`, rows of a run follow one another in the order of their
    frames. Parameters are those of `find_runs`; without an expression, all rows come, failed ones among them.

    Raises
    ------
    ExpressionError
        When the expression cannot be understood; the message points at the place.
    SettingsError
        When `client` is no Tiled container, or an argument is out of range.
    """
    asked = question(expression, **how)
    frames = FoundFrames([part for part in _parts(client, asked, progress) if len(part.at)])

    def batches() -> Iterator[pyarrow.RecordBatch]:
        for first in range(0, len(frames), _ROWS_A_BATCH):
            yield from frames[first : first + _ROWS_A_BATCH].table().combine_chunks().to_batches()

    return pyarrow.RecordBatchReader.from_batches(schema_of_frames(TABLE_COLUMNS), batches())


_ROWS_A_BATCH = 10_000


def _parts(client: Any, asked: Question, progress: Progress | None) -> Iterator[Part]:
    for container in _containers(client):
        matches = Matches(container, asked, progress)
        for found in matches.frames():
            yield Part(found.file, found.at, found.run, matches.about, matches.people, container)


def find_doubtful_runs(client: Any, label: str, min_frames: int = 1) -> list[str]:
    """Return the uids of the raw runs in which `label` is doubtful on at least `min_frames` frames.

    There it is neither accepted nor rejected: frames that a person should look at. The same as
    ``find_runs(client, f"doubtful({label})", min_frames)``. Runs that a version without doubtful labels wrote are
    never found.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, there is no such label, or `min_frames` is below 1.
    """
    if label not in ALL_LABELS:
        raise SettingsError(f"unknown label {label!r}; the labels are {', '.join(ALL_LABELS)}")
    return find_runs(client, f"doubtful({label})", min_frames)


def read_annotations(client: Any, run: str | int) -> list[dict[str, Any]]:
    """Return the stored rows of a raw run, by analysis run and frame; of runs that are still written, too.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs, of that of the analysis runs, or of what both lie in.
    run
        uid of the raw run; where `client` is of raw runs or their analysis runs, also the first characters of it, a
        scan number, or -1 for the last run, as Bluesky's client has it.

    Returns
    -------
    list of dict
        Rows as `dvfb_stream.rows` lays them out; `to_dataframe` there makes a table of them. What an earlier version
        did not write is not known. None of a raw run that nobody has annotated.

    Raises
    ------
    SettingsError
        When `client` is no Tiled container, there is no such run, or several are meant.
    """
    found = _analyses(client, run) if isinstance(run, str) else {}
    if not found:
        found = _analyses(client, raw_uid_of(client, run))
    return [row for uid, node in found.items() for row in _rows(uid, node)]


def _analyses(client: Any, raw_uid: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for container in _containers(client):
        of_run = container.search(Key("start.analysis.kind") == KIND).search(
            Key("start.analysis.parent") == raw_uid
        )
        for uid, node in of_run.items():
            found.setdefault(uid, node)
    return found


def _rows(uid: str, run: Any) -> list[dict[str, Any]]:
    table = table_of_run(run)
    if table is None:
        return []
    analysis = run.metadata["start"]["analysis"]
    model = analysis["model"]
    known = {
        "run_uid": analysis["parent"],
        "stream": analysis["stream"],
        "data_key": analysis["data_key"],
        "model": model["name"],
        "model_version": model["version"],
        "model_sha256": model["sha256"],
        "analysis_uid": uid,
    }
    # An earlier version stored a frame as often as it was written, and in no order.
    frames = table.read().drop_duplicates("frame").sort_values("frame")
    stored = [column.name for column in COLUMNS if column.name in frames]
    return [row_of(known | row) for row in frames[stored].to_dict("records")]


def _containers(client: Any) -> list[Any]:
    """Return what may hold analysis runs: their own place, and the raw runs, where an earlier version put them.

    Of a container without a place beside it, such as a server's root, the places in it.
    """
    place = find_place(client)
    places = places_in(client) if place is None else [place]
    if not places:
        logger.info(
            "no container of annotations lies beside or in %s: nothing was stored yet, or the raw runs lie elsewhere",
            client.uri,
        )
    if any(found.uri == client.uri for found in places):
        return [plain(found) for found in places]
    return [*map(plain, places), plain(client).search(Key("start.analysis.kind") == KIND)]
