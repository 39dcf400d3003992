"""Runs several daemons of one configuration as one service."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from pathlib import Path

import typer

from dvfb_stream.cli.daemon.signals import stop_on_signals
from dvfb_stream.daemon.http import PATHS
from dvfb_stream.daemon.members import Members
from dvfb_stream.daemon.members_http import has_begun, serve_members
from dvfb_stream.daemon.settings import DaemonSettings
from dvfb_stream.daemon.supervisor import READY, STOPS, TURNS, tell_supervisor

logger = logging.getLogger(__name__)


def run_workers(config: Path, settings: DaemonSettings, log_format: str | None) -> None:
    """Run the daemons of a configuration until a signal comes.

    Parameters
    ----------
    config
        The file.
    settings
        What it says.
    log_format
        As of `run_daemon`.

    Raises
    ------
    typer.Exit
        With the status of a daemon that could not begin, or did not come to its end.
    SettingsError
        When nothing can listen where the configuration says.
    """
    members = Members(
        config,
        settings,
        arguments=() if log_format is None else ("--log-format", log_format),
        has_begun=has_begun,
    )
    turned = [time.monotonic()]

    def turn() -> None:
        turned[0] = time.monotonic()
        tell_supervisor(TURNS)

    def begun() -> None:
        logger.info("%d workers have begun", len(members.members))
        tell_supervisor(READY)

    stop_on_signals(members.stop, lambda: tell_supervisor(STOPS))
    with ExitStack() as stack:
        if settings.http_port is not None:
            served = serve_members(
                members.members,
                lambda: time.monotonic() - turned[0],
                patience=settings.limits.stall_timeout / 2,
                address=settings.http.address,
                port=settings.http_port,
            )
            stack.enter_context(served)
            logger.info("%s are at http://%s:%d", ", ".join(PATHS), settings.http.address, settings.http_port)
        if status := members.run(turn, begun):
            raise typer.Exit(status)
