"""Live annotation of every run: a line a frame on the terminal, and analysis runs in the catalog."""
# These files run one after another in one namespace, so names come from those before.
# ruff: noqa: F821
# mypy: ignore-errors

from dvfb_stream.callbacks import AnnotationTable
from dvfb_stream.profiles.live_session import annotate_live, close_with

live = annotate_live(RE, beamline, catalog=catalog, detectors=geometries, sinks=[AnnotationTable()])
close_with(live, opened)  # before the catalog, which was opened earlier
