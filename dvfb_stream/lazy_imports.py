"""Lets a package give out names whose modules are imported at their first use: torch and Tiled take seconds."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(package: str, file: str, *, extra: str | None = None) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` (PEP 562), which imports what its ``if TYPE_CHECKING:`` block names.

    One block of imports serves type checkers, editors and Python.

    Parameters
    ----------
    package, file
        ``__name__`` and ``__file__`` of the package.
    extra
        What to install where a module from elsewhere is missing: MissingExtraError says so.
    """

    @functools.cache
    def origins() -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        for block in ast.parse(Path(file).read_text(encoding="utf-8")).body:
            for line in block.body if isinstance(block, ast.If) else ():
                if isinstance(line, ast.ImportFrom) and line.module is not None:
                    found |= {name.asname or name.name: (line.module, name.name) for name in line.names}
        return found

    def get(name: str) -> Any:
        if name.startswith("__") or name not in origins():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, original = origins()[name]
        try:
            value = getattr(import_module(module), original)
        except ModuleNotFoundError as error:
            if extra is None or error.name is None or error.name.startswith("dvfb_stream"):
                raise
            from dvfb_stream.errors import MissingExtraError

            raise MissingExtraError(error.name, extra) from error
        setattr(import_module(package), name, value)
        return value

    return get
