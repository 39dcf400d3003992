"""Lines of a daemon's log: for people, or a JSON object each with the run, partition, offset and file it is about."""

from __future__ import annotations

import json
import logging
import time
from enum import StrEnum

from dvfb_stream.log_facts import FACTS, known_facts

PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"
CHATTY = ("httpx", "kafka", "numexpr", "tiled", "websockets")
"""Libraries with a line for each request and each heartbeat, which say nothing that a beamline wants to keep."""


class LogFormat(StrEnum):
    """How a line of the log looks."""

    PLAIN = "plain"
    """For people."""
    JSON = "json"
    """One JSON object: ``time`` (UTC), ``level``, ``logger``, ``message``, facts of `FACTS` where they are known, and
    ``exception`` with the traceback."""


class JsonLines(logging.Formatter):
    """Writes a record of the log as one JSON object on one line.

    What a call gives as `extra`, by a name of `FACTS`, has precedence over what its thread knows.

    Parameters
    ----------
    worker
        Number of this process among several; None: it is alone.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        known = known_facts()
        for fact in FACTS:
            value = getattr(record, fact, known.get(fact))
            if value is not None and value != "":
                line[fact] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr(log_format: LogFormat | str, *, worker: int | None = None) -> None:
    """Have this process log to stderr in that format, whatever was logged to before.

    Of several processes, `worker` is the number of this one, which each line has.
    """
    plain = PLAIN if worker is None else PLAIN.replace("%(name)s", f"worker {worker}: %(name)s")
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonLines(worker) if LogFormat(log_format) is LogFormat.JSON else logging.Formatter(plain)
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
