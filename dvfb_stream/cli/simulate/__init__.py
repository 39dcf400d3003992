"""``dvfb simulate``: labelled frames into a file."""
