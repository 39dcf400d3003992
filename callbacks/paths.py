"""Where a file lies here: folders may be mounted elsewhere, and templates name the files of a sequence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from dvfb_stream.errors import FrameError

MOST_DIGITS = 20
_FIELD = re.compile(r"\{(?P<name>filename)?(?::(?P<fill>0?)(?P<width>\d{0,2})d?)?\}")
_PERCENT = re.compile(
    r"%(?:(?P<fill>0?)(?P<width>\d{0,2})(?:\.(?P<precision>\d{1,2}))?d|(?P<text>s)|(?P<percent>%))"
)


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


def file_name(template: str, number: int, *, filename: str = "", folder: str = "") -> str:
    """Return the name of file `number` of a sequence; nothing of the template is evaluated.

    Parameters
    ----------
    template
        New style, ``{filename}_{:06d}.tif``, or old style, ``%s%s_%6.6d.tif``: folder, file name, number. No
        attribute, index or conversion is followed in it.
    number
        From 0.
    filename, folder
        What the fields of text stand for; with one ``%s`` it is the file name.

    Raises
    ------
    FrameError
        When the template has anything else.
    """
    return (
        _new_style(template, number, filename)
        if "{" in template
        else _old_style(template, number, filename, folder)
    )


def _new_style(template: str, number: int, filename: str) -> str:
    def fill(match: re.Match[str]) -> str:
        return filename if match["name"] else _digits(number, match["fill"], match["width"])

    result = _FIELD.sub(fill, template)
    if "{" in _FIELD.sub("", template) or "}" in _FIELD.sub("", template):
        raise FrameError(f"the files' template {template!r} has fields other than {{filename}} and {{:06d}}")
    return result


def _old_style(template: str, number: int, filename: str, folder: str) -> str:
    texts = [filename] if template.count("%s") == 1 else [folder, filename]
    if template.count("%s") > len(texts):
        raise FrameError(
            f"the files' template {template!r} has more fields of text than folder and file name"
        )

    def fill(match: re.Match[str]) -> str:
        if match["percent"]:
            return "%"
        if match["text"]:
            return texts.pop(0)
        return _digits(
            number, "0" if match["precision"] else match["fill"], match["precision"] or match["width"]
        )

    result = _PERCENT.sub(fill, template)
    if "%" in _PERCENT.sub("", template):
        raise FrameError(f"the files' template {template!r} has fields other than %s and %06d")
    return result


def _digits(number: int, fill: str, width: str) -> str:
    return str(number).rjust(min(int(width or 0), MOST_DIGITS), "0" if fill else " ")
