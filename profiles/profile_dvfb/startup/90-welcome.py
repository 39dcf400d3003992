"""What to type, and the names to type it with."""
# These files run one after another in one namespace, so names come from those before.
# ruff: noqa: F821
# mypy: ignore-errors

from bluesky import plan_stubs as bps  # noqa: F401
from bluesky import plans as bp  # noqa: F401

from dvfb_stream.catalog import find_doubtful_runs, find_frames, find_runs, read_annotations  # noqa: F401
from dvfb_stream.profiles.welcome import welcome

print(welcome(beamline, catalog))  # noqa: T201
