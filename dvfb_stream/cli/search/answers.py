"""What was found, in the forms in which it is asked for."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvfb_stream.atomic_output import replaced
from dvfb_stream.catalog.expression import labels_of, parse
from dvfb_stream.catalog.place import find_place, places_in
from dvfb_stream.catalog.search import find_frames, search_runs
from dvfb_stream.catalog.searching.found_runs import FoundRun
from dvfb_stream.cli.search.telling_apart import Origin, columns_apart
from dvfb_stream.cli.terminal import print_table, report_note, say
from dvfb_stream.errors import SettingsError

if TYPE_CHECKING:
    from dvfb_stream.catalog.searching.found_frames import FoundFrame, FoundFrames

_ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True, slots=True)
class _Progress:
    """A line at a terminal for what takes longer than a moment."""

    status: Any

    def __call__(self, what: str, done: int, total: int) -> None:
        self.status.update(f"reading {what}: {done:,}" + (f" of {total:,}" if total else ""))


class Answers:
    """Asks the catalog, and writes what it answers; parameters are those of `find_runs`, and `where`."""

    def __init__(self, client: Any, expression: str, *, where: str | None, **how: Any) -> None:
        self._client, self._expression, self._how = client, expression, how
        self._labels = labels_of(parse(expression))
        if where:
            from dvfb_stream.catalog.raw_runs import raw_containers
            from dvfb_stream.history.selection import raw_runs

            containers = raw_containers(client)
            self._how["raw_uids"] = [uid for raw in containers for uid in raw_runs(raw, where=where)]
        self._found: FoundFrames | None = None

    def frames(self) -> FoundFrames:
        """Return the frames that were found."""
        if self._found is None:
            with _progress() as progress:
                self._found = find_frames(self._client, self._expression, progress=progress, **self._how)
        return self._found

    def print_runs(self, form: str, parquet: Path | None, most: int) -> None:
        """Write the runs that were found."""
        with _progress() as progress:
            runs = search_runs(self._client, self._expression, progress=progress, **self._how)
        if form == "uids":
            for uid in dict.fromkeys(run.raw_uid for run in runs):
                say(uid)
        elif form == "table":
            self._tell_if_nothing(len(runs))
            self._print_runs(runs[:most] if sys.stdout.isatty() else runs)
            if len(runs) > most and sys.stdout.isatty():
                report_note(f"and {len(runs) - most} earlier ones; --most {len(runs)} shows them")
        else:
            rows = [self._plain_run(run) for run in runs]
            _write(rows, form, parquet, list(self._plain_run(_NOTHING)))

    def print_frames(self, form: str, parquet: Path | None, most: int) -> None:
        """Write the frames that were found."""
        frames = self.frames()
        if form == "uids":
            for uid in frames.run_uids():
                say(uid)
        elif form == "table":
            self._tell_if_nothing(len(frames))
            shown = frames[:most] if sys.stdout.isatty() else frames
            found = [(one, _origin_of_frame(one)) for one in shown]
            apart = columns_apart((origin for _, origin in found), always=("detector",))
            rows = [
                [
                    one.raw_uid[:8], str(one.frame), *_apart(origin, apart), _time(one.row["time"]),
                    *(_number(one.scores.get(label)) for label in self._labels),
                    " ".join(one.labels), " ".join(one.doubtful),
                ]
                for one, origin in found
            ]  # fmt: skip
            columns = ("run", "frame", *apart, "time", *self._labels, "labels", "doubtful")
            if rows:
                print_table(columns, rows, breakable=("labels", "doubtful"))
            if len(frames) > len(rows):
                report_note(f"and {len(frames) - len(rows)} further ones; --most {len(frames)} shows them")
        elif form == "parquet":
            import pyarrow.parquet

            assert parquet is not None
            with (
                _written(parquet) as path,
                pyarrow.parquet.ParquetWriter(path, frames[:0].table().schema) as file,
            ):
                for first in range(0, len(frames), _ROWS_AT_A_TIME):
                    file.write_table(frames[first : first + _ROWS_AT_A_TIME].table())
        else:
            _print_rows((one.row for one in frames), form, frames[:0].table().column_names)

    def _tell_if_nothing(self, found: int) -> None:
        if found:
            return
        places = (
            [find_place(self._client)] if find_place(self._client) is not None else places_in(self._client)
        )
        report_note(
            "nothing was found"
            if places
            else "nothing was found: no annotations lie there; were its runs annotated, and does --tiled name the "
            "container of raw runs?"
        )

    def _print_runs(self, runs: list[FoundRun]) -> None:
        if not runs:
            return
        apart = columns_apart(map(_origin_of_run, runs))
        rows = []
        for run in runs:
            said = [_text(run.raw.get(name)) for name in ("scan_id", "sample_name")]
            cells = [run.raw_uid[:8], *said, _time(run.time), *_apart(_origin_of_run(run), apart)]
            cells += [str(run.frames), str(run.found)]
            for label in self._labels:
                count, best = run.labels.get(label, (0, math.nan))
                cells += [str(count), _number(best)]
            rows.append(cells)
        of_labels = [name for label in self._labels for name in (label, f"best {label}")]
        print_table(
            ("run", "scan", "sample", "time", *apart, "frames", "found", *of_labels),
            rows,
            breakable=("sample",),
        )

    def _plain_run(self, run: FoundRun) -> dict[str, Any]:
        row: dict[str, Any] = {
            "run_uid": run.raw_uid,
            "analysis_uid": run.analysis_uid,
            "scan_id": run.raw.get("scan_id"),
            "sample_name": run.raw.get("sample_name"),
            "time": run.time,
            "data_key": run.data_key,
            "model": run.model,
            "frames": run.frames,
            "found": run.found,
        }
        for label in self._labels:
            count, best = run.labels.get(label, (0, math.nan))
            row |= {f"{label}_count": count, f"{label}_best": best}
        return row


def _origin_of_run(run: FoundRun) -> Origin:
    return Origin(run.raw_uid, run.stream, run.data_key, run.model, run.analysis_uid)


def _origin_of_frame(one: FoundFrame) -> Origin:
    row = one.row
    model = f"{row['model']}@{row['model_version']}"
    return Origin(one.raw_uid, row["stream"], row["data_key"], model, row["analysis_uid"])


def _apart(origin: Origin, columns: list[str]) -> list[str]:
    return [_text(getattr(origin, name))[: 8 if name == "analysis" else None] for name in columns]


_NOTHING = FoundRun("", "", "", "", "", 0.0, {}, 0, 0, {})


@contextmanager
def _progress() -> Iterator[Any]:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with console.status("searching") as status:
        yield _Progress(status)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    try:
        with replaced(path) as beside:
            yield beside
    except OSError as error:
        raise SettingsError(f"--parquet {path} cannot be written: {error.strerror or error}") from error


def _write(rows: list[dict[str, Any]], form: str, parquet: Path | None, columns: list[str]) -> None:
    if form != "parquet":
        _print_rows(rows, form, columns)
        return
    import pyarrow
    import pyarrow.parquet

    assert parquet is not None
    # What a start document says has any type.
    texts = [
        row | {"sample_name": _text(row["sample_name"]), "scan_id": _text(row["scan_id"])} for row in rows
    ]
    with _written(parquet) as path:
        table = pyarrow.table({name: [row[name] for row in texts] for name in columns})
        pyarrow.parquet.write_table(table, path)


def _print_rows(rows: Iterable[dict[str, Any]], form: str, columns: list[str]) -> None:
    if form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(["" if _is_unknown(row[name]) else _cell(row[name]) for name in columns])
        return
    for row in rows:
        say(json.dumps({name: None if _is_unknown(row[name]) else row[name] for name in columns}))


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: Any) -> Any:
    """Return a text that a spreadsheet does not take for a formula: sample names come from anywhere."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    # A sample's name must not make the terminal do anything.
    return "".join(character if character.isprintable() else " " for character in str(value))


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return ""
