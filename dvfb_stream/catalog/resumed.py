"""Lets TiledWriter go on with a run that it, or its killed predecessor, began to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from tiled.client.utils import ClientError

_CONFLICT = 409

_EVENT_COLUMNS = {"seq_num", "time"}
"""Columns of TiledWriter's tables besides those of the event's data and, named ``ts_...``, their timestamps."""


def data_columns(table: Any) -> tuple[str, ...]:
    """Return the columns of the events' data in a table that TiledWriter has made, in their order."""
    return tuple(name for name in table.columns if name not in _EVENT_COLUMNS and not name.startswith("ts_"))


def with_columns(event: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """Return an event with these columns of data in this order; None in those that it has not.

    Tiled appends only rows of the columns that a table was made with.
    """
    data, timestamps = event["data"], event["timestamps"]
    return {
        **event,
        "data": {name: data.get(name) for name in columns},
        "timestamps": {name: timestamps.get(name, event["time"]) for name in columns},
    }


class ResumedContainer:
    """A Tiled container that answers the creation of what it already holds with what it holds.

    TiledWriter creates a run, its streams and their tables, and takes a conflict (HTTP 409) for a reason to lose
    the whole run. Around an existing run it would write the same nodes anew; through this it finds them, so that
    the layout of what is stored remains TiledWriter's alone. Everything else goes to the container itself.

    Parameters
    ----------
    container
        Tiled client of a container.
    """

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    @property
    def base(self) -> Self:
        """The composite's underlying container, resumed as well."""
        return type(self)(self._container.base)

    def include_data_sources(self) -> Self:
        """Return the same container, with data sources in its answers."""
        return type(self)(self._container.include_data_sources())

    def create_container(self, key: str, **description: Any) -> Self:
        """Return the container `key`, created if it is not there."""
        # Tried first, because mostly it is not there.
        create = partial(self._container.create_container, key=key, **description)
        return type(self)(self._created_or_found(key, create))

    def create_appendable_table(self, schema: Any, key: str, **description: Any) -> Any:
        """Return the table `key`, created if it is not there."""
        # Looked for first: the server makes a table's storage before it finds that the table is there.
        there = self._container.get(key)
        if there is None:
            create = partial(self._container.create_appendable_table, schema=schema, key=key, **description)
            there = self._created_or_found(key, create)
        return there

    def _created_or_found(self, key: str, create: Callable[[], Any]) -> Any:
        try:
            return create()
        except ClientError as error:
            # It may come to be there at any moment: by another writer of the same run, or by a request of our
            # own whose answer was lost.
            if error.response.status_code != _CONFLICT:
                raise
            return self._container[key]
