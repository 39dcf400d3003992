"""A user's script is checked against our types: the package that is installed for editing says that it has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
from dvfb_stream import Geometry
from dvfb_stream.callbacks import LiveAnnotator
from dvfb_stream.catalog import find_runs
from dvfb_stream.rows import to_dataframe

live = LiveAnnotator(detectors={"saxs_image": Geometry(shape=(4, 6), center_x=2.5, center_y=1.5)})
reveal_type(live)
reveal_type(live.latest("saxs_image"))
live.wait(timeout="soon")
"""

# The types of large packages, of which the script needs none, would take mypy half a minute.
SETTINGS = """
[mypy]
strict = True
follow_imports = silent

[mypy-torch.*,pydantic.*,rich.*,sklearn.*,typer.*]
follow_imports = skip
"""


@pytest.mark.slow
def test_a_users_script_gets_types(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = checked.stdout
    assert 'Revealed type is "dvfb_stream.callbacks.live.LiveAnnotator"' in said, said
    assert 'Revealed type is "dvfb_stream.annotations.Annotation | None"' in said, said
    assert 'Argument "timeout" to "wait" of "LiveAnnotator" has incompatible type "str"' in said, said
    assert "import-untyped" not in said, said
    assert "import-not-found" not in said, said
