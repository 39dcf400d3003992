"""Lets TiledWriter go on with a run that it, or its killed predecessor, began to write."""

from __future__ import annotations

from typing import Any, Self


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
        there = self._container.get(key)
        if there is None:  # not `or`: an empty container is false
            there = self._container.create_container(key=key, **description)
        return type(self)(there)

    def create_appendable_table(self, schema: Any, key: str, **description: Any) -> Any:
        """Return the table `key`, created if it is not there."""
        there = self._container.get(key)
        if there is None:
            there = self._container.create_appendable_table(schema=schema, key=key, **description)
        return there
