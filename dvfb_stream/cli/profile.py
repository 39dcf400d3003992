"""``dvfb profile``: the folder to give to ``ipython --profile-dir``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dvfb_stream.cli.terminal import report_note, say
from dvfb_stream.profiles.installation import USER_FOLDER, install_profile


def profile(
    folder: Annotated[
        Path,
        typer.Argument(help="Where the profile is kept; created where it does not exist."),
    ] = USER_FOLDER,
) -> None:
    """Put the IPython profile of a beamline with live annotation into a folder, and print the folder.

    The profile makes a RunEngine, a catalog in Tiled and the live callback; without a beamline of one's own also
    a simulated detector. The environment variable DVFB_BEAMLINE names the description of a real beamline (TOML),
    TILED_URI a running Tiled server. IPython keeps its history in the folder, too. Files that are already there
    are left as they are.

    ipython --profile-dir "$(dvfb profile)"
    """
    installed, kept = install_profile(folder)
    for file in kept:
        report_note(f"kept {file}, which differs from this version's; remove it to get the new one")
    say(str(installed))
