"""Which number each frame of a data key has, whatever order it is announced in, and which were never announced."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Ranges:
    """Integers from 0, kept as merged half-open ranges."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    @property
    def stop(self) -> int:
        """One past the highest; 0 where there are none."""
        return self._stops[-1] if self._stops else 0

    def add(self, start: int, stop: int) -> list[range]:
        """Add those from `start` to before `stop`; return those among them that were not there."""
        news = self.missing(start, stop)
        if news:
            first = bisect_left(self._stops, start)
            last = bisect_right(self._starts, stop)
            if first < last:
                start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
            self._starts[first:last], self._stops[first:last] = [start], [stop]
        return news

    def missing(self, start: int, stop: int) -> list[range]:
        """Return those from `start` to before `stop` that are not there."""
        found = []
        for place in range(bisect_right(self._stops, start), len(self._starts)):
            if start >= stop or self._starts[place] >= stop:
                break
            if start < self._starts[place]:
                found.append(range(start, self._starts[place]))
            start = max(start, self._stops[place])
        if start < stop:
            found.append(range(start, stop))
        return found

    def count_below(self, stop: int) -> int:
        """Return how many there are before `stop`."""
        place = bisect_left(self._starts, stop)
        pairs = zip(self._starts[:place], self._stops[:place], strict=True)
        return sum(min(end, stop) - start for start, end in pairs)


class Numbering:
    """Numbers the frames of one data key of one stream from 0, each number once."""

    def __init__(self) -> None:
        self._taken = Ranges()

    @property
    def count(self) -> int:
        """One past the highest number."""
        return self._taken.stop

    def following(self, count: int) -> int:
        """Give the next `count` frames their numbers; return the first."""
        first = self.count
        self._taken.add(first, first + count)
        return first

    def at(self, first: int, count: int) -> int:
        """Give `count` frames their numbers from `first` on; return the first.

        Where one of these is taken by another frame they are the next that follow: a frame without its own number
        is better than none.
        """
        if sum(map(len, self._taken.missing(first, first + count))) < count:
            return self.following(count)
        self._taken.add(first, first + count)
        return first

    def lost(self, *, behind: int = 0) -> list[range]:
        """Return the numbers that nobody has, `behind` or more below the highest; from now on they are taken."""
        found = self._taken.missing(0, self.count - behind)
        for numbers in found:
            self._taken.add(numbers.start, numbers.stop)
        return found
