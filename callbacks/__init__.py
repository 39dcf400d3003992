"""Bluesky documents in, analysis documents out: what a RunEngine and the Kafka daemon have in common."""

from __future__ import annotations

from dvfb_stream.callbacks.analysis_run import NAMESPACE
from dvfb_stream.callbacks.annotation_table import AnnotationTable
from dvfb_stream.callbacks.databroker_sink import DatabrokerSink
from dvfb_stream.callbacks.descriptor import GeometryProvider
from dvfb_stream.callbacks.live import LiveAnnotator
from dvfb_stream.callbacks.pipeline import AnnotationPipeline, PipelineStats
from dvfb_stream.callbacks.row_writer import Sink

__all__ = [
    "NAMESPACE",
    "AnnotationPipeline",
    "AnnotationTable",
    "DatabrokerSink",
    "GeometryProvider",
    "LiveAnnotator",
    "PipelineStats",
    "Sink",
]
