"""Numbers that bound what documents leave behind, each beside its reason."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from dvfb_stream.callbacks import (
    document_fields,
    paths,
    pending_documents,
    pipeline,
    raw_run,
    resources,
    runs,
)
from dvfb_stream.callbacks.document_fields import size_of
from dvfb_stream.callbacks.pixel_reader import PixelReader
from dvfb_stream.callbacks.runs import RunTracker

MEGABYTE = 1 << 20

UNREAD = inspect.signature(PixelReader).parameters["max_pending"].default
"""Frames that may wait to be read."""


def test_each_frame_that_may_wait_to_be_read_has_its_event_and_its_datum():
    assert raw_run.MOST_EVENTS == UNREAD
    assert resources.MOST_DATUMS == 2 * UNREAD
    assert document_fields.MAX_FRAMES_IN_A_DOCUMENT == UNREAD  # one document may fill the reader, none more


def test_resources_and_datums_of_usual_size_are_bounded_by_number_and_not_by_bytes():
    kwargs = {"point_number": 12345}
    datum = size_of(kwargs) + len("12345678-1234-1234-1234-123456789abc/12345")
    assert 1 < resources.MOST_BYTES / (datum * resources.MOST_DATUMS) < 4
    template = {"template": "%s%s_%6.6d.tiff", "filename": "12345678-1234-1234-1234-123456789abc"}
    resource = size_of(template | {"frame_per_point": 1}) + 100
    assert resource * resources.MOST_RESOURCES < resources.MOST_BYTES


def test_the_first_seconds_of_a_detector_of_four_megapixels_may_wait():
    frames = pending_documents.MOST_BYTES / (4 * MEGABYTE * np.dtype(np.uint32).itemsize)
    assert frames == 4
    assert pending_documents.MOST_DOCUMENTS * 6 * 1024 < pending_documents.MOST_BYTES  # events without images


def test_rows_of_fewer_frames_than_a_backlog_holds_wait_for_one_that_was_not_announced():
    max_rows = inspect.signature(pipeline.AnnotationPipeline).parameters["max_rows"].default
    assert max_rows == raw_run.ANNOUNCED_AHEAD


def test_memory_and_not_a_number_bounds_the_open_runs():
    start = {"uid": "12345678-1234-1234-1234-123456789abc", "plan_args": {"number": list(range(100))}}
    data_keys = {
        f"motor {number}": {"dtype": "number", "shape": [], "source": "EPICS"} for number in range(50)
    }
    run = raw_run._RUN_BYTES + size_of(start) + size_of({"data_keys": data_keys})
    most = inspect.signature(RunTracker).parameters["max_open_runs"].default
    assert 5_000 < runs.MOST_BYTES / run < 20_000 < most


@pytest.mark.parametrize("width", [paths.MOST_DIGITS, 99])
def test_no_template_makes_a_name_longer_than_the_largest_number_needs(width):
    assert len(str(2**64 - 1)) == paths.MOST_DIGITS
    assert len(paths.file_name(f"{{:0{width}d}}", 7)) == paths.MOST_DIGITS
