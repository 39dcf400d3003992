"""Opens what the configuration names: the catalog of raw runs, and the position in it."""

from __future__ import annotations

from typing import Any

from dvfb_stream.annotations import ModelIdentity
from dvfb_stream.catalog.connection import CatalogAwayError, check_container, connect
from dvfb_stream.catalog.place import PLACE_SPEC
from dvfb_stream.catalog.spool import folder_for
from dvfb_stream.daemon.settings import DaemonSettings, TiledSourceSettings
from dvfb_stream.errors import SettingsError
from dvfb_stream.tiled_stream.position import Position


def open_catalog(settings: DaemonSettings) -> Any:
    """Return a Tiled client of the container of raw runs under ``source.tiled``.

    Raises
    ------
    SettingsError
        When it cannot be opened, or holds no raw runs; `CatalogAwayError` where nobody answers.
    """
    try:
        client = connect(_source(settings).uri)
        check_container(client)
    except CatalogAwayError as error:
        raise CatalogAwayError(f"source.tiled: {error}") from None
    except SettingsError as error:
        raise SettingsError(f"source.tiled: {error}") from None
    if PLACE_SPEC in {spec.name for spec in client.specs}:
        raise SettingsError(
            f"source.tiled: {_source(settings).uri} holds annotations; give the container of raw runs beside it"
        )
    return client


def open_position(settings: DaemonSettings, model: ModelIdentity) -> Position:
    """Return where the daemon goes on; another model has another position.

    Raises
    ------
    SettingsError
        When another daemon has it, or it cannot be kept.
    """
    source = _source(settings)
    if source.position is not None:
        return Position(source.position)
    beside = folder_for(source.uri)
    return Position(beside.with_name(f"{beside.name}-{model.sha256[:8]}.position.json"))


def _source(settings: DaemonSettings) -> TiledSourceSettings:
    if settings.source is None:
        raise SettingsError("the configuration has no [source.tiled]")
    return settings.source.tiled
