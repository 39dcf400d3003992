"""``dvfb plot``: the paper's figures for any frame, and the panels that all figures of a frame share."""
