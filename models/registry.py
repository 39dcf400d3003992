"""Where bundles are found: by folder, in the user's folder, in the package."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from dvfb_stream.errors import BundleError

ENVIRONMENT_VARIABLE = "DVFB_MODELS"
"""Names a folder of bundles that come before the package's own."""

_PACKAGED = Path(__file__).parent / "bundles"


def all_bundle_folders() -> Iterator[tuple[str, Path]]:
    """Yield name and folder of every bundle on a shelf, those that win first; a later one of a name is hidden."""
    for shelf in _shelves():
        for model in sorted(shelf.glob("*/model.json")):
            yield model.parent.name, model.parent


def bundle_folders() -> Iterator[tuple[str, Path]]:
    """Yield name and folder of every bundle that `find_bundle` finds by name."""
    seen = set()
    for name, folder in all_bundle_folders():
        if name not in seen:
            seen.add(name)
            yield name, folder


def find_bundle(model: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle.

    Parameters
    ----------
    model
        A folder that holds `model.json`, or the name of a bundle in the folder that the environment variable
        DVFB_MODELS names, in `user_folder`, or in the package.

    Raises
    ------
    BundleError
        When there is none.
    """
    folder = Path(model)
    # Unlike Path.is_file, this one finds names that no file system would take merely absent.
    if os.path.isfile(folder / "model.json"):
        return folder
    named = dict(bundle_folders())
    if str(model) in named:
        return named[str(model)]
    known = ", ".join(named) or "none"
    near = difflib.get_close_matches(str(model), named, n=1)
    hint = f", did you mean {near[0]}?" if near else ":"
    raise BundleError(
        f"no model {str(model)!r}{hint} it is neither a folder with a model.json nor a known name ({known}); "
        f"`dvfb models` lists them, and {ENVIRONMENT_VARIABLE} may name a folder of further ones, "
        f"which may also lie in {user_folder()}"
    )


def user_folder() -> Path:
    """Return where a user's own bundles are found: below XDG_DATA_HOME, or ~/.local/share."""
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification: "If an implementation encounters a relative path it should consider it invalid."
    if not data.is_absolute():
        data = Path.home() / ".local" / "share"
    return data / "dvfb_stream" / "models"


def _shelves() -> Iterator[Path]:
    extra = os.environ.get(ENVIRONMENT_VARIABLE)
    if extra:
        yield Path(extra)
    yield user_folder()
    yield _PACKAGED
