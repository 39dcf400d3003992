"""``dvfb models``: list, show and verify model bundles."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated, Any

import typer

from dvfb_stream.cli.terminal import quiet_libraries, report_error

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line and bundle.")]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a bundle, or its folder.")]

models = typer.Typer(help="List, show and verify the model bundles that --model knows.")


@models.callback(invoke_without_command=True)
def _bare(context: typer.Context, *, json: Json = False) -> None:
    if context.invoked_subcommand is None:
        list_bundles(json=json)


def list_bundles(*, json: Json = False) -> None:
    """List the model bundles that --model knows by name, those that win first.

    They come from the folder that the environment variable DVFB_MODELS names, then from the user's folder
    (~/.local/share/dvfb_stream/models, or below XDG_DATA_HOME), then from the package. A bundle that another of the
    same name hides is marked; one that cannot be read costs one line on stderr, and the exit status is 1.
    """
    from dvfb_stream.errors import BundleError
    from dvfb_stream.models import all_bundle_folders

    found: list[dict[str, Any]] = []
    failed = False
    with quiet_libraries():
        for name, folder in all_bundle_folders():
            try:
                hidden = any(facts["name"] == name for facts in found)
                found.append({**_facts(name, folder), "hidden": hidden})
            except BundleError as error:
                report_error(str(error))
                failed = True
    if json:
        for facts in found:
            typer.echo(json_format.dumps(facts))
    elif found:
        _print_list(found)
    elif not failed:
        typer.echo("no models; the environment variable DVFB_MODELS may name a folder of bundles")
    if failed:
        raise typer.Exit(1)


def show(
    model: Name = "default",
    *,
    card: Annotated[bool, typer.Option("--card", help="Print the whole card.")] = False,
    json: Json = False,
) -> None:
    """Say what a bundle is: labels and thresholds, how well it does, what it was trained on, what it costs."""
    from dvfb_stream.models import find_bundle, read_description

    folder = find_bundle(model)
    description = read_description(folder)
    if json:
        from dataclasses import asdict

        typer.echo(json_format.dumps({**_facts(folder.name, folder), "description": asdict(description)}))
        return
    if card:
        try:
            typer.echo((folder / "CARD.md").read_text(encoding="utf-8"), nl=False)
        except (OSError, UnicodeDecodeError) as error:
            from dvfb_stream.errors import BundleError

            raise BundleError(f"{folder} has no readable CARD.md: {error}") from error
        return
    from dvfb_stream.cli.models.sheet import print_sheet

    print_sheet(description, folder)


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Names or folders; without any, all that are listed."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Check every part of bundles: form, hash of the weights, calibration, card, and that it annotates a frame.

    One line on stderr for each problem, and exit status 1.
    """
    from dvfb_stream.cli.models.verification import problems_of
    from dvfb_stream.errors import BundleError
    from dvfb_stream.models import all_bundle_folders, find_bundle

    failed = False
    with quiet_libraries():
        folders: list[tuple[str, Path | None]] = (
            [(name, None) for name in names] if names else list(all_bundle_folders())
        )
        for name, found in folders:
            problems, folder = [], found
            try:
                folder = found or find_bundle(name)
                problems = problems_of(folder)
            except BundleError as error:
                problems = [str(error)]
            for problem in problems:
                report_error(problem)
            failed = failed or bool(problems)
            if json:
                typer.echo(
                    json_format.dumps(
                        {
                            "name": name,
                            "folder": None if folder is None else str(folder),
                            "problems": problems,
                        }
                    )
                )
            elif not problems:
                typer.echo(f"{name}: whole ({folder})")
    if failed:
        raise typer.Exit(1)


COMMANDS = {"list": list_bundles, "show": show, "verify": verify}


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


def _print_list(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "version")
    for title in ("labels", "weights"):
        table.add_column(title, justify="right")
    table.add_column("sha256")
    table.add_column("folder", overflow="fold")
    for facts in found:
        table.add_row(
            facts["name"] + (" (hidden)" if facts["hidden"] else ""),
            facts["version"],
            str(facts["labels"]),
            f"{facts['weights_bytes'] / 2**20:.1f} MiB",
            facts["sha256"][:12],
            facts["folder"],
        )
    Console(highlight=False).print(table)
