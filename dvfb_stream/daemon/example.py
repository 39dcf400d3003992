"""A configuration with every setting there is, for whoever writes one."""

from __future__ import annotations

from importlib.resources import files

NAME = "example.toml"


def example() -> str:
    """Return the text of a commented configuration, which is valid as it is."""
    return files("dvfb_stream.daemon").joinpath(NAME).read_text("utf-8")
