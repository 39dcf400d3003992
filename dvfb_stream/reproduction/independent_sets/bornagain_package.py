"""BornAgain, which computes scattering at grazing incidence, where it is installed."""

from __future__ import annotations

from typing import Any

from dvfb_stream.errors import MissingExtraError


def bornagain() -> Any:
    """Return the package.

    Raises
    ------
    MissingExtraError
        When it is not installed.
    """
    try:
        import bornagain as package
    except ImportError:
        raise MissingExtraError("bornagain", "grazing") from None
    return package
