"""Opens containers on a Tiled server, and refuses what is none."""

from __future__ import annotations

import logging
from typing import Any

import httpx

from dvfb_stream.catalog.api_key import (
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    api_key,
    goes_in_the_clear,
    without_key,
)
from dvfb_stream.catalog.store_errors import StoreUnavailableError
from dvfb_stream.errors import SettingsError

logger = logging.getLogger(__name__)


class CatalogAwayError(SettingsError, StoreUnavailableError):
    """Nobody answers at a catalog's address: it is wrong, or the server is away, and may come back."""


def connect(uri: str) -> Any:
    """Return a Tiled client of the container at `uri`.

    The API key is taken from ``TILED_API_KEY``, or from the file that ``TILED_API_KEY_FILE`` names, which must not be
    readable for everybody. The certificate of an https server is verified. A server that does not answer is tried for
    as long as Tiled's client is told to (``TILED_RETRY_TIMEOUT``).

    Raises
    ------
    SettingsError
        When nobody answers there (`CatalogAwayError`), what answers is not Tiled, it does not let us in, or the key's
        file is refused.
    """
    from tiled.client import from_uri

    key, address = api_key(), uri.partition("?")[0]
    if (key or "api_key=" in uri) and goes_in_the_clear(uri):
        logger.warning("the API key for %s can be read on its way there; use https", address)
    try:
        # One in the address has precedence, as with Tiled's own client.
        return from_uri(uri, api_key=None if "api_key=" in uri else key)
    except Exception as error:  # noqa: BLE001 - httpx's family, Tiled's, a RuntimeError where the key is missing
        reason = without_key(str(error).strip().partition("\n")[0], key) or type(error).__name__
        kind = CatalogAwayError if isinstance(error, httpx.TransportError | OSError) else SettingsError
        raise kind(
            f"the catalog {address} cannot be opened ({reason}); is the server running, and is {KEY_VARIABLE} or "
            f"{KEY_FILE_VARIABLE} set where it asks for a key?"
        ) from None  # whose traceback may have the address with the key in it


def check_container(client: Any) -> None:
    """Refuse what is no Tiled client of a container, such as its address.

    Raises
    ------
    SettingsError
        When it cannot be searched and written to.
    """
    if not (hasattr(client, "search") and hasattr(client, "create_container")):
        given, cure = client, "see connect"
        if isinstance(client, str):
            given = client.partition("?")[0]  # behind it may stand an API key
            cure = f"connect({given!r}) of dvfb_stream.catalog gives one"
        raise SettingsError(f"client must be a Tiled client of a container, not {given!r}; {cure}")
