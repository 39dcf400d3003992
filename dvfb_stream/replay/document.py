"""A raw document, and when it came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TimedDocument:
    """One document of a raw run."""

    at: float | None
    """When it came, in seconds since any moment that is the same for all; None: together with the one before."""
    name: str
    doc: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Script:
    """What is to be published again."""

    documents: Iterable[TimedDocument]
    count: int
    """How many they are, as far as that is known beforehand."""
