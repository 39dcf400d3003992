"""The command itself: options in, runs or frames out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dvfb_stream.cli.opened_catalog import opened_catalog, try_few_times
from dvfb_stream.cli.options import choose, flag, option
from dvfb_stream.cli.terminal import WrongCallError, quiet_libraries, report_note
from dvfb_stream.errors import DvfbError

OUTPUT = "What comes out"
WHICH = "Which runs are searched"


class Form(StrEnum):
    """What is written on stdout."""

    TABLE = "table"
    UIDS = "uids"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def search(
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPRESSION",
            help="What a frame shows: labels, and, or, not, comparisons, such as 'four_fold >= 0.9 and not rings', "
            "'count(four_fold) >= 3', 'fraction(halo) < 0.2', 'doubtful(two_fold)', 'novelty > 0.95'.",
        ),
    ],
    further: Annotated[str | None, typer.Argument(hidden=True)] = None,
    *,
    tiled: Annotated[
        str | None,
        option(
            "CATALOG",
            "Where the annotations are: a Tiled container, for example http://localhost:8000/api/v1/metadata/raw, "
            "or a folder that the demo or the profile has filled.",
            "--tiled",
        ),
    ] = None,
    min_frames: Annotated[
        int, option("N", "Least number of frames of a run for which it holds.", min=1, max=10**9)
    ] = 1,
    min_score: Annotated[
        float | None,
        option("P", "A label counts where its probability is at least as high.", min=0.0, max=1.0),
    ] = None,
    fraction: Annotated[
        float,
        option("SHARE", "Least share of a run's annotated frames for which it holds.", min=0.0, max=1.0),
    ] = 0.0,
    since: Annotated[
        str | None,
        option("TIME", "Runs begun then or later, such as 2026-11-30 or 2026-11-30T08:00.", panel=WHICH),
    ] = None,
    until: Annotated[str | None, option("TIME", "Runs begun before that.", panel=WHICH)] = None,
    where: Annotated[
        str | None,
        option(
            "CONDITION",
            "What the start documents of raw runs say, such as \"sample_name == 'lamella' and scan_id >= 100\".",
            panel=WHICH,
        ),
    ] = None,
    model: Annotated[
        str | None,
        option(
            "MODEL",
            "Annotations of this model: name, name@version, or the beginning of its hash.",
            panel=WHICH,
        ),
    ] = None,
    all_models: Annotated[
        bool,
        flag("All analyses of a run; otherwise the newest alone counts.", "--all-models", panel=WHICH),
    ] = False,
    source: Annotated[
        str,
        option(
            "model|human",
            "Whose labels count: with human, corrected ones win; columns of a run's labels are the model's.",
            panel=WHICH,
        ),
    ] = "model",
    frames: Annotated[bool, flag("Print frames, not runs.", "--frames", panel=OUTPUT)] = False,
    uids: Annotated[
        bool, flag("Print the uids of the raw runs alone, one a line.", "--uids", panel=OUTPUT)
    ] = False,
    json: Annotated[bool, flag("Print a JSON object a line.", "--json", panel=OUTPUT)] = False,
    csv: Annotated[bool, flag("Print CSV.", "--csv", panel=OUTPUT)] = False,
    parquet: Annotated[
        Path | None, option("FILE.parquet", "Write a Parquet file instead.", "--parquet", panel=OUTPUT)
    ] = None,
    sheet: Annotated[
        Path | None,
        option("FILE.png", "Draw the first frames that were found, besides.", "--sheet", panel=OUTPUT),
    ] = None,
    most: Annotated[
        int,
        option(
            "N",
            "Rows of a table at a terminal; other forms have all.",
            "--most",
            panel=OUTPUT,
            min=1,
            max=10**9,
        ),
    ] = 50,
) -> None:
    """Find the runs with frames for which EXPRESSION holds, the newest first.

    Nothing is ever written to the catalog. What it holds is copied to this user's cache folder, so that the first
    search takes longer. The Tiled API key is taken from the environment variable TILED_API_KEY, where the server asks
    for one. No run found is no error.

    dvfb search "four_fold >= 0.9 and not rings" --tiled http://localhost:8000/api/v1/metadata/raw

    dvfb search "halo and four_fold" --tiled demo-output/catalog --frames --sheet found.png

    dvfb search "doubtful" --tiled demo-output/catalog --csv > look-at-these.csv
    """
    if further is not None:
        # As before 0.2: the catalog, then a label.
        if tiled is not None:
            raise WrongCallError(
                f'one expression is searched for: put quotes around it, as in "{expression} and {further}"'
            )
        expression, tiled = further, expression
    if tiled is None:
        raise WrongCallError("which catalog? give --tiled with its address, or its folder")
    if "api_key=" in tiled:
        raise WrongCallError(
            "others can read a command line: put the key into TILED_API_KEY, not into --tiled"
        )
    form = _form(json=json, csv=csv, uids=uids, parquet=parquet)
    choose(source, ("model", "human"), "--source")
    check_expression(expression)
    if sheet is not None:
        from dvfb_stream.cli.output_files import figure_file

        figure_file(sheet, option="--sheet")
    with quiet_libraries(), _opened(tiled) as client:
        from dvfb_stream.cli.search.answers import Answers

        with _told(tiled):
            answers = Answers(
                client,
                expression,
                where=where,
                min_frames=min_frames,
                min_score=min_score,
                fraction=fraction,
                since=since,
                until=until,
                model=model,
                newest=not all_models,
                source=source,
            )
            if frames:
                answers.print_frames(form, parquet, most)
            else:
                answers.print_runs(form, parquet, most)
            if sheet is not None:
                from dvfb_stream.cli.search.sheet import draw_sheet

                draw_sheet(answers.frames(), sheet, title=expression)


def _form(*, json: bool, csv: bool, uids: bool, parquet: Path | None) -> Form:
    chosen = [
        form
        for form, given in (
            (Form.JSON, json), (Form.CSV, csv), (Form.UIDS, uids), (Form.PARQUET, parquet is not None)
        )
        if given
    ]  # fmt: skip
    if len(chosen) > 1:
        raise WrongCallError(f"give one of --{chosen[0]} and --{chosen[1]}")
    return chosen[0] if chosen else Form.TABLE


def check_expression(expression: str) -> None:
    """Refuse an expression that cannot be understood, and show the place.

    Raises
    ------
    WrongCallError
        With the reason; the lines that point at the place were written before.
    """
    from dvfb_stream.catalog.expression import ExpressionError, parse

    try:
        parse(expression)
    except ExpressionError as error:
        report_note(error.pointer)
        raise WrongCallError(
            f"the expression cannot be understood at line {error.line}, column {error.column}: {error.why}"
        ) from error


@contextmanager
def _opened(catalog: str) -> Iterator[Any]:
    try_few_times(1)
    with opened_catalog(catalog, read_only=True) as client:
        if not hasattr(client, "search"):
            raise DvfbError(f"{catalog} is no catalog: give the address of a container of runs")
        yield client


@contextmanager
def _told(catalog: str) -> Iterator[None]:
    """Say in a line what the catalog answers when it does not."""
    try:
        yield
    except (DvfbError, typer.Exit, BrokenPipeError):
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DvfbError(
            f"the catalog {catalog} cannot be searched ({reason}); is it the address of a container?"
        ) from error
