"""What people say of a frame's labels, and what counts of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Origin
from dvfb_stream.labels import ALL_LABELS, FURTHER_IMPLICATIONS, IMPLICATIONS

_IMPLIED = IMPLICATIONS | FURTHER_IMPLICATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """What a model had said of a frame when somebody corrected it."""

    analysis_uid: str
    """Of the analysis run that keeps the row."""
    model: str
    """Name of the model."""
    model_version: str
    model_sha256: str
    """Of its weights, hexadecimal."""
    status: str
    """Of the row: ok, failed, dropped."""
    labels: tuple[str, ...]
    """That were accepted."""
    doubtful: tuple[str, ...]
    """That were neither accepted nor rejected."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Calibrated probability by label; empty where the frame could not be annotated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What one person said once of the labels of one frame."""

    uid: str
    call: str
    """uid of the document that it was given with; its own, where that is of this frame alone."""
    time: float
    """When, seconds since 1970."""
    by: str
    """Who."""
    note: str
    """Why; may be empty."""
    origin: Origin
    """The raw frame; what is said is said of it, whichever model looks at it later."""
    add: tuple[str, ...]
    """Labels that it has."""
    remove: tuple[str, ...]
    """Labels that it has not."""
    row: ModelRow
    """What was corrected."""
    undone_by: str = ""
    """uid of the undo that counts; empty where it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """What one person took back once: a correction, all that were given with it, or another undo."""

    uid: str
    time: float
    """When, seconds since 1970."""
    by: str
    """Who; anybody may."""
    note: str
    undoes: str
    """uid of a correction, of the call that it was given with, or of an undo."""
    raw_uids: tuple[str, ...]
    """uids of the raw runs that it is about."""
    undone_by: str = ""
    """uid of the undo that counts; empty where it stands."""


def settled(corrections: Iterable[Correction], undos: Iterable[Undo]) -> tuple[list[Correction], list[Undo]]:
    """Return both in the order in which they count, the last word last, each with what has undone it.

    By time; of the same time, by uid. An undo that is undone counts no more, so that what it undid stands again, with
    the time it had.
    """
    undos = sorted(undos, key=_order)
    of_target: dict[str, list[Undo]] = {}
    for undo in undos:
        of_target.setdefault(undo.undoes, []).append(undo)
    standing = _standing(undos, of_target)

    def undone_by(*uids: str) -> str:
        found = [undo for uid in uids for undo in of_target.get(uid, ()) if undo.uid in standing]
        return max(found, key=_order).uid if found else ""

    return (
        [replace(one, undone_by=undone_by(one.uid, one.call)) for one in sorted(corrections, key=_order)],
        [replace(undo, undone_by=undone_by(undo.uid)) for undo in undos],
    )


def _standing(undos: Sequence[Undo], of_target: Mapping[str, Sequence[Undo]]) -> set[str]:
    """Return the uids of the undos that count; by what undoes them, as clocks may be wrong."""
    undoers = {undo.uid: {other.uid for other in of_target.get(undo.uid, ())} for undo in undos}
    standing: set[str] = set()
    # Of those that undo one another in a ring, which nobody can make, none counts.
    while ready := [uid for uid, others in undoers.items() if not others & undoers.keys()]:
        standing |= {uid for uid in ready if not undoers[uid] & standing}
        for uid in ready:
            del undoers[uid]
    return standing


def by_frame(corrections: Iterable[Correction]) -> dict[Origin, list[Correction]]:
    """Return the corrections of each frame."""
    found: dict[Origin, list[Correction]] = {}
    for correction in corrections:
        found.setdefault(correction.origin, []).append(correction)
    return found


def stated_labels(corrections: Iterable[Correction]) -> dict[str, bool]:
    """Return what people say of one frame: of each label that they spoke of, whether it has it.

    What is undone does not count. Of each label the last word counts. What follows from a word that counts is said,
    too: a frame with `symmetry_halo` has `halo`, one without `halo` has no `symmetry_halo`; where that contradicts
    another word, the later of both counts.

    Parameters
    ----------
    corrections
        Of one frame, in any order.

    Raises
    ------
    SettingsError
        When they are of several frames.
    """
    standing = sorted((one for one in corrections if not one.undone_by), key=_order)
    if len(frames := {one.origin for one in standing}) > 1:
        raise SettingsError(f"corrections of {len(frames)} frames; by_frame tells them apart")
    words: dict[str, tuple[int, bool]] = {}
    for number, one in enumerate(standing):
        words |= dict.fromkeys(one.remove, (number, False)) | dict.fromkeys(one.add, (number, True))
    said = dict(words)
    for special, general in _IMPLIED.items():
        for spoken, has, implied in ((special, True, general), (general, False, special)):
            number, word = words.get(spoken, (-1, not has))
            if word is has and number > said.get(implied, (-1, False))[0]:
                said[implied] = (number, has)
    return {label: said[label][1] for label in ALL_LABELS if label in said}


def corrected_labels(labels: Iterable[str], corrections: Iterable[Correction]) -> tuple[str, ...]:
    """Return the labels that one frame has: what people say, and of all else what the model says.

    Parameters
    ----------
    labels
        That a model accepted, any model.
    corrections
        Of that frame, in any order; see `stated_labels`.

    Returns
    -------
    tuple of str
        In the order of `ALL_LABELS`.

    Raises
    ------
    SettingsError
        When the corrections are of several frames.
    """
    return labels_with(labels, stated_labels(corrections))


def labels_with(labels: Iterable[str], said: Mapping[str, bool]) -> tuple[str, ...]:
    """Return the labels that one frame has, by what `stated_labels` gives of it; else as `corrected_labels`."""
    accepted = set(labels)
    return tuple(label for label in ALL_LABELS if said.get(label, label in accepted))


def contradiction(add: Sequence[str], remove: Sequence[str]) -> str:
    """Return why no frame can have the labels `add` and not those of `remove`; empty where it can."""
    if both := [label for label in add if label in remove]:
        return f"{both[0]} is both added and removed; keep one"
    for special, general in _IMPLIED.items():
        if special in add and general in remove:
            return f"a frame with {special} has {general} by definition: it cannot be removed; keep one"
    return ""


def _order(said: Correction | Undo) -> tuple[float, str]:
    return said.time, said.uid
