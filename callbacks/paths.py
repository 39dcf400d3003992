"""Where a file lies here: folders that documents name may be mounted elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from dvfb_stream.errors import FrameError


def located(root: str, path: str, root_map: Mapping[str, str], *, is_windows: bool = False) -> str:
    """Return where the file or folder of a resource lies, what is mapped replaced.

    Parameters
    ----------
    root, path
        As a Resource document has them.
    root_map
        Other places for folders: ``{"/ioc/data": "/mnt/data"}``, ``{"C:/data": "/mnt/data"}``.
    is_windows
        Whether the document's paths, and the folders that may be mapped, are those of Windows.
    """
    flavour = PureWindowsPath if is_windows else PurePosixPath
    return mapped(flavour(root or "/") / path, root_map)


def mapped(path: PurePath, root_map: Mapping[str, str]) -> str:
    """Return a path, the folder above it replaced that is mapped; compared folder by folder."""
    for old, new in root_map.items():
        if path.is_relative_to(old):
            return str(PurePosixPath(new) / path.relative_to(old).as_posix())
    return path.as_posix()


def path_of(uri: str, root_map: Mapping[str, str] | None = None) -> str:
    """Return where the file lies that a ``file://localhost/...`` address names; FrameError for any other address."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        raise FrameError(
            f"frames at {uri!r} cannot be read: only files are, as in file://localhost/data/scan.h5"
        )
    path = unquote(parts.path)
    if len(path) > 2 and path[2] == ":" and path[1].isalpha():  # file://localhost/C:/data, by event-model
        found = mapped(PureWindowsPath(path[1:]), root_map or {})
    else:
        found = mapped(PurePosixPath(path), root_map or {})
    # A folder of a sequence keeps the slash that its files' names are joined to.
    return found + "/" if path.endswith("/") and not found.endswith("/") else found
