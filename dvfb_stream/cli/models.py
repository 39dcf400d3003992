"""``dvfb models``: which model bundles there are."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from dvfb_stream.cli.terminal import quiet_libraries, report_error


def models(
    *, json: Annotated[bool, typer.Option("--json", help="One JSON object a line and bundle.")] = False
) -> None:
    """List the model bundles that --model knows by name, those that win first.

    They come from the folder that the environment variable DVFB_MODELS names, then from the package. A bundle
    that cannot be read costs one line on stderr, and the exit status is 1.
    """
    from dvfb_stream.errors import BundleError
    from dvfb_stream.models import bundle_folders

    found, failed = [], False
    with quiet_libraries():
        for name, folder in bundle_folders():
            try:
                found.append(_facts(name, folder))
            except BundleError as error:
                report_error(str(error))
                failed = True
    if json:
        for facts in found:
            typer.echo(json_format.dumps(facts))
    elif found:
        _print_table(found)
    elif not failed:
        typer.echo("no models; the environment variable DVFB_MODELS may name a folder of bundles")
    if failed:
        raise typer.Exit(1)


def _facts(name: str, folder: Path) -> dict[str, Any]:
    from dvfb_stream.errors import BundleError
    from dvfb_stream.models import read_description

    description = read_description(folder)
    try:
        size = (folder / "weights.safetensors").stat().st_size
    except OSError as error:
        raise BundleError(f"{folder} has no readable weights.safetensors; restore the bundle") from error
    return {
        "name": name,
        "version": description.version,
        "labels": len(description.labels),
        "weights_bytes": size,
        "sha256": description.weights_sha256,
        "folder": str(folder),
    }


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "version")
    for title in ("labels", "weights"):
        table.add_column(title, justify="right")
    table.add_column("sha256")
    table.add_column("folder", overflow="fold")
    for facts in found:
        table.add_row(
            facts["name"],
            facts["version"],
            str(facts["labels"]),
            f"{facts['weights_bytes'] / 2**20:.1f} MiB",
            facts["sha256"][:12],
            facts["folder"],
        )
    Console(highlight=False).print(table)
