"""The family of exceptions; each message names the offending value and the cure."""

from __future__ import annotations

import math
import numbers


class DvfbError(Exception):
    """Anything that dvfb_stream refuses; the message can be shown to a user as it is."""


class GeometryError(DvfbError):
    """A shape, beam centre or mask that no frame can have, or under which nothing is visible."""


class FrameError(DvfbError):
    """Pixels that cannot be annotated: wrong shape or type, too large, nothing valid."""


class NotThereYetError(FrameError):
    """Pixels that cannot be read now, but may be later: their file is late, or has not grown as far."""


class BundleError(DvfbError):
    """A model bundle that is missing, incomplete, altered or of an unknown format."""


class SettingsError(DvfbError):
    """A setting out of range, or one that does not exist."""


class RefusedDocumentError(DvfbError):
    """A document that a sink will not take as it is: given again, it is refused again. Other documents it takes."""


class MissingExtraError(DvfbError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'dvfb-stream[{extra}]'")
        self.package = package
        self.extra = extra


def check_at_least(least: float, **settings: object) -> None:
    """Refuse settings that are below `least`, infinite, or no numbers at all.

    Raises
    ------
    SettingsError
        With the name and the value of the first.
    """
    for name, value in settings.items():
        number = float(value) if isinstance(value, numbers.Real) else math.nan
        if not least <= number < math.inf:
            raise SettingsError(f"{name} must be a number of at least {least:g}, not {value!r}")
