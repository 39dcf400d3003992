"""Puts the IPython profile where its user may write: IPython keeps its history and logs inside a profile."""

from __future__ import annotations

import shutil
from pathlib import Path

from dvfb_stream.errors import SettingsError

PACKAGED = Path(__file__).parent / "profile_dvfb"
USER_FOLDER = Path("~/.dvfb/profile")
"""Where the profile goes if nobody says otherwise."""


def install_profile(folder: Path = USER_FOLDER) -> tuple[Path, list[Path]]:
    """Copy the packaged profile into a folder; files that are there already are left alone.

    Parameters
    ----------
    folder
        Created where it does not exist; may begin with ``~``.

    Returns
    -------
    folder : Path
        Absolute, for ``ipython --profile-dir``.
    kept : list of Path
        Files of the user's that differ from the packaged ones: edited, or from another version.

    Raises
    ------
    SettingsError
        When the folder cannot be written to.
    """
    folder = folder.expanduser().absolute()
    kept = []
    try:
        for source in sorted(PACKAGED.rglob("*.py")):
            target = folder / source.relative_to(PACKAGED)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            elif target.read_bytes() != source.read_bytes():
                kept.append(target)
    except OSError as error:
        raise SettingsError(f"the profile {folder} cannot be written: {error.strerror or error}") from error
    return folder, kept
