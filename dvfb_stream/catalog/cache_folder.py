"""Where this user's copies of what a catalog holds lie: they spare requests, and may be deleted at any time."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

FOLDER_VARIABLE = "DVFB_CACHE"
"""Environment variable with the folder below which copies lie."""

_SERVED_FOLDER = "dvfb_served_folder"


def caches_folder() -> Path:
    """Return the folder below which each catalog has its own: `DVFB_CACHE`, or `~/.cache/dvfb_stream/catalogs`."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else user_cache_path("dvfb_stream") / "catalogs"


def cache_folder(client: Any) -> Path:
    """Return the folder for copies of what one container of a catalog holds; it is made, for this user alone.

    Any file in it may be gone, old or damaged: whoever keeps one there can make it anew from the catalog. Where an
    address is taken by another catalog, the folder stays: what is kept has to say what it was made of.

    Parameters
    ----------
    client
        Tiled client of the container: of raw runs, or of analysis runs; each has a folder of its own.

    Raises
    ------
    OSError
        When it cannot be made.
    """
    served = getattr(client.context, _SERVED_FOLDER, None)
    address = client.uri
    if served is not None:
        # A server of this process has another port each time.
        address = f"{served}/{'/'.join(part for part in client.path_parts if part)}"
    folder = caches_folder() / folder_name(address)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def remember_served_folder(client: Any, folder: Path) -> None:
    """Keep with a client, and those that are made of it, which folder its server serves."""
    setattr(client.context, _SERVED_FOLDER, folder.resolve())


def folder_name(address: str) -> str:
    """Return the name of a folder for the catalog at `address`, whatever key stands behind its question mark."""
    # Tiled's client writes two slashes before a container of the root, or one.
    address = re.sub(r"(?<!:)/+", "/", address.partition("?")[0]).rstrip("/")
    readable = re.sub(r"^https?://|/api/v1(/metadata)?", "", address)
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", readable).strip("-")
    return f"{readable[:60]}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"
