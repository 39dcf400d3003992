"""A catalog that did not answer when it was wanted, and is opened as soon as it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.connection import connect
from dvfb_stream.catalog.store import AnnotationStore
from dvfb_stream.catalog.store_errors import StoreRefusedError, StoreUnavailableError
from dvfb_stream.errors import SettingsError


@dataclass(frozen=True, slots=True)
class LaterCatalog:
    """What a `TiledSink` takes in place of a client, where the server does not answer yet."""

    uri: str
    """Address of the container, without a key."""


class LaterStore:
    """An `AnnotationStore` that is opened when something is to be stored; called by one thread at a time.

    Parameters
    ----------
    catalog
        Its address, or a client whose server is away.
    """

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog
        self._store: AnnotationStore | None = None

    def probe(self) -> None:
        """Say that the catalog is away, unless it was opened meanwhile: who starts does not wait for it again."""
        if self._store is None:
            raise StoreUnavailableError(f"the catalog {self._catalog.uri.partition('?')[0]} does not answer")
        self._store.probe()

    def write(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
    ) -> None:
        """See `AnnotationStore`."""
        self._opened().write(start, descriptor, events)

    def finish(
        self, start: Mapping[str, Any], descriptor: Mapping[str, Any], stop: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `AnnotationStore`."""
        return self._opened().finish(start, descriptor, stop)

    def let_go(self, uid: str) -> None:
        """See `AnnotationStore`."""
        if self._store is not None:
            self._store.let_go(uid)

    def close(self) -> None:
        """See `AnnotationStore`."""
        if self._store is not None:
            self._store.close()

    def _opened(self) -> AnnotationStore:
        if self._store is None:
            try:
                self._store = store_of(self._catalog)
            except StoreUnavailableError:
                raise
            except SettingsError as error:
                raise StoreRefusedError(str(error), everything=True) from error
        return self._store


def store_now_or_later(catalog: Any) -> AnnotationStore | LaterStore:
    """Return the store of a Tiled client's catalog; where its server is away, one that is opened later.

    Raises
    ------
    SettingsError
        As `AnnotationStore`.
    """
    if isinstance(catalog, LaterCatalog):
        return LaterStore(catalog)
    try:
        return store_of(catalog)
    except StoreUnavailableError:
        return LaterStore(catalog)


def store_of(catalog: Any) -> AnnotationStore:
    """Return the store of a Tiled client's catalog, or of an address.

    Raises
    ------
    SettingsError
        As `AnnotationStore` and `connect`.
    StoreUnavailableError
        When nobody answers.
    """
    client = connect(catalog.uri) if isinstance(catalog, LaterCatalog) else catalog
    with told_apart(f"looking for the place of annotations beside {getattr(client, 'uri', client)}"):
        return AnnotationStore(client)
