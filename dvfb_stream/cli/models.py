"""``dvfb models``: list, show and verify model bundles."""

from __future__ import annotations

import json as json_format
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dvfb_stream.cli.options import Json, flag, option
from dvfb_stream.cli.terminal import print_lines, print_table, quiet_libraries, report_error, say
from dvfb_stream.errors import BundleError, DvfbError, SettingsError
from dvfb_stream.labels import TITLES

if TYPE_CHECKING:
    from dvfb_stream.models import BundleDescription

Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a bundle, or its folder.")]


def list_bundles(*, json: Json = False) -> None:
    """List the model bundles that --model knows by name, those that win first.

    They come from the folder that the environment variable DVFB_MODELS names, then from the user's folder
    (~/.local/share/dvfb_stream/models, or below XDG_DATA_HOME), then from the package. A bundle that another of the
    same name hides is marked; one that cannot be read costs one line on stderr, and the exit status is 1.
    """
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
            say(json_format.dumps(facts))
    elif found:
        _print_list(found)
    elif not failed:
        say("no models; the environment variable DVFB_MODELS may name a folder of bundles")
    if failed:
        raise typer.Exit(1)


def show(
    model: Name = "default",
    *,
    card: Annotated[bool, flag("Print the whole card.")] = False,
    json: Json = False,
) -> None:
    """Say what a bundle is: labels and thresholds, how well it does, what it was trained on, what it costs."""
    from dvfb_stream.models import find_bundle, read_description

    folder = find_bundle(model)
    description = read_description(folder)
    if json:
        from dataclasses import asdict

        say(json_format.dumps({**_facts(folder.name, folder), "description": asdict(description)}))
        return
    if card:
        try:
            say((folder / "CARD.md").read_text(encoding="utf-8").rstrip("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{folder} has no readable CARD.md: {error}") from error
        return
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
                say(
                    json_format.dumps(
                        {
                            "name": name,
                            "folder": None if folder is None else str(folder),
                            "problems": problems,
                        }
                    )
                )
            elif not problems:
                say(f"{name}: whole ({folder})")
    if failed:
        raise typer.Exit(1)


def card(
    model: Name = "default",
    *,
    real: Annotated[
        list[Path] | None,
        option(
            "RESULTS.json",
            "What `dvfb evaluate --real` or `dvfb invariance` measured of this model; give it again for more.",
        ),
    ] = None,
    out: Annotated[Path | None, option("CARD.md", "Write it there.  [default: print it]")] = None,
) -> None:
    """Write the card of a bundle anew, with what was measured on real frames.

    dvfb evaluate --real FOLDER --model runs/default/bundle --out real.json

    dvfb models card runs/default/bundle --real real.json --out runs/default/bundle/CARD.md

    A card is not hashed: it may change and the bundle stays the same.
    """
    from dvfb_stream.cli.output_files import OutputFile

    text = card_of(model, real or [])
    if out is None:
        say(text.rstrip("\n"))
        return
    with OutputFile(out, option="--out", suffixes=(".md",)).opened() as stream:
        stream.write(text)


COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_bundles,
    "show": show,
    "card": card,
    "verify": verify,
}


def card_of(model: str, real: list[Path]) -> str:
    """Return the card of a bundle with results on real frames.

    Raises
    ------
    SettingsError
        When a file holds no such results, or those of another model.
    """
    from dvfb_stream.models import find_bundle, read_description
    from dvfb_stream.training.card import write_card

    description = read_description(find_bundle(model))
    identity = f"{description.name} {description.version} ({description.weights_sha256[:12]})"
    measured = []
    for file in real:
        try:
            results = json_format.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{file} holds no results: {error}") from error
        of = _at(results, "model")
        if of != identity:
            raise SettingsError(f"{file} is of the model {of}, not of {identity}; measure this one")
        measured.append(results)
    return write_card(description.name, description.version, description.training, measured=measured)


def _facts(name: str, folder: Path) -> dict[str, Any]:
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
    rows = [
        (
            facts["name"] + (" (hidden)" if facts["hidden"] else ""),
            facts["version"],
            str(facts["labels"]),
            f"{facts['weights_bytes'] / 2**20:.1f} MiB",
            facts["sha256"][:12],
            facts["folder"],
        )
        for facts in found
    ]
    columns = ("name", "version", "labels", "weights", "sha256", "folder")
    print_table(columns, rows, breakable=("name", "folder"))


