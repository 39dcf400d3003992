"""What "Finding your data" shows is what comes out, line by line."""

from __future__ import annotations

import doctest
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from dvfb_stream.catalog import TiledSink

from .test_find_frames import labelled

PAGE = Path(__file__).parents[2] / "docs" / "finding.md"
LAMELLA = "8a31f0c2-7b1d-4d7e-8b0c-6f2a9d3e5c10"
POWDER = "c47d9be1-0f3a-4e6b-a1d2-5b8e7c6f4a32"
OTHER = "f02b6a77-4c0e-4a53-9f0e-3a7d4b1c8e21"
BEGUN = 1_793_000_000.0
"""On 26 October 2026; the runs come a week later, an hour after one another."""


@pytest.fixture(scope="module")
def catalog(server, analysis_documents):
    client = server.create_container(key="finding-page")
    sink = TiledSink(client)
    for number, (uid, frames, sample) in enumerate(
        [
            (LAMELLA, (["halo"], ["four_fold"], ["halo", "four_fold"]), "lamella"),
            (POWDER, (["rings"], ["rings"]), "powder"),
            (OTHER, (["four_fold"], ["rings"]), "lamella"),
        ]
    ):
        start = {"uid": uid, "scan_id": 101 + number, "time": BEGUN + 7 * 86400 + number * 3600}
        raw = client.create_container(key=uid, metadata={"start": start})
        raw.create_container(key="primary").write_array(np.zeros((len(frames), 4, 6)), key="image")
        documents = analysis_documents(*[0.9] * len(frames), raw_uid=uid)
        said = {"sample_name": sample, "scan_id": start["scan_id"]}
        for name, doc in labelled(documents, *frames, time=start["time"], **said):
            sink(name, doc)
    assert sink.close(120)
    return client


def test_each_line_of_the_page_gives_what_it_shows(catalog):
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```pycon\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 6
    lines = "\n".join(blocks)
    test = doctest.DocTestParser().get_doctest(lines, {"client": catalog}, PAGE.name, str(PAGE), 0)
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=told.append)
    assert result.attempted > 15
    assert result.failed == 0, "".join(told)


def test_the_notebook_says_what_the_page_says():
    """`python docs/notebook.py` makes it; the lines are those that are run above."""
    made = runpy.run_path(str(PAGE.with_name("notebook.py")))
    notebook = made["notebook_of"](PAGE.read_text(encoding="utf-8"))
    assert PAGE.with_suffix(".ipynb").read_text(encoding="utf-8") == made["written"](notebook)
    assert sum(cell["cell_type"] == "code" for cell in notebook["cells"]) > 15


def test_each_argument_and_word_of_the_page_is_there():
    import inspect

    from dvfb_stream.catalog import find_runs
    from dvfb_stream.catalog.expression.syntax import QUANTITIES

    text = PAGE.read_text(encoding="utf-8")
    parameters = inspect.signature(find_runs).parameters.keys() - {"client", "expression", "progress", "raw"}
    assert all(f"`{name}=" in text for name in parameters), parameters
    assert all(f"`{name}" in text for name in QUANTITIES)
