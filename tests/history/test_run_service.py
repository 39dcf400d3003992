"""What a worker process does with one run after another."""

from collections import deque

import pytest

from dvfb_stream.history.report import HistoryReport
from dvfb_stream.history.run_service import RunService, Sign


class FailingOnce:
    """Annotates, but cannot begin the first time: the disk is full, for example."""

    def __init__(self):
        self.report = HistoryReport()
        self.failures = 1

    def annotate(self, uids):
        if self.failures:
            self.failures -= 1
            raise OSError("no space left on device")
        for uid in uids:
            self.report.runs += 1
            yield uid


def test_what_could_not_begin_begins_again_with_the_next_run():
    service = object.__new__(RunService)
    service._history, service._wanted, service._signs = FailingOnce(), deque(), [0] * len(Sign)
    service._done = service._begun()
    with pytest.raises(OSError, match="no space"):
        service.handle({"uid": "first"})
    for uid in ("second", "third"):
        assert service.handle({"uid": uid})["runs"] == 1
    assert service._signs[Sign.ANNOTATING] == 0
