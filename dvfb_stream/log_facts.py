"""What is known while something is done, so that each line of the log can say it: run, partition, offset, file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

Fact = str | int

FACTS = ("run", "stream", "data_key", "topic", "partition", "offset", "file")
"""Names of facts, as a line of the log has them: the raw run's uid, its stream and data key; Kafka's topic, partition
and offset; the file that is read."""

_KNOWN: ContextVar[Mapping[str, Fact]] = ContextVar("dvfb_log_facts", default=MappingProxyType({}))


@contextmanager
def log_facts(**facts: Fact) -> Iterator[None]:
    """Have lines that this thread logs inside say `facts`, besides those known outside."""
    before = _KNOWN.set({**_KNOWN.get(), **facts})
    try:
        yield
    finally:
        _KNOWN.reset(before)


def known_facts() -> Mapping[str, Fact]:
    """Return what is known now, on this thread."""
    return _KNOWN.get()
