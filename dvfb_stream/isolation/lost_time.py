"""How long a file may keep everybody waiting for nothing: one that hangs has a thousand frames, and each would."""

from __future__ import annotations

from dataclasses import dataclass

from dvfb_stream.bounded_cache import BoundedCache

MOST_KNOWN = 10_000
"""Files and runs; of more, those that were read last."""

FILES_OF_A_RUN = 3
"""Files whose time a run may lose; then its reads have `SHORT` seconds each, and after twice as much none is made."""

SHORT = 1.0
"""Seconds: a hundred times what a frame takes."""


@dataclass(frozen=True, slots=True)
class _Loss:
    seconds: float
    why: str


class LostTime:
    """Counts the seconds of reads that gave nothing, for each file of each run; for one thread.

    Parameters
    ----------
    most
        Seconds that a file may lose of a run.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._lost = BoundedCache[tuple[str, str], _Loss](
            MOST_KNOWN
        )  # by run and file; "" stands for all files

    def lose(self, run: str, path: str, seconds: float, why: str) -> None:
        """Count what a read has taken that failed."""
        for file in (path, ""):
            known = self._lost.get((run, file))
            self._lost.put((run, file), _Loss(seconds + (known.seconds if known is not None else 0.0), why))

    def refusal(self, run: str, path: str) -> str:
        """Return why a file is not read any more for a run; empty as long as it is."""
        for file, most in ((path, self._most), ("", 2 * FILES_OF_A_RUN * self._most)):
            lost = self._lost.get((run, file))
            if lost is not None and lost.seconds >= most:
                what = "it is" if file else "files are"
                after = f"after {lost.seconds:.0f} s that gave nothing"
                return f"{what} not read any more for this run, {after}: {lost.why}"
        return ""

    def seconds_for(self, run: str) -> float | None:
        """Return how long a read may take for a run; None: as long as any."""
        lost = self._lost.get((run, ""))
        return SHORT if lost is not None and lost.seconds >= FILES_OF_A_RUN * self._most else None

    def forget(self, run: str) -> None:
        """Forget a run that has ended."""
        of_run = [known for known in self._lost.keys() if known[0] == run]  # noqa: SIM118 - it is no dict
        for known in of_run:
            self._lost.pop(known)
