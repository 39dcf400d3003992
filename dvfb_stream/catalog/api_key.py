"""Where the API key of a Tiled server comes from: the environment, or a file that others cannot read."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

from dvfb_stream.errors import SettingsError

KEY_VARIABLE = "TILED_API_KEY"
"""Environment variable with the key; Tiled's own client reads the same one."""
KEY_FILE_VARIABLE = "TILED_API_KEY_FILE"
"""Environment variable with the name of a file that has the key in it, where the key itself is in none."""


def api_key() -> str | None:
    """Return the key; None where there is none.

    Raises
    ------
    SettingsError
        When the file cannot be read, is empty, or is one that every user of the machine may read.
    """
    named = os.environ.get(KEY_FILE_VARIABLE)
    if os.environ.get(KEY_VARIABLE) or not named:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        with Path(named).open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & stat.S_IRWXO:
                raise SettingsError(
                    f"every user of this machine may read or change the key in {named} (mode {mode:04o}): it is not "
                    f"used. chmod o= {named}, and ask for a new key where others may have seen it"
                )
            key = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise SettingsError(f"{KEY_FILE_VARIABLE} names {named}, which cannot be read: {reason}") from None
    if not key or len(key.split()) != 1:
        raise SettingsError(
            f"{KEY_FILE_VARIABLE} names {named}, in which there should be one key, and nothing else"
        )
    return key


_KEY = re.compile(r"(api_key=|[Aa]pikey\s+)[^\s&'\"<>]+")


def without_key(text: object, key: str | None = None) -> str:
    """Return a text, such as an error's, in one line and without the key that it, or an address in it, has."""
    line = _KEY.sub(r"\1...", " ".join(str(text).split()))
    return line.replace(key, "...") if key else line


def goes_in_the_clear(address: str) -> bool:
    """Return whether a key that is sent to `address` can be read on the way: no TLS, to another machine."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")
