"""``dvfb daemon``: annotates the runs of a beamline as they are taken, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvfb_stream.cli.options import choose, flag, option
from dvfb_stream.cli.terminal import WrongCallError, say


def daemon(
    context: typer.Context,
    config: Annotated[
        Path | None,
        option("FILE.toml", "Kafka's brokers or a Tiled catalog, detectors, sinks, limits."),
    ] = None,
    *,
    check: Annotated[
        bool,
        flag(
            "Connect to everything that the configuration names, print what was found, and leave, with exit status 1 "
            "where something would keep a daemon from its work. Nothing that is stored is changed.",
            "--check",
        ),
    ] = False,
    example: Annotated[
        bool, flag("Print a configuration with every setting, and leave.", "--example")
    ] = False,
    json: Annotated[bool, flag("With --check: an object a line.", "--json")] = False,
    log_format: Annotated[
        str | None,
        option(
            "plain|json",
            "Lines of the log: for people, or a JSON object each with the run, partition, offset and file it is "
            "about.  [default: log_format of the configuration, plain]",
        ),
    ] = None,
) -> None:
    """Annotate Bluesky runs from Kafka or Tiled as they are taken, until SIGTERM or Ctrl-C.

    Ends with exit status 0 after finishing what it has in hand; a second signal ends it at once. Killed or
    failed, it goes on where it was when started again: no row is missing, none is there twice. API keys come
    from the environment: TILED_API_KEY, DVFB_KAFKA_PASSWORD.
    """
    if context.invoked_subcommand is not None:
        return
    if example:
        from dvfb_stream.daemon.example import example as text_of_example

        say(text_of_example().rstrip())
        return
    if json and not check:
        raise WrongCallError("--json is how --check prints: give --check, too", ctx=context)
    if config is None:
        raise WrongCallError("Missing option '--config'.", ctx=context)
    if check:
        from dvfb_stream.cli.daemon.check import check_configuration

        check_configuration(config, json=json)
        return
    # Imported here: the other commands need no Kafka.
    from dvfb_stream.cli.daemon.running import run_daemon

    if log_format is not None:
        choose(log_format, ("plain", "json"), "--log-format")
    run_daemon(config, log_format)
