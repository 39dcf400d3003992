"""A beamline to try things on, and what a real one adds to its own start-up: simulated detector, IPython profile.

Its modules are imported one by one, so that ``dvfb profile`` need not load Bluesky and Tiled to print a path.
"""
