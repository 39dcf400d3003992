"""The Fourier-Bessel settings as options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dvfb_stream.cli.terminal import WrongCallError

if TYPE_CHECKING:
    from dvfb_stream.fbt import FourierBesselSettings

PANEL = "Fourier-Bessel settings: the default model's unless given"

Penalty = Annotated[
    float, typer.Option(help="λ of (9): how strongly coefficients are held down.", rich_help_panel=PANEL)
]
L1Ratio = Annotated[float, typer.Option(help="α of (9): 0 is a ridge, 1 a lasso.", rich_help_panel=PANEL)]
Reading = Annotated[
    str,
    typer.Option(
        metavar="per_sample|unit_norm",
        help="How λ compares with the data: on intensities from 0 to 255 averaged over the pixels, or on image and "
        "basis of unit norm.",
        rich_help_panel=PANEL,
    ),
]
Radius = Annotated[
    float, typer.Option(help="a of (4), radius of the disk in pixels of the 256 x 256 view.", rich_help_panel=PANEL)
]  # fmt: skip
RadialCount = Annotated[
    int, typer.Option("--n-radial", help="Radial indices n = 1, 2, ... up to this.", rich_help_panel=PANEL)
]
Orders = Annotated[
    str, typer.Option(metavar="M,M,...", help="Angular orders m, with commas.", rich_help_panel=PANEL)
]
Downsample = Annotated[
    int, typer.Option(help="View pixels are averaged over blocks of this side.", rich_help_panel=PANEL)
]


def whole_numbers(text: str, option: str, *, least: int) -> tuple[int, ...]:
    """Return the numbers of ``1,2,3``.

    Raises
    ------
    WrongCallError
        When one is no integer, less than `least`, or there twice.
    """
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise WrongCallError(
            f"{option}: {text!r} is not a list of integers like {least},{least + 2}"
        ) from None
    if min(numbers) < least:
        raise WrongCallError(f"{option}: {min(numbers)} is too small; the least is {least}")
    if len(set(numbers)) < len(numbers):
        raise WrongCallError(f"{option}: {text} names a number twice")
    return numbers


def fourier_bessel_settings(
    *,
    penalty: float,
    l1_ratio: float,
    reading: str,
    radius: float,
    n_radial: int,
    orders: str,
    downsample: int,
) -> FourierBesselSettings:
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

    return FourierBesselSettings.from_dict(
        {
            "penalty": penalty,
            "l1_ratio": l1_ratio,
            "reading": reading,
            "radius": radius,
            "n_radial": n_radial,
            "orders": wanted,
            "downsample": downsample,
        }
    )
