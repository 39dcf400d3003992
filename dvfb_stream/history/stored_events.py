"""The events of a stream, as the rows of its table in Tiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class StoredEvents:
    """Events that are known, in the order of the documents; more may come, none goes."""

    numbers: list[int] = field(default_factory=list)
    """`seq_num` of each."""
    times: list[float] = field(default_factory=list)
    """Seconds since 1970."""
    data: list[dict[str, Any]] = field(default_factory=list)
    """What lies in the table; images lie beside it."""
    _known: set[tuple[int, float]] = field(default_factory=set)
    _with: dict[str, list[int]] = field(default_factory=dict)
    """Positions of the events that have a data key."""

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, rows: Any) -> None:
        """Take the rows of a pandas table that are new.

        TiledWriter sends rows again whose answer was lost: the same number at the same time is one event.
        """
        rows = rows.sort_values("time", kind="stable")
        kept = [name for name in rows if name not in ("seq_num", "time") and not name.startswith("ts_")]
        stamped = [name for name in rows if name.startswith("ts_")]
        has = {name.removeprefix("ts_"): rows[name].notna().to_list() for name in stamped}
        numbers, times = rows["seq_num"].astype(int).to_list(), rows["time"].astype(float).to_list()
        for n, row in enumerate(rows[kept].to_dict("records")):
            if (numbers[n], times[n]) in self._known:
                continue
            for key, of_rows in has.items():
                if of_rows[n]:
                    self._with.setdefault(key, []).append(len(self))
            self._known.add((numbers[n], times[n]))
            self.data.append({key: value for key, value in row.items() if value is not None})
            self.times.append(times[n])
            self.numbers.append(numbers[n])

    def with_key(self, key: str) -> Sequence[int]:
        """Return the positions of the events with a data key that lies beside the table; all, if none says so."""
        return self._with.get(key) or range(len(self))
