"""Corrections as Bluesky documents: a run of a start and a stop, which holds what was said and changes no more."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from dvfb_stream import __version__
from dvfb_stream.catalog.corrections.correction import Correction, ModelRow, Undo, settled
from dvfb_stream.frames import Origin

logger = logging.getLogger(__name__)

KIND = "dvfb-correction"
"""``start.correction.kind`` of what people said of frames."""
UNDO_KIND = "dvfb-correction-undo"
"""``start.correction.kind`` of what was taken back."""

RAW_UIDS = "start.correction.raw_uids"
"""Where a run says which raw runs it is about."""

FRAMES_OF_A_RUN = 100
"""Frames that one run holds at most: at 0.6 kB each, it is far below the megabyte that proxies take by default."""

Document = dict[str, Any]


def runs_of_corrections(corrections: Sequence[Correction]) -> list[Document]:
    """Return the start documents that hold what was said in one call, in the order in which to store them.

    Of few frames, one. Of more, parts, and last the one with the call's uid: parts without it do not count, so that a
    call counts as a whole or not at all.

    Parameters
    ----------
    corrections
        At least one, with the same call, time and person.
    """
    first = corrections[0]
    told = {"by": first.by, "note": _common_note(corrections)}
    if len(corrections) <= FRAMES_OF_A_RUN:
        return [_start(first.call, first.time, {"kind": KIND, **told, **_content(corrections)})]
    parts = [
        _start(
            derived_uid(first.call, f"part {number}"),
            first.time,
            {
                "kind": KIND,
                **told,
                "part_of": first.call,
                **_content(corrections[number : number + FRAMES_OF_A_RUN]),
            },
        )
        for number in range(0, len(corrections), FRAMES_OF_A_RUN)
    ]
    whole = {"kind": KIND, **told, "parts": len(parts), "raw_uids": _raw_uids(corrections)}
    return [*parts, _start(first.call, first.time, whole)]


def run_of_undo(undo: Undo) -> Document:
    """Return the start document that takes something back."""
    return _start(
        undo.uid,
        undo.time,
        {
            "kind": UNDO_KIND,
            "by": undo.by,
            "note": undo.note,
            "undoes": undo.undoes,
            "raw_uids": list(undo.raw_uids),
        },
    )


def stop_of(start: Mapping[str, Any]) -> Document:
    """Return the stop document of a run."""
    return {
        "uid": derived_uid(start["uid"], "stop"),
        "run_start": start["uid"],
        "time": start["time"],
        "exit_status": "success",
        "reason": "",
        "num_events": {},
    }


def derived_uid(uid: str, name: str) -> str:
    """Return the uid of what belongs to the document `uid`."""
    return str(uuid5(UUID(uid), name))


def read_runs(starts: Iterable[Mapping[str, Any]]) -> tuple[list[Correction], list[Undo]]:
    """Return what start documents hold, settled; what cannot be understood is named in the log, and left out.

    Parameters
    ----------
    starts
        In any order. Parts whose whole is not among them are left out.
    """
    corrections: list[Correction] = []
    undos: list[Undo] = []
    parts: dict[str, list[Mapping[str, Any]]] = {}
    wholes: set[str] = set()
    for start in starts:
        try:
            held = start["correction"]
            if held["kind"] == UNDO_KIND:
                undos.append(_undo(start))
            elif held["kind"] != KIND:
                continue
            elif "part_of" in held:
                parts.setdefault(held["part_of"], []).append(start)
            elif "parts" in held:
                wholes.add(start["uid"])
            else:
                corrections.extend(list(_corrections(start)))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            _leave_out(start, error)
    for call in wholes & parts.keys():
        for part in parts[call]:
            try:
                corrections.extend(list(_corrections(part)))
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                _leave_out(part, error)
    return settled(corrections, undos)


def _start(uid: str, time: float, correction: Document) -> Document:
    return {
        "uid": uid,
        "time": time,
        "correction": {**correction, "software": {"dvfb_stream": __version__}},
    }


def _content(corrections: Sequence[Correction]) -> Document:
    # What frames have in common is said once.
    return {
        "raw_uids": _raw_uids(corrections),
        "analyses": {one.row.analysis_uid: _analysis(one) for one in corrections},
        "frames": [_frame(one) for one in corrections],
    }


def _common_note(corrections: Sequence[Correction]) -> str:
    notes = {one.note for one in corrections}
    return notes.pop() if len(notes) == 1 else ""


def _raw_uids(corrections: Iterable[Correction]) -> list[str]:
    return list(dict.fromkeys(one.origin.run_uid for one in corrections))


def _analysis(one: Correction) -> Document:
    return {
        "parent": one.origin.run_uid,
        "stream": one.origin.stream,
        "data_key": one.origin.data_key,
        "model": {
            "name": one.row.model,
            "version": one.row.model_version,
            "sha256": one.row.model_sha256,
        },
    }


def _frame(one: Correction) -> Document:
    scores = {label: score for label, score in one.row.scores.items() if math.isfinite(score)}
    return {
        "uid": one.uid,
        "analysis": one.row.analysis_uid,
        "frame": one.origin.index,
        "add": list(one.add),
        "remove": list(one.remove),
        "note": one.note,
        "before": {
            "status": one.row.status,
            "labels": list(one.row.labels),
            "doubtful": list(one.row.doubtful),
            "scores": scores,
        },
    }


def _corrections(start: Mapping[str, Any]) -> Iterator[Correction]:
    held = start["correction"]
    call = held.get("part_of") or start["uid"]
    for frame in held["frames"]:
        analysis, before = held["analyses"][frame["analysis"]], frame["before"]
        model = analysis["model"]
        yield Correction(
            uid=str(frame["uid"]),
            call=str(call),
            time=float(start["time"]),
            by=str(held["by"]),
            note=str(frame["note"]),
            origin=Origin(
                run_uid=str(analysis["parent"]),
                stream=str(analysis["stream"]),
                data_key=str(analysis["data_key"]),
                index=int(frame["frame"]),
            ),
            add=tuple(frame["add"]),
            remove=tuple(frame["remove"]),
            row=ModelRow(
                analysis_uid=str(frame["analysis"]),
                model=str(model["name"]),
                model_version=str(model["version"]),
                model_sha256=str(model["sha256"]),
                status=str(before["status"]),
                labels=tuple(before["labels"]),
                doubtful=tuple(before["doubtful"]),
                scores={str(label): float(score) for label, score in before["scores"].items()},
            ),
        )


def _undo(start: Mapping[str, Any]) -> Undo:
    held = start["correction"]
    return Undo(
        uid=str(start["uid"]),
        time=float(start["time"]),
        by=str(held["by"]),
        note=str(held["note"]),
        undoes=str(held["undoes"]),
        raw_uids=tuple(held["raw_uids"]),
    )


def _leave_out(start: Any, error: Exception) -> None:
    uid = start.get("uid") if isinstance(start, Mapping) else start
    logger.warning("the run %s beside the annotations is no correction (%r): left out", uid, error)
