"""Which commands ``dvfb`` has, and how their errors reach the terminal: one line on stderr and an exit status."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated

import typer

from dvfb_stream import __version__
from dvfb_stream.cli.annotate.command import annotate
from dvfb_stream.cli.daemon import daemon
from dvfb_stream.cli.demo.command import demo
from dvfb_stream.cli.evaluate.command import evaluate
from dvfb_stream.cli.figures.command import FIGURES
from dvfb_stream.cli.models.command import COMMANDS as MODEL_COMMANDS
from dvfb_stream.cli.models.command import models
from dvfb_stream.cli.process import CALLED_WRONGLY
from dvfb_stream.cli.profile import profile
from dvfb_stream.cli.search import search
from dvfb_stream.cli.simulate.command import simulate
from dvfb_stream.cli.terminal import report_error
from dvfb_stream.cli.train.command import train

# Commands import torch, Tiled and the like when they run, so that --help answers at once.
COMMANDS = (
    annotate,
    daemon,
    demo,
    evaluate,
    profile,
    search,
    simulate,
    train,
)

# typer brings its own copy of click since 0.20 or so; what its usage errors are called is the same in both.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="dvfb",
    help="Annotate X-ray scattering images with the physical characteristics they show.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _unwrapped(text: str | None) -> str:
    """Join the lines of each paragraph: the terminal's width, not the source's, is where help breaks."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


for command in COMMANDS:
    app.command(help=_unwrapped(command.__doc__))(command)

app.add_typer(models, name="models")
for name, about_models in MODEL_COMMANDS.items():
    models.command(name, help=_unwrapped(about_models.__doc__))(about_models)

figures = typer.Typer(help="Draw the paper's figures: the basis functions, the masked estimate of any frame.")
app.add_typer(figures, name="figures")
for figure in FIGURES:
    figures.command(help=_unwrapped(figure.__doc__))(figure)


@figures.callback(invoke_without_command=True)
def _figures(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"dvfb_stream {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    *,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Write to stderr what the libraries log.")
    ] = False,
) -> None:
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str] | None) -> int:
    """Run a command line and return its exit status; a wrong call is said in one line on stderr."""
    try:
        status = app(None if arguments is None else list(arguments), prog_name="dvfb", standalone_mode=False)
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "dvfb"
        report_error(f"{getattr(error, 'format_message', error.__str__)()} (see {where} --help)")
        return CALLED_WRONGLY
    return status if isinstance(status, int) else 0
