"""What a command imports, in a fresh interpreter: it is nearly all of the time until it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import CENTRE

HEAVY = {
    "torch",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "tiled",
    "bluesky",
    "pandas",
    "h5py",
    "fabio",
    "pyFAI",
}


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("--version",),
        ("models",),
        ("models", "show", "default"),
        ("annotate", "--help"),
        ("tables", "2"),
    ],
)
def test_what_computes_nothing_imports_nothing_that_computes(imported_by, words) -> None:
    assert not imported_by(*words) & HEAVY


def test_a_frame_is_annotated_without_what_only_fitting_needs(imported_by, files, tiny_bundle: Path) -> None:
    imported = imported_by("annotate", files["a.tif"], *CENTRE, "--model", tiny_bundle)
    assert "torch" in imported
    assert not imported & {"sklearn", "matplotlib", "tiled", "bluesky", "pandas", "pyFAI"}


def test_presets_are_listed_without_the_command_lines_heavy_packages(imported_by) -> None:
    assert not imported_by("train") & {"matplotlib", "tiled", "bluesky", "fabio", "pyFAI"}
