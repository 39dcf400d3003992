"""Finds the runs, detectors and rows that corrections are about, and gathers what is wrong with any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from dvfb_stream.catalog.answers import told_apart
from dvfb_stream.catalog.corrections.correction import ModelRow
from dvfb_stream.catalog.corrections.model_rows import (
    Analysis,
    FoundRows,
    analyses_of,
    chosen,
    rows_of_frames,
)
from dvfb_stream.catalog.corrections.wanted import CorrectionsRefusedError, WantedCorrection, checked
from dvfb_stream.catalog.raw_runs import raw_uid_of
from dvfb_stream.errors import SettingsError

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


class Finding:
    """Looks for what corrections are about.

    Parameters
    ----------
    client
        Tiled client of the container of raw runs.
    tell
        Told how far it is.
    """

    def __init__(self, client: Any, tell: Progress) -> None:
        self._client, self._tell = client, tell
        self._problems: list[tuple[int | None, str]] = []

    def found(self, wanted: Sequence[WantedCorrection]) -> list[tuple[WantedCorrection, Analysis, ModelRow]]:
        """Return each with its analysis run and row.

        Raises
        ------
        CorrectionsRefusedError
            When something is wrong with any.
        """
        sound = self._each(wanted, checked)
        uids, analyses = self._runs({one.run: one for one in sound}.values())
        known = [one for one in sound if one.run in uids]
        analysis_of = self._each(
            known,
            lambda one: (
                one,
                chosen(
                    uids[one.run],
                    analyses.get(uids[one.run], []),
                    stream=one.stream,
                    data_key=one.data_key,
                    model=one.model,
                ),
            ),
        )
        self._refuse_frames_said_twice(analysis_of)
        found = self._rows(analysis_of)
        if self._problems:
            raise CorrectionsRefusedError(sorted(self._problems, key=lambda problem: problem[0] or 0))
        return found

    def _each(self, wanted: Iterable[WantedCorrection], make: Callable[[WantedCorrection], Any]) -> list[Any]:
        made = []
        for one in wanted:
            try:
                made.append(make(one))
            except SettingsError as error:
                self._problems.append((one.line, str(error)))
        return made

    def _runs(
        self, wanted: Iterable[WantedCorrection]
    ) -> tuple[dict[str | int, str], dict[str, list[Analysis]]]:
        """Return the uid of each raw run that is named, and the analysis runs of each uid."""
        uids: dict[str | int, str] = {}
        others: list[WantedCorrection] = []
        # A whole uid of an annotated run needs no look at the raw runs: of thousands, that is minutes.
        wanted = list(wanted)
        analyses = self._analyses(one.run for one in wanted if _is_whole_uid(one.run))
        for one in wanted:
            if one.run in analyses:
                uids[one.run] = str(one.run)
            else:
                others.append(one)
        for number, one in enumerate(others):
            self._tell("looking for runs", number, len(others))
            uids |= self._each([one], lambda one: (one.run, raw_uid_of(self._client, one.run)))
        return uids, analyses | self._analyses(uid for uid in uids.values() if uid not in analyses)

    def _analyses(self, raw_uids: Iterable[Any]) -> dict[str, list[Analysis]]:
        with told_apart("looking for annotations"):
            return analyses_of(self._client, raw_uids)

    def _refuse_frames_said_twice(self, found: Sequence[tuple[WantedCorrection, Analysis]]) -> None:
        said: dict[tuple[str, str, str, int], WantedCorrection] = {}
        for one, analysis in found:
            frame = (analysis.raw_uid, analysis.stream, analysis.data_key, one.frame)
            if (before := said.setdefault(frame, one)) is not one:
                reason = f"frame {one.frame} of run {analysis.raw_uid} is in line {before.line}, too; say all in one"
                self._problems.append((one.line, reason))

    def _rows(
        self, found: Sequence[tuple[WantedCorrection, Analysis]]
    ) -> list[tuple[WantedCorrection, Analysis, ModelRow]]:
        of_analysis: dict[str, list[tuple[WantedCorrection, Analysis]]] = {}
        for one, analysis in found:
            of_analysis.setdefault(analysis.uid, []).append((one, analysis))
        rows: dict[str, FoundRows] = {}
        for number, (uid, pairs) in enumerate(of_analysis.items()):
            self._tell("reading rows", number, len(of_analysis))
            with told_apart(f"reading the rows of {pairs[0][1]}"):
                rows[uid] = rows_of_frames(self._client.context, pairs[0][1], {one.frame for one, _ in pairs})
        complete = []
        for one, analysis in found:
            row = rows[analysis.uid].of_frame.get(one.frame)
            if row is None:
                reason = (
                    f"run {analysis.raw_uid} has no row of frame {one.frame} of {analysis.data_key!r}; "
                    f"{rows[analysis.uid].all_frames}"
                )
                self._problems.append((one.line, reason))
            else:
                complete.append((one, analysis, row))
        return complete


def _is_whole_uid(run: str | int) -> bool:
    try:
        return isinstance(run, str) and str(UUID(run)) == run
    except ValueError:
        return False
