"""The options that commands share, each said once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.terminal import WrongCallError

if TYPE_CHECKING:
    from dvfb_stream.fbt import FourierBesselSettings
    from dvfb_stream.files import DetectorDescription

GEOMETRY = "Geometry: where the direct beam is, which pixels count"
FOURIER_BESSEL = "Fourier-Bessel settings: the default model's unless given"


def option(meaning: str, help: str, *names: str, panel: str | None = None, **limits: Any) -> Any:  # noqa: A002
    """Return an option with a value, `meaning`; `limits` are ``min`` and ``max``."""
    return typer.Option(*names, metavar=meaning, help=help, rich_help_panel=panel, **limits)


def flag(help: str, *names: str, panel: str | None = None) -> Any:  # noqa: A002
    """Return an option without a value."""
    return typer.Option(*names, help=help, rich_help_panel=panel)


Json = Annotated[bool, flag("Write the result as JSON, an object a line.", "--json")]
Model = Annotated[str, option("MODEL", "Model bundle: a name that `dvfb models` lists, or a folder.")]
Thresholds = Annotated[
    str,
    option(
        "best_f1|high_precision",
        "From which probability a label is accepted: the one of best F1, or the least at which 95 % of the accepted "
        "simulated frames of the calibration had the label (one that never reached that is never accepted). Of real "
        "frames fewer have it: `dvfb models show --card` says what was measured, `dvfb models show` lists both.",
    ),
]
Device = Annotated[str, option("DEVICE", "auto (a GPU where there is one), cpu, cuda, cuda:1, ...")]
Precision = Annotated[
    str,
    option(
        "PRECISION", "Of the network's products: float32, bfloat16, or auto, what the device does natively."
    ),
]
Processes = Annotated[
    int | None, option("N", "Processes that simulate at a time.  [default: one a core]", min=1, max=1024)
]
Out = Annotated[
    Path | None, option("RESULTS.json", "Write the results there; `dvfb results` prints them again.")
]

CenterX = Annotated[
    float | None,
    option(
        "PIXELS",
        "Direct beam in pixels from the left; the centre of the first pixel is 0, so a program that counts from the "
        "pixel's edge (pyFAI, Fit2D) says 0.5 more. May lie off the image.",
        panel=GEOMETRY,
    ),
]
CenterY = Annotated[
    float | None,
    option("PIXELS", "Direct beam in pixels from the top row, the first in the file.", panel=GEOMETRY),
]
Poni = Annotated[
    Path | None,
    option(
        "FILE",
        "pyFAI geometry, instead of the two centres; the gaps of the detector it names are masked.",
        panel=GEOMETRY,
    ),
]
Masks = Annotated[
    list[str] | None,
    option(
        "FILE",
        "Mask of the frame's shape, as npy, text, tif, png, edf, msk or file.h5::/path. 0 (False) means valid, 1 "
        "(True, or any other number) masked: the convention of pyFAI, Fit2D and NeXus, boolean files included. Give "
        "it again for further masks; a pixel counts if none masks it.",
        panel=GEOMETRY,
    ),
]
Dummies = Annotated[
    list[float] | None,
    option(
        "VALUE",
        "Value of pixels that hold no count; give it again for further ones. Without it negative integers, 2^n-1 and "
        "2^n-2 of DECTRIS, and NaN are none.",
        "--dummy",
        panel=GEOMETRY,
    ),
]
IgnoreFileMask = Annotated[
    bool,
    flag(
        "Do not use what a file itself says of invalid pixels: pixel_mask (1 = masked), bit depth and saturation in "
        "NeXus and Eiger master files, Count_cutoff, Dummy.",
        "--ignore-file-mask",
        panel=GEOMETRY,
    ),
]
Delta = Annotated[
    float, option("D", "How far from --dummy a value may be to be one.", panel=GEOMETRY, min=0.0)
]
CountsPerUnit = Annotated[
    float | None,
    option(
        "N",
        "Counts that a pixel value of 1 stands for, where frames were normalised; without it, each frame tells by "
        "its values or its noise.",
        panel=GEOMETRY,
    ),
]
DetectorName = Annotated[
    str | None,
    option(
        "NAME",
        "pyFAI's name of the detector, to mask the gaps between its modules: Pilatus1M, Eiger2_4M, ...",
        panel=GEOMETRY,
    ),
]


def detector_description(
    center_x: float | None,
    center_y: float | None,
    poni: Path | None,
    masks: list[str],
    detector: str | None,
    *,
    from_file: bool = False,
    dummies: list[float] | None = None,
    delta: float = 0.0,
    ignore_file_mask: bool = False,
    counts_per_unit: float | None = None,
) -> DetectorDescription:
    """Return what the geometry options of a command describe.

    Parameters
    ----------
    center_x, center_y, poni, masks, detector
        The options.
    from_file
        Whether the centre may be left to what the files of frames say.

    Raises
    ------
    WrongCallError
        When the centre is missing, half given or given twice, or a value is out of range.
    """
    given = center_x is not None or center_y is not None
    if poni is None and not given and not from_file:
        raise WrongCallError(
            "the beam centre is missing: give --center-x and --center-y in pixels, or --poni"
        )
    if poni is not None and given:
        raise WrongCallError("give the beam centre once: by --center-x and --center-y, or by --poni")
    if given and (center_x is None or center_y is None):
        missing = "--center-x" if center_x is None else "--center-y"
        raise WrongCallError(f"{missing} is missing: a beam centre has two coordinates")
    if delta and not dummies:
        raise WrongCallError("--delta is how far from --dummy a value may be: give --dummy, too")
    from pydantic import ValidationError

    from dvfb_stream.files import DetectorDescription

    try:
        return DetectorDescription(
            center_x=center_x,
            center_y=center_y,
            poni=poni,
            from_file=from_file,
            mask=tuple(masks),
            detector=detector,
            dummy=tuple(dummies or ()),
            delta=delta,
            file_mask=not ignore_file_mask,
            counts_per_unit=counts_per_unit,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + "-".join(str(part) for part in first["loc"][:1]).replace("_", "-")
        raise WrongCallError(f"{name}: {first['msg']}, not {first['input']}") from error


def files_read(files: list[str], description: DetectorDescription) -> list[str | Path]:
    """Return all files that a command reads, frames and geometry: none of them may be written to."""
    poni = [] if description.poni is None else [description.poni]
    return [*files, *description.mask, *poni]


Penalty = Annotated[
    float, option("LAMBDA", "λ of (9): how strongly coefficients are held down.", panel=FOURIER_BESSEL)
]
L1Ratio = Annotated[float, option("ALPHA", "α of (9): 0 is a ridge, 1 a lasso.", panel=FOURIER_BESSEL)]
Reading = Annotated[
    str,
    option(
        "per_sample|unit_norm",
        "How λ compares with the data: on intensities from 0 to 255 averaged over the pixels, or on image and basis "
        "of unit norm.",
        panel=FOURIER_BESSEL,
    ),
]
Radius = Annotated[
    float, option("PIXELS", "a of (4), radius of the disk in pixels of the 256 x 256 view.", panel=FOURIER_BESSEL)
]  # fmt: skip
RadialCount = Annotated[
    int, option("N", "Radial indices n = 1, 2, ... up to this.", "--n-radial", panel=FOURIER_BESSEL)
]
Orders = Annotated[str, option("M,M,...", "Angular orders m, with commas.", panel=FOURIER_BESSEL)]
Downsample = Annotated[
    int,
    option("N", "View pixels are averaged over blocks of this side.", panel=FOURIER_BESSEL, min=1, max=64),
]


def whole_numbers(text: str, name: str, *, least: int) -> tuple[int, ...]:
    """Return the numbers of ``1,2,3``, the value of the option `name`.

    Raises
    ------
    WrongCallError
        When one is no integer, less than `least`, or there twice.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise WrongCallError(f"{name}: {text!r} is not a list of integers like {least},{least + 2}") from None
    if min(numbers) < least:
        raise WrongCallError(f"{name}: {min(numbers)} is too small; the least is {least}")
    if len(set(numbers)) < len(numbers):
        raise WrongCallError(f"{name}: {text} names a number twice")
    return numbers


def fourier_bessel_settings(*, orders: str, **values: Any) -> FourierBesselSettings:
    """Return the settings that the options of a command state.

    Raises
    ------
    WrongCallError
        When the orders are no list of integers.
    SettingsError
        When a value is out of range.
    """
    wanted = whole_numbers(orders, "--orders", least=0)
    from dvfb_stream.fbt import FourierBesselSettings

    return FourierBesselSettings.from_dict({**values, "orders": wanted})


def choose(value: str, known: Iterable[str], name: str) -> str:
    """Return `value` of the option or argument `name`, where it is one of the `known`.

    Raises
    ------
    WrongCallError
        When it is none of them; the nearest is named.
    """
    known = tuple(known)
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        hint = f", did you mean {near[0]}?" if near else ","
        raise WrongCallError(f"unknown {name} {value!r}{hint} there are {', '.join(known)}")
    return value
