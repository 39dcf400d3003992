"""When what was not stored is tried again. Pure: the clock and the chance are given."""

from __future__ import annotations

from dataclasses import dataclass

from dvfb_stream.errors import check_at_least


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How rows are handed to a store, and how often it is asked again while it does not take them.

    Raises
    ------
    SettingsError
        When a bound is not positive.
    """

    batch_size: int = 64
    """Most rows in one call. A call takes 50 ms with 1 row as with 64."""
    max_age: float = 0.4
    """Seconds that a row waits for others to make a batch: with the call it is visible within one second."""
    first_pause: float = 0.5
    """Seconds until the first repetition of a call that failed; each further pause is twice as long."""
    longest_pause: float = 30.0
    """Seconds: how late it is noticed at most that a store is there again."""
    refused_pause: float = 60.0
    """Seconds between attempts while the store lets us write nothing at all: somebody has to mend a key."""
    most_faults: int = 8
    """Times that one run's call may fail in a way that nobody foresaw until the run is quarantined; two minutes."""
    most_faults_alone: int = 20
    """Times that the server may fail over one run (HTTP 5xx), with others stored between each two, until that run is
    quarantined; eight minutes. More than above: a server that is overloaded fails, too, and not over all calls."""

    def __post_init__(self) -> None:
        check_at_least(
            1,
            batch_size=self.batch_size,
            most_faults=self.most_faults,
            most_faults_alone=self.most_faults_alone,
        )
        check_at_least(
            0,
            max_age=self.max_age,
            first_pause=self.first_pause,
            longest_pause=self.longest_pause,
            refused_pause=self.refused_pause,
        )

    def pause(self, failures: int, chance: float) -> float:
        """Return the seconds until the next attempt after `failures` in a row.

        Parameters
        ----------
        failures
            From 1.
        chance
            0 to 1, drawn anew each time: many processes must not come back to a server at once. Takes up to a
            quarter off.
        """
        longest = min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 60))
        return longest * (1.0 - 0.25 * chance)
