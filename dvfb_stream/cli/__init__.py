"""The command ``dvfb``."""

from dvfb_stream.cli.app import main

__all__ = ["main"]
