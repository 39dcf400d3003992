"""Documents together with the record of Kafka that each was read from, so that one which nobody takes can be kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from dvfb_stream.dead_letters.letter import Content, DeadLetter, Kind
from dvfb_stream.kafka.journal_state import NotedDocument


class ReadDocument(dict[str, Any]):
    """A document, and its record; arrays in it are views of the record's value, so that both take little more."""

    __slots__ = ("record",)

    def __init__(self, doc: Mapping[str, Any], record: Any) -> None:
        super().__init__(doc)
        self.record = record


class RestoredDocument(dict[str, Any]):
    """A document that a journal has, without its pixels."""

    __slots__ = ("is_of_ended_run", "noted")

    def __init__(self, noted: NotedDocument, *, is_of_ended_run: bool) -> None:
        super().__init__(noted.doc)
        self.noted = noted
        self.is_of_ended_run = is_of_ended_run


def published(record: Any) -> float | None:
    """Return when a record was published, seconds since 1970; None where Kafka does not say."""
    milliseconds = getattr(record, "timestamp", None)
    return milliseconds / 1000 if isinstance(milliseconds, int) and milliseconds > 0 else None


def run_of(doc: Mapping[str, Any]) -> str:
    """Return the uid of the run that a document names; empty where it names none."""
    uid = doc.get("run_start")
    return uid if isinstance(uid, str) else ""


def letter_of_record(record: Any, kind: Kind, reason: str, *, run: str = "") -> DeadLetter:
    """Return the dead letter of a record of Kafka, with its value as it is."""
    return DeadLetter(
        kind=kind,
        reason=reason,
        time=time.time(),
        content=Content.NOTHING if record.value is None else Content.MESSAGE,
        value=record.value or b"",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        run=run,
    )


def drop(letter: DeadLetter, then: Callable[[], None]) -> None:
    """Keep no letter: for pipelines of which nobody asks what they could not take."""
    then()
