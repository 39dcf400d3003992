"""Frames that a scientist has labelled: the table that says so, and the frames it names."""
