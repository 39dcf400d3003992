"""Which commands ``dvfb`` has, and how their errors reach the terminal: one line on stderr and an exit status."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from dvfb_stream import __version__
from dvfb_stream.cli.annotate.command import annotate
from dvfb_stream.cli.catalog import COMMANDS as CATALOG_COMMANDS
from dvfb_stream.cli.correct.command import correct
from dvfb_stream.cli.correct.corrections import COMMANDS as CORRECTIONS_COMMANDS
from dvfb_stream.cli.daemon.command import daemon
from dvfb_stream.cli.daemon.dead_letters import COMMANDS as DEAD_LETTER_COMMANDS
from dvfb_stream.cli.demo.command import demo
from dvfb_stream.cli.measure.commands import evaluate, invariance, novelty, rank, reproduce, results, tables
from dvfb_stream.cli.models import COMMANDS as MODEL_COMMANDS
from dvfb_stream.cli.models import list_bundles
from dvfb_stream.cli.options import Json
from dvfb_stream.cli.plot.command import FIGURES
from dvfb_stream.cli.process import CALLED_WRONGLY
from dvfb_stream.cli.profile import profile
from dvfb_stream.cli.replay.command import replay
from dvfb_stream.cli.replay.record import record
from dvfb_stream.cli.search import search
from dvfb_stream.cli.similar import similar
from dvfb_stream.cli.simulate.command import simulate
from dvfb_stream.cli.spool import COMMANDS as SPOOL_COMMANDS
from dvfb_stream.cli.terminal import report_error, say
from dvfb_stream.cli.train.adapt import adapt
from dvfb_stream.cli.train.train import train

# Commands import torch, Tiled and the like when they run, so that --help answers at once.
COMMANDS = (
    annotate,
    search,
    correct,
    similar,
    demo,
    record,
    replay,
    profile,
    adapt,
    rank,
    evaluate,
    invariance,
    novelty,
    results,
    train,
    simulate,
    tables,
    reproduce,
)

# typer brings its own copy of click since 0.20 or so; what its usage errors are called is the same in both.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


_NEGATIVE = re.compile(r"-[0-9]+")


class _PlainHelp:
    """Help shows what a value means; neither ``<bool>`` beside a flag, which has none, nor ``<str>`` by a name."""

    def get_params(self, context: Any) -> Any:
        params = super().get_params(context)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
            if param.param_type_name == "argument":
                param.display_type_rich = lambda ctx: ""
        return params


class _Command(_PlainHelp, TyperCommand):
    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        # -1 is the last run, and no option; but whoever mistypes an option is to read which.
        if any(_NEGATIVE.fullmatch(arg) for arg in args):
            if self._mistyped(args):
                args = [arg for arg in args if not _NEGATIVE.fullmatch(arg)]
            else:
                context.ignore_unknown_options = True
        return super().parse_args(context, args)

    def _mistyped(self, args: list[str]) -> bool:
        known = {name: param for param in self.params for name in (*param.opts, *param.secondary_opts)}
        with_value = {name for name, param in known.items() if not getattr(param, "is_flag", False)}
        return any(
            arg.startswith("--") and arg.partition("=")[0] not in {*known, "--", "--help"}
            for before, arg in zip(["", *args], args, strict=False)
            if before not in with_value
        )


class _Group(_PlainHelp, TyperGroup):
    pass


app = typer.Typer(
    name="dvfb",
    cls=_Group,
    help="Annotate X-ray scattering images with the physical characteristics they show.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(group: typer.Typer, commands: Mapping[str, Callable[..., None]]) -> None:
    for name, command in commands.items():
        group.command(name, cls=_Command, help=_help(command))(command)


def _help(command: Callable[..., None]) -> str:
    # The terminal's width, not the source's, is where help breaks.
    return "\n\n".join(" ".join(part.split()) for part in (command.__doc__ or "").split("\n\n"))


_add(app, {command.__name__: command for command in COMMANDS})
daemon_group = typer.Typer(cls=_Group)
daemon_group.callback(invoke_without_command=True, help=_help(daemon))(daemon)
app.add_typer(daemon_group, name="daemon")
dead_letters = typer.Typer(cls=_Group, help="What daemons could not process: list, show, retry, remove.")
daemon_group.add_typer(dead_letters, name="dead-letters")
_add(dead_letters, DEAD_LETTER_COMMANDS)
models = typer.Typer(cls=_Group, help="List, show and verify the model bundles that --model knows.")
app.add_typer(models, name="models")
_add(models, MODEL_COMMANDS)
spool = typer.Typer(
    cls=_Group, help="Rows on the disk that their catalog does not have yet: list, retry, export."
)
app.add_typer(spool, name="spool")
_add(spool, SPOOL_COMMANDS)
corrections = typer.Typer(
    cls=_Group, help="What people said of frames: list it, load it from a table, take it back, export it."
)
app.add_typer(corrections, name="corrections")
_add(corrections, CORRECTIONS_COMMANDS)
catalog = typer.Typer(cls=_Group, help="Put in order where runs lie in Tiled.")
app.add_typer(catalog, name="catalog")
_add(catalog, CATALOG_COMMANDS)
plot = typer.Typer(cls=_Group, help="Draw the paper's figures: the basis, the masked estimate of any frame.")
app.add_typer(plot, name="plot")
_add(plot, {figure.__name__: figure for figure in FIGURES})


@models.callback(invoke_without_command=True)
def _models(context: typer.Context, *, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_bundles(json=json)


@dead_letters.callback(invoke_without_command=True)
def _dead_letters(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


@spool.callback(invoke_without_command=True)
def _spool(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


@corrections.callback(invoke_without_command=True)
def _corrections(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


@catalog.callback(invoke_without_command=True)
def _catalog(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


@plot.callback(invoke_without_command=True)
def _plot(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        say(f"dvfb_stream {__version__}")
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
        say(context.get_help())


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
