"""Makes the notebook of "Finding your data" from its page, so that the two say the same.

    python docs/notebook.py

Texts of the page become cells of text, its lines of Python cells of code with what they show. A test runs the lines
of the page, and compares the notebook with it.
"""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("finding.md")
NOTEBOOK = PAGE.with_suffix(".ipynb")


def notebook_of(page: str) -> dict[str, Any]:
    """Return the notebook of a page, as nbformat 4.5 lays it out."""
    cells: list[dict[str, Any]] = []
    for text, language, code in _parts(page):
        if text.strip():
            cells.append({"cell_type": "markdown", "metadata": {}, "source": _lines(text.strip())})
        if language == "python":
            cells.append(_code(code.strip()))
        elif language == "pycon":
            cells += map(_example, doctest.DocTestParser().get_examples(code))
        elif language is not None:
            cells.append(
                {"cell_type": "markdown", "metadata": {}, "source": _lines(f"```{language}\n{code}```")}
            )
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def written(notebook: dict[str, Any]) -> str:
    """Return the text of a notebook's file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _parts(page: str) -> list[tuple[str, str | None, str]]:
    """Return texts, each with the language and the lines of the block behind it."""
    found, at = list[tuple[str, str | None, str]](), 0
    for block in re.finditer(r"```(\w*)\n(.*?)```", page, re.DOTALL):
        found.append((page[at : block.start()], block[1], block[2]))
        at = block.end()
    return [*found, (page[at:], None, "")]


def _example(one: doctest.Example) -> dict[str, Any]:
    if one.exc_msg is not None:
        name, _, said = one.exc_msg.strip().partition(": ")
        shown = {"output_type": "error", "ename": name, "evalue": said, "traceback": one.want.splitlines()}
    elif one.want:
        text = {"text/plain": _lines(one.want.rstrip("\n"))}
        shown = {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": text}
    else:
        return _code(one.source)
    return _code(one.source, shown)


def _code(source: str, *shown: dict[str, Any]) -> dict[str, Any]:
    cell = {"cell_type": "code", "execution_count": None, "metadata": {}}
    return {**cell, "source": _lines(source.rstrip("\n")), "outputs": list(shown)}


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    NOTEBOOK.write_text(written(notebook_of(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
