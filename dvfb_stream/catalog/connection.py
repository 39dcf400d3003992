"""Opens containers on a Tiled server, and refuses what is none."""

from __future__ import annotations

from typing import Any

from dvfb_stream.errors import SettingsError


def connect(uri: str) -> Any:
    """Return a Tiled client of the container at `uri`; the API key is taken from ``TILED_API_KEY``.

    A server that does not answer is tried for as long as Tiled's client is told to (``TILED_RETRY_TIMEOUT``).

    Raises
    ------
    SettingsError
        When nobody answers there, what answers is not Tiled, or it does not let us in.
    """
    from tiled.client import from_uri

    try:
        return from_uri(uri)
    except Exception as error:  # httpx's family, Tiled's, and a RuntimeError where the key is missing
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SettingsError(
            f"the catalog {uri.partition('?')[0]} cannot be opened ({reason}); is the server running, and is "
            "TILED_API_KEY set where it asks for a key?"
        ) from error


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
