"""Annotates raw runs that a Tiled catalog keeps: their documents made again, their rows made better."""
