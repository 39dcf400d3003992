"""The profile in a real IPython, and its start-up files where there is none, as under the queue server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from dvfb_stream.catalog import find_runs, read_annotations
from dvfb_stream.catalog.place import find_place
from dvfb_stream.profiles.catalogs import served_folder
from dvfb_stream.profiles.installation import install_profile

from .conftest import PATIENCE

WITHOUT_IPYTHON = """
import sys
from pathlib import Path
namespace = {}
for file in sorted(Path(sys.argv[1]).glob("*.py")):
    exec(compile(file.read_text(), file, "exec"), namespace)
namespace["RE"](namespace["bp"].count([namespace["det"]], 2))
"""


@pytest.fixture
def environment(describe, tiny_bundle):
    """The environment of a session on a beamline of its own: the tiny model, a catalog beside the description."""
    path = describe(f'name = "trial"\nmodel = "{tiny_bundle}"\n[catalog]\nfolder = "catalog"\n[simulation]\n')
    inherited = {name: value for name, value in os.environ.items() if name != "TILED_URI"}
    return {**inherited, "DVFB_BEAMLINE": str(path), "OMP_NUM_THREADS": "1", "TERM": "dumb", "COLUMNS": "200"}


@pytest.fixture
def profile(tmp_path) -> Path:
    return install_profile(tmp_path / "profile")[0]


def test_a_session_starts_annotates_answers_and_ends_with_every_row_stored(tmp_path, profile, environment):
    ipython = shutil.which("ipython", path=str(Path(sys.executable).parent))
    arguments = ["--profile-dir", str(profile), "--simple-prompt", "--no-banner", "--colors=NoColor"]
    session = pexpect.spawn(
        ipython, arguments, env=environment, encoding="utf-8", timeout=PATIENCE, dimensions=(50, 250)
    )
    prompts = iter(range(1, 100))

    def answer(line: str) -> str:
        session.expect_exact(f"In [{next(prompts)}]: ")
        said = session.before
        session.sendline(line)
        return said

    welcome = answer('(uid,) = RE(bp.count([det], 3), sample_name="trial")')
    assert "Traceback" not in welcome
    assert "dvfb: beamline trial" in welcome
    assert 'RE(bp.count([det], 5), sample_name="trial")' in welcome
    scan = answer(f"live.wait({PATIENCE})")
    table = scan + answer("[(row['frame'], row['status']) for row in read_annotations(catalog, uid)]")
    assert "| 3 frames: " in table  # printed before the prompt came back, or after
    assert "True" in table
    assert "[(0, 'ok'), (1, 'ok'), (2, 'ok')]" in answer("RE(bp.scan([det], motor, -1, 1, 4)); exit()")
    session.expect(pexpect.EOF)
    session.close()
    assert (session.exitstatus, session.signalstatus) == (0, None)

    with served_folder(tmp_path / "catalog") as catalog:  # it is free again, and lacks nothing
        scans = {run.metadata["start"]["scan_id"]: uid for uid, run in catalog.items()}
        assert set(scans) == {1, 2}
        counts = {scan: len(read_annotations(catalog, uid)) for scan, uid in scans.items()}
        assert counts == {1: 3, 2: 4}
        assert len(catalog) == 2, "annotations lie among the raw runs"
        analyses = [run.metadata for run in find_place(catalog).values()]
        assert all(run["stop"]["exit_status"] == "success" for run in analyses)
        assert {run["start"]["analysis"]["raw"]["beamline_id"] for run in analyses} == {"trial"}
        assert set(find_runs(catalog, "rings")) <= set(catalog)


def test_the_start_up_files_need_no_ipython_and_the_process_ends(tmp_path, profile, environment):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_IPYTHON, str(profile / "startup")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "| 2 frames: " in done.stdout  # although nobody waited for the rows
