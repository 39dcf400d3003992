"""Text from elsewhere, as rows, documents and logs may hold it: of bounded length, and printable."""

from __future__ import annotations

import hashlib

MOST_CHARACTERS = 1_000
"""Of a reason or a remark. A sentence about a file has two hundred; a path, which is in it, 4,096 at most."""

MOST_OF_A_NAME = 256
"""Characters of a uid, or of the name of a stream or data key: several times what any beamline has."""

REPLACEMENT = "\ufffd"
"""Stands for a character that cannot be printed: a NUL, which PostgreSQL refuses, or half of a pair, which is no
text."""


def printable(text: str, most: int = MOST_CHARACTERS) -> str:
    r"""Return text in which each character can be printed, and which has `most` of them at most.

    White space becomes blanks, whatever else is not printable `REPLACEMENT`. Of text that is too long the beginning
    and the end are left, for a sentence about a long name says at its end what is wrong, and how long it was. The
    same text gives the same.

    >>> printable("a\x00b\nc")
    'a�b c'
    >>> printable("x" * 1000 + " is not there", 60)
    'xxxxxxxxxxx ... (1013 characters) ... xxxxxxxxx is not there'
    """
    if len(text) > most:
        cut = f" ... ({len(text)} characters) ... "
        left = max(0, most - len(cut))
        end = left - left // 3
        text = f"{_cleaned(text[: left // 3])}{cut}{_cleaned(text[len(text) - end :])}"[:most]
    return text if text.isprintable() else _cleaned(text)


def name_of(text: str) -> str:
    """Return a name as `printable` of `MOST_OF_A_NAME` characters; where it was changed, with a digest of the whole.

    So two names that differ still do.
    """
    if len(text) <= MOST_OF_A_NAME and text.isprintable():
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{printable(text, MOST_OF_A_NAME - 1 - len(digest))} {digest}"


def _cleaned(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c.isspace() else REPLACEMENT for c in text)
