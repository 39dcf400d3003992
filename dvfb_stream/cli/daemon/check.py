"""``dvfb daemon --check``: a table of everything that a daemon will need, before it needs it."""

from __future__ import annotations

import json as json_format
import os
from dataclasses import asdict
from pathlib import Path

import typer

from dvfb_stream.cli.process import FAILED
from dvfb_stream.cli.terminal import print_table, quiet_libraries, report_error, say

_RETRY_SECONDS = "3"
"""That Tiled's client goes on trying: whoever checks waits for the answer."""
_STYLES = {"ok": "", "notice": "yellow", "fault": "red"}


def check_configuration(config: Path, *, json: bool) -> None:
    """Look at everything that a configuration names, print what was found, and leave with status 1 where one fails.

    Raises
    ------
    SettingsError
        When the configuration itself is wrong.
    """
    os.environ.setdefault("TILED_RETRY_TIMEOUT", _RETRY_SECONDS)
    os.environ.setdefault("TILED_RETRY_ATTEMPTS", "2")
    from dvfb_stream.daemon.checks import Check, Outcome, checks_of, found_by
    from dvfb_stream.daemon.settings import read_settings
    from dvfb_stream.files.settings_file import read_geometries

    with quiet_libraries():
        settings = read_settings(config)
        checks: dict[str, Check] = {}
        if settings.kafka is not None:
            from dvfb_stream.kafka.checks import check_cluster

            checks["broker"] = lambda: check_cluster(settings)
        checks |= checks_of(settings, read_geometries(settings.detectors, config, what="configuration"))
        found = []
        for finding in found_by(checks):
            found.append(finding)
            if json:
                say(json_format.dumps(asdict(finding)))
    if not json:
        print_table(
            ("part", "state", "found"),
            [(finding.part, finding.outcome.value, finding.what) for finding in found],
            styles=[_STYLES[finding.outcome] for finding in found],
            breakable=("found",),
        )
    faults = sum(finding.outcome is Outcome.FAULT for finding in found)
    if faults:
        report_error(f"{faults} of {len(found)} findings would keep a daemon from its work")
        raise typer.Exit(FAILED)
