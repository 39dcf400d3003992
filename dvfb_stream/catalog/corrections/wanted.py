"""What somebody wants to say of frames, checked as far as that needs no catalog."""

from __future__ import annotations

import difflib
import getpass
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dvfb_stream.catalog.corrections.correction import contradiction
from dvfb_stream.catalog.storable import LONGEST_TEXT, storable_text
from dvfb_stream.errors import SettingsError
from dvfb_stream.labels import ALL_LABELS

LONGEST_NAME = 200
"""Characters of a person's name."""
_LARGEST_FRAME = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedCorrection:
    """What is to be said of one frame, as the person has it."""

    run: str | int
    """The raw run, as `raw_uid_of` takes it."""
    frame: int
    """Index of the frame in its data key, from 0."""
    add: Sequence[str] = ()
    """Labels that it has."""
    remove: Sequence[str] = ()
    """Labels that it has not."""
    note: str = ""
    stream: str | None = None
    """Of the detector; None where the run has one detector."""
    data_key: str | None = None
    model: str | None = None
    """Whose row is meant: a model's name, name@version or the first characters of its hash; None: the newest."""
    line: int | None = None
    """Of the table that says so."""


class CorrectionsRefusedError(SettingsError):
    """Corrections that cannot be made; none of those given with them is.

    Attributes
    ----------
    problems
        By line of the table, why.
    """

    def __init__(self, problems: Sequence[tuple[int | None, str]]) -> None:
        self.problems = tuple(problems)
        line, reason = self.problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(
            reason + more if line is None else f"line {line}: {reason}{more}; nothing was stored"
        )


def checked(wanted: WantedCorrection) -> WantedCorrection:
    """Return it with its labels each once and in their order, and its texts storable.

    Raises
    ------
    SettingsError
        When no frame can be so.
    """
    if isinstance(wanted.run, bool) or not isinstance(wanted.run, str | int):
        raise SettingsError(f"a run is named by a text or a number, not by {wanted.run!r}")
    add, remove = checked_labels(wanted.add, "add"), checked_labels(wanted.remove, "remove")
    if not add and not remove:
        raise SettingsError("no label is added or removed; to confirm those of a model, add them")
    if why := contradiction(add, remove):
        raise SettingsError(why)
    return WantedCorrection(
        run=wanted.run,
        frame=_checked_frame(wanted.frame),
        add=add,
        remove=remove,
        note=checked_text(wanted.note, "note", LONGEST_TEXT),
        stream=wanted.stream,
        data_key=wanted.data_key,
        model=wanted.model,
        line=wanted.line,
    )


def checked_labels(labels: Iterable[str], name: str) -> tuple[str, ...]:
    """Return labels in the order of `ALL_LABELS`, each once.

    Raises
    ------
    SettingsError
        When one is unknown, or `labels` is a text.
    """
    if isinstance(labels, str):
        raise SettingsError(f"{name} is a list of labels, not the text {labels!r}; give [{labels!r}]")
    given = set(labels)
    for label in sorted(given - set(ALL_LABELS), key=str):
        near = difflib.get_close_matches(
            str(label).lower().replace("-", "_").replace(" ", "_"), ALL_LABELS, n=1
        )
        hint = f"did you mean {near[0]}? " if near else ""
        raise SettingsError(f"unknown label {label!r}; {hint}the labels are {', '.join(ALL_LABELS)}")
    return tuple(label for label in ALL_LABELS if label in given)


def checked_name(by: str | None) -> str:
    """Return who says so; None: the name under which this process is logged in.

    Raises
    ------
    SettingsError
        When there is none, or it is no name.
    """
    if by is None:
        try:
            by = getpass.getuser()
        except (OSError, KeyError, ImportError) as error:
            raise SettingsError("nobody is logged in here: say by whom, by='name'") from error
    if not isinstance(by, str) or not by.strip():
        raise SettingsError(
            f"by is the name of who says so, not {by!r}; leave it out for the name you are logged in by"
        )
    return checked_text(by.strip(), "by", LONGEST_NAME)


def checked_text(text: str, name: str, most: int) -> str:
    """Return a text that every store takes.

    Raises
    ------
    SettingsError
        When it is none, or too long.
    """
    if not isinstance(text, str):
        raise SettingsError(f"{name} is a text, not {text!r}")
    if len(text) > most:
        raise SettingsError(f"{name} has {len(text)} characters; {most} at most are kept")
    return storable_text(text)


def _checked_frame(frame: int) -> int:
    try:
        index = -1 if isinstance(frame, bool) else operator.index(frame)
    except TypeError:
        index = -1
    if not 0 <= index <= _LARGEST_FRAME:
        raise SettingsError(f"frame is {frame!r}; frames are counted 0, 1, 2, ...")
    return index
