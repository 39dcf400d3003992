"""What people say of frames, beside the rows that a model has written of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from dvfb_stream.catalog.corrections import by_frame, corrections_of, stated_labels
from dvfb_stream.catalog.corrections.correction import labels_with

Said = dict[str, tuple[list[int], list[int]]]
"""By label: the rows that have it, and those that have not."""


class WhatPeopleSay:
    """The corrections beside a container of analysis runs.

    Parameters
    ----------
    container
        Tiled client of it; None: nobody is asked.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """

    def __init__(self, container: Any | None) -> None:
        self._of_frames: dict[tuple[str, str, str], dict[int, dict[str, bool]]] = {}
        for origin, corrections in by_frame(
            corrections_of(container) if container is not None else ()
        ).items():
            of_run = self._of_frames.setdefault((origin.run_uid, origin.stream, origin.data_key), {})
            of_run[origin.index] = stated_labels(corrections)

    def spoke_of(self, runs: pyarrow.Table) -> NDArray[np.bool_]:
        """Return of which runs they spoke."""
        if not self._of_frames:
            return np.zeros(runs.num_rows, np.bool_)
        return np.array([frames in self._of_frames for frames in _frames_of(runs)], np.bool_)

    def corrected(
        self, labels: Any, frames: NDArray[np.int64], runs: pyarrow.Table, numbers: NDArray[np.int64]
    ) -> Any:
        """Return the labels of rows, with commas, as people have them: an array of Arrow.

        Parameters
        ----------
        labels, frames
            What the model accepted, with commas or null, and the frame of each row.
        runs, numbers
            Which of `runs` each is of.
        """
        rows = np.flatnonzero(self.spoke_of(runs)[numbers])
        if not len(rows):
            return labels
        keys, texts = _frames_of(runs), labels.to_pylist()
        for row in rows:
            said = self._of_frames[keys[numbers[row]]].get(int(frames[row]))
            if said:
                texts[row] = ",".join(labels_with((texts[row] or "").split(","), said))
        return pyarrow.chunked_array([pyarrow.array(texts, pyarrow.string())])

    def of_rows(
        self,
        rows: pyarrow.Table,
        counts: NDArray[np.int64],
        runs: pyarrow.Table,
        numbers: NDArray[np.int64],
    ) -> Said:
        """Return what they say of rows.

        Parameters
        ----------
        rows
            With the column ``frame``; those of one run follow one another in the order of their frames.
        counts
            Rows of each run.
        runs, numbers
            Which of `runs` each is; -1: none.
        """
        said: Said = {}
        if not self._of_frames:
            return said
        frames, first = rows["frame"].to_numpy(), np.cumsum([0, *counts])
        keys = _frames_of(runs)
        for place, number in enumerate(numbers):
            of_run = self._of_frames.get(keys[number]) if number >= 0 else None
            for frame, labels in (of_run or {}).items():
                row = first[place] + np.searchsorted(frames[first[place] : first[place + 1]], frame)
                if row < first[place + 1] and frames[row] == frame:
                    for label, has in labels.items():
                        said.setdefault(label, ([], []))[0 if has else 1].append(int(row))
        return said


def _frames_of(runs: pyarrow.Table) -> list[tuple[str, str, str]]:
    columns = (runs[name].to_pylist() for name in ("parent", "stream", "data_key"))
    return list(zip(*columns, strict=True))
