"""Names of the files of a sequence: templates as detectors write them, of which nothing is evaluated."""

from __future__ import annotations

import re

from dvfb_stream.errors import FrameError

MOST_DIGITS = 20
_FIELD = re.compile(r"\{(?P<name>filename)?(?::(?P<fill>0?)(?P<width>\d{0,2})d?)?\}")
_PERCENT = re.compile(
    r"%(?:(?P<fill>0?)(?P<width>\d{0,2})(?:\.(?P<precision>\d{1,2}))?d|(?P<text>s)|(?P<percent>%))"
)


def file_name(template: str, number: int, *, filename: str = "", folder: str = "") -> str:
    """Return the name of file `number` of a sequence.

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
