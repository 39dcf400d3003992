"""The command ``dvfb``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit status.

    0: all is well; 1: something failed, said in one line on stderr each; 2: the command was called wrongly;
    130 and 143: ended by Ctrl-C or SIGTERM; 141: whoever read the output has gone.

    Parameters
    ----------
    arguments
        Words after ``dvfb``; None: those of the process.
    """
    import os

    from dvfb_stream.cli.process import INTERRUPTED, run_to_the_end

    def command() -> int:
        from dvfb_stream.cli.app import run

        return run(arguments)

    status = run_to_the_end(command)
    if status in INTERRUPTED:
        os._exit(status)  # at once: Python would first wait for threads, and take torch down
    raise SystemExit(status)


__all__ = ["main"]
