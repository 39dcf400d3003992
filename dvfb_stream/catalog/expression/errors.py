"""The error of an expression, which points at its place."""

from __future__ import annotations

from dvfb_stream.errors import SettingsError

_EXAMPLE = "four_fold >= 0.9 and not halo"
_WIDEST = 60
"""Characters of the line that are shown on either side of the place."""


class ExpressionError(SettingsError):
    """An expression that cannot be understood.

    Attributes
    ----------
    line, column
        Where, both from 1.
    pointer
        Two lines: the line of the expression, and below it a caret at the place.
    """

    def __init__(self, text: str, position: int, why: str) -> None:
        before = text[:position]
        self.line = before.count("\n") + 1
        first = before.rfind("\n") + 1
        self.column = position - first + 1
        line = text[first:].partition("\n")[0]
        # What moves the cursor otherwise, or makes a terminal do things, is shown as a space.
        shown = "".join(character if character.isprintable() else " " for character in line)
        start = max(0, self.column - 1 - _WIDEST)
        part = shown[start : self.column - 1 + _WIDEST]
        self.pointer = f"{part}\n{' ' * _width(part[: self.column - 1 - start])}^"
        self.why = why
        super().__init__(
            f"the expression cannot be understood at line {self.line}, column {self.column}: {why}; an example: "
            f"{_EXAMPLE}\n{self.pointer}"
        )


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    from rich.cells import cell_len

    return cell_len(text)
