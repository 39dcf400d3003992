"""A line of the log says of which run, partition, offset and file it speaks, where that is known."""

import json
import logging
import threading

import pytest

from dvfb_stream.daemon.log_lines import JsonLines
from dvfb_stream.log_facts import known_facts, log_facts


@pytest.fixture
def lines():
    """Lines that the logger under test has written, as JSON."""
    written = []

    class Keep(logging.Handler):
        def emit(self, record):
            written.append(json.loads(self.format(record)))

    logger, keep = logging.getLogger("dvfb_stream.tests.lines"), Keep()
    keep.setFormatter(JsonLines())
    logger.addHandler(keep)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(keep)


def test_a_line_has_the_facts_that_its_thread_knows(lines):
    logger, written = lines
    with log_facts(topic="raw", partition=3), log_facts(offset=17, run="a1"):
        logger.warning("left out: %s", "no shape")
    logger.warning("outside")
    assert written[0].items() >= {
        "level": "WARNING", "logger": "dvfb_stream.tests.lines", "message": "left out: no shape",
        "topic": "raw", "partition": 3, "offset": 17, "run": "a1",
    }.items()  # fmt: skip
    assert written[0]["time"].endswith("Z")
    assert not {"topic", "partition", "offset", "run"} & set(written[1])


def test_what_a_call_says_goes_before_what_its_thread_knows(lines):
    logger, written = lines
    with log_facts(run="a1", file="x.h5"):
        logger.warning("w", extra={"file": "y.h5"})
    assert (written[0]["run"], written[0]["file"]) == ("a1", "y.h5")


def test_facts_of_one_thread_are_not_those_of_another():
    seen = []
    with log_facts(run="a1"):
        thread = threading.Thread(target=lambda: seen.append(dict(known_facts())))
        thread.start()
        thread.join()
    assert seen == [{}]


def test_a_traceback_and_line_breaks_stay_on_one_line(lines):
    logger, written = lines
    try:
        raise ValueError("a\nb")
    except ValueError:
        logger.exception("failed\nhere \u2028 \x00")
    assert written[0]["message"] == "failed\nhere \u2028 \x00"
    assert "ValueError: a\nb" in written[0]["exception"]
    record = logging.LogRecord("n", logging.INFO, "p", 1, "a\nb\u2028", (), None)
    assert len(JsonLines().format(record).splitlines()) == 1
