"""Where bundles are found: by folder, in the user's folder, in the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dvfb_stream.errors import BundleError

ENVIRONMENT_VARIABLE = "DVFB_MODELS"
"""Names a folder of bundles that come before the package's own."""

_PACKAGED = Path(__file__).parent / "bundles"


def bundle_folders() -> Iterator[tuple[str, Path]]:
    """Yield name and folder of every bundle that `find_bundle` finds by name, those that win first."""
    seen = set()
    for shelf in _shelves():
        for model in sorted(shelf.glob("*/model.json")):
            if model.parent.name not in seen:
                seen.add(model.parent.name)
                yield model.parent.name, model.parent


def find_bundle(model: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle.

    Parameters
    ----------
    model
        A folder that holds `model.json`, or the name of a bundle in the folder that the environment variable
        DVFB_MODELS names, or of one that the package ships.

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
    raise BundleError(
        f"no model {str(model)!r}: it is neither a folder with a model.json nor one of the known names ({known}); "
        f"`dvfb models` lists them, and {ENVIRONMENT_VARIABLE} may name a folder of further ones"
    )


def _shelves() -> Iterator[Path]:
    extra = os.environ.get(ENVIRONMENT_VARIABLE)
    if extra:
        yield Path(extra)
    yield _PACKAGED
