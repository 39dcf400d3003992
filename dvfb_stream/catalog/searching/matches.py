"""Answers a question: for which frames of which runs it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute as compute
from numpy.typing import NDArray

from dvfb_stream.catalog.expression import Expression
from dvfb_stream.catalog.expression.bounds import bounds_of
from dvfb_stream.catalog.expression.evaluation import evaluate
from dvfb_stream.catalog.expression.syntax import Quantity, labels_of, parts_of
from dvfb_stream.catalog.mirror import Mirror
from dvfb_stream.catalog.mirror.mirror import Progress, RowsOfRuns
from dvfb_stream.catalog.mirror.rows import KeptRows, columns_of
from dvfb_stream.catalog.mirror.runs import RunSummaries
from dvfb_stream.catalog.searching.people import WhatPeopleSay
from dvfb_stream.catalog.searching.question import COPIED, Question, Source, chosen
from dvfb_stream.catalog.searching.raw_runs_that_say import raw_runs_that_say

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FramesOfFile:
    """Frames in one file of rows for which something holds."""

    file: RowsOfRuns
    at: Counts
    """Where they are in the file."""
    run: Counts
    """Of each, its run among those that were asked about."""


class Matches:
    """The analysis runs of one container about which something is asked, and the frames of theirs.

    Parameters
    ----------
    container
        Tiled client of it.
    asked
        The question.
    progress
        Is told of what takes time.

    Raises
    ------
    Exception
        What Tiled's client raises.
    """

    def __init__(self, container: Any, asked: Question, progress: Progress | None = None) -> None:
        self._asked, self._container = asked, container
        self._mirror = Mirror(container, progress)
        runs = chosen(self._mirror.runs(), asked)
        if others := {
            name: value for name, value in asked.raw.items() if name.partition(".")[0] not in COPIED
        }:
            uids = raw_runs_that_say(container, others)
            runs = runs.filter(compute.is_in(runs["parent"], pyarrow.array(uids, pyarrow.string())))
        self.about: pyarrow.Table = runs.combine_chunks()
        """Runs that are looked at."""
        self.people = WhatPeopleSay(container if asked.source is Source.HUMAN else None)
        """Whose labels win over the model's."""

    def runs(self, *, exact: bool = False) -> tuple[pyarrow.Table, Counts]:
        """Return the runs with enough frames, and how many those are at least; with `exact`, how many they are.

        Rows are read of those runs alone that their summary does not decide.
        """
        return self._mirror.mended(lambda: self._runs(exact=exact))

    def _runs(self, *, exact: bool) -> tuple[pyarrow.Table, Counts]:
        expression, runs = self._asked.expression, self.about
        summaries = RunSummaries(runs)
        if expression is None:
            counts = summaries.frames
        else:
            counts, most = self._bounds(runs, expression)
            undecided = self._are_enough(most, summaries) & (
                ~self._are_enough(counts, summaries) | (exact & (counts < most))
            )
            for part in self._frames(runs.filter(pyarrow.array(undecided)), expression):
                numbers = np.flatnonzero(undecided)[part.run]
                found = np.bincount(numbers, minlength=len(counts))
                counts = np.where(found > 0, found, counts)
        enough = self._are_enough(counts, summaries)
        return runs.filter(pyarrow.array(enough)), counts[enough]

    def frames(self) -> list[FramesOfFile]:
        """Return the frames for which the question holds, of the runs that have enough of them."""
        return self._mirror.mended(lambda: list(self._frames_of_enough()))

    def _frames_of_enough(self) -> Iterator[FramesOfFile]:
        runs, expression = self.about, self._asked.expression
        if expression is not None:
            _, most = self._bounds(runs, expression)
            runs = runs.filter(pyarrow.array(self._are_enough(most, RunSummaries(runs))))
        self.about = runs
        summaries = RunSummaries(runs)
        for part in self._frames(runs, expression):
            enough = self._are_enough(np.bincount(part.run, minlength=runs.num_rows), summaries)
            keep = enough[part.run]
            yield FramesOfFile(part.file, part.at[keep], part.run[keep])

    def _are_enough(self, counts: Counts, summaries: RunSummaries) -> NDArray[np.bool_]:
        """Return which runs have enough frames, where the expression holds for `counts` of them."""
        # Divided, as `fraction(...)` in an expression is: 0.55 * 100 is more than 55.
        shares = counts / np.maximum(summaries.annotated, 1)
        enough: NDArray[np.bool_] = (counts >= self._asked.min_frames) & (shares >= self._asked.fraction)
        return enough

    def _bounds(self, runs: pyarrow.Table, expression: Expression) -> tuple[Counts, Counts]:
        """Return for how many frames of each run the expression holds at least, and at most."""
        summaries = RunSummaries(runs)
        holds = bounds_of(expression, summaries).holds
        # A summary knows nothing of what people say.
        corrected = self.people.spoke_of(runs)
        return np.where(corrected, 0, holds.least), np.where(corrected, summaries.frames, holds.most)

    def _frames(self, runs: pyarrow.Table, expression: Expression | None) -> Iterator[FramesOfFile]:
        for file in self._mirror.rows(runs):
            number = compute.index_in(file.keys, value_set=runs["rows_key"].combine_chunks())
            wanted = number.is_valid().to_numpy(zero_copy_only=False)
            numbers = number.fill_null(0).to_numpy()
            if wanted.any():
                holds = self._holding(file, wanted, runs, numbers, expression)
                at = np.flatnonzero(holds)
                of_row = np.repeat(numbers, file.counts)
                yield FramesOfFile(file, at, of_row[at].astype(np.int64))

    def _holding(
        self,
        file: RowsOfRuns,
        wanted: NDArray[np.bool_],
        runs: pyarrow.Table,
        numbers: NDArray[np.int32],
        expression: Expression | None,
    ) -> NDArray[np.bool_]:
        is_wanted: NDArray[np.bool_] = np.repeat(wanted, file.counts)
        if expression is None:
            return is_wanted
        table = file.parquet.read(columns_of(names_in(expression)))
        said = self.people.of_rows(table, file.counts, runs, np.where(wanted, numbers, -1))
        rows = KeptRows(table, file.counts, runs["labels"].take(pyarrow.array(numbers)), said)
        return evaluate(expression, rows).holds & is_wanted


def names_in(expression: Expression) -> list[str]:
    """Return the columns of numbers that an expression names."""
    quantities = [part.name for part in parts_of(expression) if isinstance(part, Quantity)]
    return [*labels_of(expression), *quantities]
