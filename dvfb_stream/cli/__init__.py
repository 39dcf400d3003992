"""The command ``dvfb``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit status; see `dvfb_stream.cli.app.main`."""
    from dvfb_stream.cli.app import main as run

    run(arguments)


__all__ = ["main"]
