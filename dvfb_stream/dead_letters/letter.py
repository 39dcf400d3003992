"""A dead letter: something that could not be processed, where it came from, why, and its bytes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dvfb_stream.errors import DvfbError
from dvfb_stream.texts import MOST_OF_A_NAME, printable

FORMAT = 1
"""Of the facts of a letter, in ``format``; letters of another one are not read."""
LONGEST_FACTS = 64 << 10
"""Bytes of the facts of a letter, keys and quotes included: more is no letter of ours."""


class Kind(StrEnum):
    """Why something is a dead letter."""

    UNDECODABLE = "undecodable"
    """A message that is no document, or none that may be decoded."""
    UNTAKEN = "untaken"
    """A document that no run could take, and that none will."""
    REFUSED = "refused"
    """An analysis run that a store will not take as it is."""
    KILLER = "killer"
    """What was in hand when the process died, twice."""


class Content(StrEnum):
    """What the bytes of a letter are."""

    MESSAGE = "message"
    """Value of a Kafka record, as it was."""
    DOCUMENTS = "documents"
    """JSON: a list of ``[name, document]``; not the rows, which are in the spool."""
    PIXELS = "pixels"
    """A frame, as a file of NumPy, version 1 or 2, without objects."""
    NOTHING = "nothing"
    """There are none."""


class LetterError(DvfbError):
    """Facts that are those of no dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Something that could not be processed.

    Texts are made `printable`: they may come from the message itself.
    """

    kind: Kind
    reason: str
    """Why, for people."""
    time: float
    """When; seconds since 1970."""
    content: Content = Content.MESSAGE
    value: bytes = field(default=b"", repr=False)
    """The bytes."""
    topic: str = ""
    """Kafka topic that it came from; empty where it did not come from Kafka."""
    partition: int = -1
    offset: int = -1
    key: bytes | None = None
    """Of the Kafka record."""
    run: str = ""
    """uid of the raw run, where it is known."""
    about: str = ""
    """What of the run, where it is no message: ``analysis run UID``, ``frame 7 of 'image' in stream 'primary'``."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(self.reason))
        for name in ("topic", "run", "about"):
            object.__setattr__(self, name, printable(getattr(self, name), MOST_OF_A_NAME))

    @property
    def id(self) -> str:
        """12 hexadecimal digits: those of one origin are the same each time, however often it is read."""
        # A run comes with another offset when its documents are published again.
        what = [self.run, self.about] if self.about or not self.topic else [self.partition, self.offset]
        origin = [self.topic, *what]
        return hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:12]

    @property
    def origin(self) -> str:
        """Where it came from, for people."""
        place = f"{self.topic}[{self.partition}] offset {self.offset}" if self.topic else ""
        return ", ".join(part for part in (place, self.about, self.run and f"run {self.run}") if part)

    def facts(self) -> str:
        """Return all but the bytes, as one line of JSON."""
        facts: dict[str, Any] = {
            "format": FORMAT, "kind": self.kind, "reason": self.reason, "time": self.time, "content": self.content,
            "topic": self.topic, "partition": self.partition, "offset": self.offset,
            "key": None if self.key is None else self.key[:MOST_OF_A_NAME].hex(),
            "run": self.run, "about": self.about,
        }  # fmt: skip
        return json.dumps(facts)


def letter_of(facts: bytes, value: bytes) -> DeadLetter:
    """Return the letter that has these facts and bytes.

    Raises
    ------
    LetterError
        Whatever is wrong with them.
    """
    try:
        if len(facts) > LONGEST_FACTS:
            raise LetterError(f"the facts of a dead letter have {len(facts)} bytes")
        found = json.loads(facts)
        if not isinstance(found, Mapping) or found.get("format") != FORMAT:
            raise LetterError(f"these are not the facts of a dead letter of format {FORMAT}: {facts[:80]!r}")
        key = found["key"]
        time = float(found["time"])
        if not math.isfinite(time):
            raise LetterError(f"{time} is not when a letter was written")
        return DeadLetter(
            kind=Kind(found["kind"]),
            reason=_text(found["reason"]),
            time=time,
            content=Content(found["content"]),
            value=value,
            topic=_text(found["topic"]),
            partition=int(found["partition"]),
            offset=int(found["offset"]),
            key=None if key is None else bytes.fromhex(key),
            run=_text(found["run"]),
            about=_text(found["about"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise LetterError(
            f"these are not the facts of a dead letter: {type(error).__name__}: {error}"
        ) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise LetterError(f"{value!r} is not text")
    return value
