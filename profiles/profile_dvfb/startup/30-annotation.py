"""Live annotation of every run: a line a frame on the terminal, and analysis runs in the catalog."""
# These files run one after another in one namespace, so names come from those before.
# ruff: noqa: F821
# mypy: ignore-errors

from dvfb_stream.callbacks import AnnotationTable
from dvfb_stream.profiles.live import SECONDS_AT_EXIT, annotate_live

live = annotate_live(RE, beamline, catalog=catalog, detectors=geometries, sinks=[AnnotationTable()])
opened.callback(live.close, SECONDS_AT_EXIT)  # before the catalog, which was opened earlier
