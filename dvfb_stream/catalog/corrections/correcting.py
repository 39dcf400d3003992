"""Says what people know of frames better than a model, and takes it back; nothing that is stored is changed."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

from dvfb_stream.catalog.connection import check_container
from dvfb_stream.catalog.corrections.correction import Correction, ModelRow, Undo
from dvfb_stream.catalog.corrections.corrections_place import make_corrections
from dvfb_stream.catalog.corrections.documents import derived_uid, run_of_undo, runs_of_corrections
from dvfb_stream.catalog.corrections.finding import Finding, Progress
from dvfb_stream.catalog.corrections.model_rows import Analysis
from dvfb_stream.catalog.corrections.reading import Corrections, read_corrections
from dvfb_stream.catalog.corrections.storing import store_run
from dvfb_stream.catalog.corrections.wanted import WantedCorrection, checked_name, checked_text
from dvfb_stream.catalog.raw_runs import SHORTEST_UID
from dvfb_stream.catalog.storable import LONGEST_TEXT
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Origin

NAMESPACE = UUID("0e6f5c0c-6a3c-5d55-9d0b-3a1f4a1f0c42")
"""Namespace of the uids of calls."""

_TICK = 1e-6
"""Seconds by which a word is later than the one before it at least; floats of our times tell them apart."""


def correct(
    client: Any,
    raw_uid: str | int,
    frame: int,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    by: str | None = None,
    note: str = "",
    stream: str | None = None,
    data_key: str | None = None,
    model: str | None = None,
) -> Correction:
    """Say which labels a frame has and which it has not, whatever a model says.

    A document of its own is stored beside the annotations, which stay as they are: who said so, when, and what the
    model had said. When this returns, it was read back. It is said of the raw frame: it counts for a newer model's
    row, too.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs.
    raw_uid
        The raw run: a uid or its first characters, a scan number, -1 for the last; see `raw_uid_of`.
    frame
        Index of the frame in its data key, from 0.
    add, remove
        Labels that it has, and that it has not. To confirm what a model says is to say it, too.
    by
        Who says so; None: the name under which this process is logged in.
    note
        Why, in at most 2,000 characters.
    stream, data_key
        The detector, where the run has several.
    model
        Whose row was looked at: a model's name, name@version, or the first characters of its hash; None: the newest.

    Raises
    ------
    SettingsError
        When there is no such run, frame, detector, model or label, or no frame can have these labels.
    StoreUnavailableError
        When it is not certain that it is stored.
    StoreRefusedError
        When the key may not store it.
    """
    wanted = WantedCorrection(
        run=raw_uid,
        frame=frame,
        add=add,
        remove=remove,
        note=note,
        stream=stream,
        data_key=data_key,
        model=model,
    )
    return correct_many(client, [wanted], by=by)[0]


def correct_many(
    client: Any,
    wanted: Sequence[WantedCorrection],
    *,
    by: str | None = None,
    on_progress: Progress | None = None,
) -> list[Correction]:
    """Say of many frames which labels they have: all of it, or where something is wrong, nothing.

    All is checked before anything is stored; all counts from the moment at which the last is stored, at once.

    Parameters
    ----------
    client, by
        As `correct` takes them.
    wanted
        Each frame once.
    on_progress
        Told how far it is.

    Raises
    ------
    CorrectionsRefusedError
        When something is wrong with some of them: which, and why.
    StoreUnavailableError
        When it is not certain that they are stored.
    StoreRefusedError
        When the key may not store them.
    """
    check_container(client)
    by = checked_name(by)
    if not wanted:
        raise SettingsError("there is nothing to correct")
    tell = on_progress or (lambda *_: None)
    found = Finding(client, tell).found(wanted)
    analyses = [analysis for _, analysis, _ in found]
    tags = {analysis.access_tags for analysis in analyses}
    if len(tags) > 1:
        raise SettingsError(
            "not the same people see these runs (their access tags differ): correct each kind by itself"
        )
    before = read_corrections(client, {analysis.raw_uid for analysis in analyses})
    corrections = _composed(found, by=by, after=_last_time(before))
    starts = runs_of_corrections(corrections)
    place = make_corrections(client)
    for number, start in enumerate(starts):
        tell("storing", number, len(starts))
        store_run(place, start, tags.copy().pop())
    tell("storing", len(starts), len(starts))
    return corrections


def undo(client: Any, uid: str, *, by: str | None = None, note: str = "") -> Undo:
    """Take back a correction, all that were made with it, or an undo, by a further document; nothing is deleted.

    Parameters
    ----------
    client, by, note
        As `correct` takes them.
    uid
        Of the correction, of the call that it was made with, or of the undo; 5 characters of it suffice.

    Raises
    ------
    SettingsError
        When there is none, there are several, or it is undone already.
    StoreUnavailableError
        When it is not certain that it is stored.
    StoreRefusedError
        When the key may not store it.
    """
    check_container(client)
    by, note = checked_name(by), checked_text(note, "note", LONGEST_TEXT)
    known = read_corrections(client)
    target, raw_uids, undone_by, holder = _target(known, uid)
    if undone_by:
        raise SettingsError(f"{target} is undone already, by {undone_by}; undo that to have it count again")
    time_ = _later_than(_last_time(known))
    made = Undo(
        uid=_uid_of([by, note, target, time_]), time=time_, by=by, note=note, undoes=target, raw_uids=raw_uids
    )
    store_run(make_corrections(client), run_of_undo(made), known.access_tags.get(holder, ()))
    return made


def _composed(
    found: Sequence[tuple[WantedCorrection, Analysis, ModelRow]], *, by: str, after: float
) -> list[Correction]:
    time_ = _later_than(after)
    said = [[one.run, one.frame, one.add, one.remove, one.note, row.analysis_uid] for one, _, row in found]
    call = _uid_of([by, time_, said])
    return [
        Correction(
            uid=call if len(found) == 1 else derived_uid(call, str(number)),
            call=call,
            time=time_,
            by=by,
            note=one.note,
            origin=Origin(
                run_uid=analysis.raw_uid,
                stream=analysis.stream,
                data_key=analysis.data_key,
                index=one.frame,
            ),
            add=tuple(one.add),
            remove=tuple(one.remove),
            row=row,
        )
        for number, (one, analysis, row) in enumerate(found)
    ]


def _target(known: Corrections, uid: str) -> tuple[str, tuple[str, ...], str, str]:
    """Return what `uid` names: its whole uid, its raw runs, what has undone it, and the document that holds it."""
    targets: dict[str, tuple[tuple[str, ...], str, str]] = {
        undo.uid: (undo.raw_uids, undo.undone_by, undo.uid) for undo in known.undos
    }
    of_call: dict[str, list[Correction]] = {}
    for one in known.corrections:
        targets[one.uid] = ((one.origin.run_uid,), one.undone_by, one.call)
        of_call.setdefault(one.call, []).append(one)
    for call, together in of_call.items():
        raw_uids = tuple(dict.fromkeys(one.origin.run_uid for one in together))
        undone = {one.undone_by for one in together}
        targets[call] = (raw_uids, undone.pop() if len(undone) == 1 else "", call)
    if not isinstance(uid, str):
        raise SettingsError(f"a correction is named by its uid, not by {uid!r}")
    found = [uid] if uid in targets else [one for one in targets if one.startswith(uid)]
    if len(uid) < SHORTEST_UID or not found:
        raise SettingsError(
            f"there is no correction or undo {uid!r}; give the first {SHORTEST_UID} characters of its uid or more"
        )
    if len(found) > 1:
        raise SettingsError(f"{len(found)} corrections have a uid that begins with {uid!r}; give more of it")
    return found[0], *targets[found[0]]


def _last_time(known: Corrections) -> float:
    times = [one.time for one in known.corrections] + [undo.time for undo in known.undos]
    return max(times, default=0.0)


def _later_than(before: float) -> float:
    """Return the time, later than what is known of these runs: whose clock is slow has the last word, too."""
    return max(time.time(), before + _TICK)


def _uid_of(content: Any) -> str:
    """Return a uid, another each time, of what is to be stored: the same in each try to store it."""
    digest = hashlib.sha256(json.dumps(content, default=list).encode()).hexdigest()
    return str(uuid5(NAMESPACE, f"{uuid.uuid4()} {digest}"))
