"""A copy of a container of analysis runs in this user's cache folder, brought up to date at each search."""

from dvfb_stream.catalog.mirror.mirror import Mirror

__all__ = ["Mirror"]
