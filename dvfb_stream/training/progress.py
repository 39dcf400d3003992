"""How a long run says on stderr how far it is."""

from __future__ import annotations

import sys
import time

SECONDS_BETWEEN_LINES = 10.0


class ProgressLines:
    """A line on stderr every ten seconds: enough for a log file, little enough for a terminal."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, line: str) -> None:
        """Write a line now."""
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        sys.stderr.flush()
        self._last = time.monotonic()

    def now_and_then(self, line: str) -> None:
        """Write a line unless one was written just now."""
        if time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self.say(line)
