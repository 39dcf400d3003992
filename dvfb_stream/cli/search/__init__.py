"""``dvfb search``: raw runs and frames by what they show."""

from dvfb_stream.cli.search.command import search

__all__ = ["search"]
