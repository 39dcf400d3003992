"""Asks the raw runs for what analysis runs have no copy of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tiled.queries import In, Key

from dvfb_stream.catalog.raw_runs import raw_container
from dvfb_stream.errors import SettingsError


def raw_runs_that_say(container: Any, fields: Mapping[str, Any]) -> list[str]:
    """Return the uids of the raw runs whose start documents say so.

    Parameters
    ----------
    container
        Tiled client of the container of their analysis runs.
    fields
        By name, of nested ones with dots; a list stands for one of its entries.

    Raises
    ------
    SettingsError
        When no raw runs lie beside it, or a value cannot be asked for.
    """
    found = raw_container(container)
    for name, wanted in fields.items():
        one_of = list(wanted) if isinstance(wanted, list | tuple | set) else None
        values = [wanted] if one_of is None else one_of
        if not all(isinstance(value, str | int | float) for value in values):
            raise SettingsError(f"{name} of raw runs is compared with texts and numbers, not with {wanted!r}")
        found = found.search(
            Key(f"start.{name}") == wanted if one_of is None else In(f"start.{name}", one_of)
        )
    uids = found.distinct("start.uid")["metadata"]["start.uid"]
    return [str(entry["value"]) for entry in uids]