def print_sheet(description: BundleDescription, folder: Path) -> None:
    """Print the essentials of a bundle; facts that it does not state are left out."""
    from dvfb_stream.models.bundle_description import OPERATING_POINTS
    from dvfb_stream.models.decision_numbers import Decision, accepted_from

    facts = description.training
    scores = _at(facts, "test", "average_precision", _at(facts, "test", "output"))
    print_lines(f"{description.name} {description.version}", style="bold")
    print_lines(*(f"{title + ':':14}{value}" for title, value in _lines(description, folder, facts)), "")
    rows = []
    decision = None if description.decision is None else Decision.from_dict(description.decision)
    for label in description.labels:
        best, high = (
            accepted_from(
                description.calibration[label], point, None if label in description.heads else decision
            )
            for point in OPERATING_POINTS
        )
        rows.append(
            (
                TITLES[label] + (" (adapted)" if label in description.heads else ""),
                _number(_at(facts, "test", "positive_ratio", label)),
                _number(_at(scores, label)),
                _number(best),
                _number(high if high <= 1 else None, absent="never"),
            )
        )
    rows.append(("mean", "", _number(_at(scores, "mean")), "", ""))
    print_table(("label", "positives", "average precision", "best F1", "high precision"), rows)
    print_lines(
        "Positives, average precision: of simulated frames. The last two columns: probability from which on a label "
        "is accepted (--thresholds); both were chosen on simulated frames. Real ones: --card."
    )


def _lines(description: BundleDescription, folder: Path, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("folder", str(folder)),
        ("sha256", description.weights_sha256),
        ("network", _network(description.architecture)),
    ]
    operations, parameters = _at(facts, "cost", "multiply_adds"), _at(facts, "cost", "parameters")
    if _is_number(operations) and _is_number(parameters):
        lines.append(
            (
                "cost",
                f"{operations / 1e6:.0f} million multiply-adds a frame, {parameters / 1e6:.1f} million parameters",
            )
        )
    trained, tested = _at(facts, "frames_taken", "train"), _at(facts, "frames_taken", "test")
    if trained is not None:
        epochs = len(facts["history"]) if isinstance(facts.get("history"), list) else 0
        where = ", ".join(str(facts[key]) for key in ("machine", "date") if key in facts)
        passes = f"{epochs} epochs, " if epochs else ""
        lines.append(("trained on", f"{trained} simulated frames, {passes}{where}"))
    if tested is not None:
        lines.append(("tested on", f"{tested} simulated frames"))
    adapted = _at(facts, "adapted_from")
    if adapted is not None:
        base = f"{_at(adapted, 'name')} {_at(adapted, 'version')} ({str(_at(adapted, 'sha256'))[:12]})"
        lines.append(("adapted from", f"{base} to {_at(facts, 'labelled_frames')} labelled frames"))
    error = _at(facts, "test", "expected_calibration_error")
    if _is_number(error):
        lines.append(("calibration", f"stated and observed probability differ by {error:.4f} in the mean"))
    return lines


def _network(architecture: Mapping[str, Any]) -> str:
    parts = [
        f"{view} {_at(architecture, view, 'name')}"
        for view in ("image", "rings", "coefficient")
        if architecture.get(view)
    ]
    widths = _at(architecture, "hidden")
    hidden = ", ".join(map(str, widths if isinstance(widths, list) else [widths]))
    return f"{' + '.join(parts)}, fully connected {hidden}"


def _at(facts: Any, *keys: Any) -> Any:
    """Return what lies at a path of keys; None where the path ends before: a bundle may state any facts, or none."""
    for key in keys:
        if not isinstance(facts, Mapping) or not isinstance(key, str):
            return None
        facts = facts.get(key)
    return facts


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _number(value: Any, *, absent: str = "") -> str:
    return f"{value:.3f}" if _is_number(value) else absent


def problems_of(folder: Path) -> list[str]:
    """Return what is wrong with a bundle, a line each.

    Form, hash, tensors and calibration are checked when it is read; then its card is looked for, and a blank and a
    noisy frame are annotated.
    """
    import numpy as np

    import dvfb_stream.reproduction.peer_networks  # noqa: F401 - their networks and recipes have names now
    from dvfb_stream import Annotator, Frame, Geometry
    from dvfb_stream.models import load_bundle

    try:
        bundle = load_bundle(folder)
    except DvfbError as error:
        return [str(error)]
    problems = []
    try:
        if not (folder / "CARD.md").read_text(encoding="utf-8").strip():
            problems.append(f"{folder / 'CARD.md'} is empty")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{folder} has no readable CARD.md: {error}")
    geometry = Geometry(shape=(128, 128), center_x=60.0, center_y=70.0)
    noise = np.random.default_rng(0).poisson(20.0, geometry.shape)
    try:
        annotations = Annotator(bundle, device="cpu").annotate(
            [Frame(pixels, geometry) for pixels in (np.zeros(geometry.shape, int), noise)]
        )
    except (DvfbError, ValueError, RuntimeError) as error:
        return [*problems, f"{folder} cannot annotate a frame: {error}"]
    for kind, annotation in zip(("blank", "noisy"), annotations, strict=True):
        if not annotation.ok:
            problems.append(f"{folder} cannot annotate a {kind} frame: {annotation.reason}")
        elif not all(0.0 <= score <= 1.0 for score in annotation.scores.values()):
            problems.append(f"{folder} gives a {kind} frame probabilities that are none: {annotation.scores}")
    return problems
