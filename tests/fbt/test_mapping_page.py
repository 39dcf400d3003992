"""The page that maps the paper to functions names functions that exist, and leaves no equation or line out."""

import importlib
import re
from functools import reduce
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "fourier-bessel.md"

HOMES = ("dvfb_stream.fbt", "dvfb_stream.fbt.projection", "dvfb_stream.reproduction")
"""Where a name on the page may begin."""


def exists(name):
    """Whether a dotted name is a module below a home, or can be followed from one."""
    for home in HOMES:
        parts = name.split(".")
        for modules in range(len(parts), -1, -1):
            try:
                module = importlib.import_module(".".join([home, *parts[:modules]]))
                reduce(getattr, parts[modules:], module)
            except (ModuleNotFoundError, AttributeError):
                continue
            return True
    return False


def test_every_function_on_the_page_exists():
    names = {
        name
        for line in PAGE.read_text().splitlines()
        if line.startswith("|")
        for name in re.findall(r"`([A-Za-z_][\w.]*)`", line)
        if not name.startswith("np.")
    }
    assert len(names) > 25
    assert [name for name in names if not exists(name)] == []
    assert not exists("projection.nothing")


def test_every_equation_and_every_line_has_a_row():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12):
        assert any(f"({number})" in row.split("|")[1] for row in rows), number
    for line in range(1, 7):
        assert any(row.startswith(f"| {line} ") for row in rows), line
