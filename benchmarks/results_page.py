"""Writes `docs/results.md`, the default model's card and what other pages quote, from the files under `results/`.

python -m benchmarks.results_page             # writes them
python -m benchmarks.results_page --check     # says which are not as results say, and exits with 1
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import quoted, sheets
from benchmarks.sheets import Results
from dvfb_stream.cli.measure.real_sheets import invariance_sheet
from dvfb_stream.cli.measure.sheets import Sheet, sheet

RESULTS = Path(__file__).parent / "results"

INTRODUCTION = """\
# Results

What was measured, each with the command that gives it and the file that keeps it. This page is made from those files
by `python -m benchmarks.results_page`, and so are the default model's card and the figures that README quotes. Times
are of the machine that each table names and are good for ratios only. Simulated frames are of
`dvfb_stream.simulation` as it was on that day: how well a model ranks them says little of real ones.
"""


def markdown(shown: Sheet) -> str:
    """Return a table and its notes."""
    lines = [f"| {' | '.join(shown.columns)} |", f"|{' --- |' * len(shown.columns)}"]
    lines += [f"| {' | '.join(row)} |" for row in shown.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in shown.notes)])


SECTIONS: tuple[tuple[str, str, str, Callable[[Results], Sheet]], ...] = (
    (
        "The default model on a benchmark of real frames",
        "real-benchmark-default",
        "dvfb evaluate --real benchmark --without x9-gisaxs --figure docs/images/real-benchmark.png",
        sheet,
    ),
    (
        "The same at the thresholds `high_precision`",
        "real-benchmark-precise-default",
        "dvfb evaluate --real benchmark --without x9-gisaxs --thresholds high_precision",
        sheet,
    ),
    (
        "The default model with grazing frames that experts tagged",
        "real-benchmark-tagged-default",
        "dvfb evaluate --real benchmark",
        sheet,
    ),
    (
        "Labels of the default model where nothing changes that they say",
        "invariance-default",
        "dvfb invariance benchmark --figure docs/images/invariance.png",
        sheet,
    ),
    (
        "The default model on seven real frames that were looked at before",
        "real-frames-default",
        "dvfb rank labels.csv --model default",
        sheet,
    ),
    (
        "Who decides the folds, set-ups left out of what is fitted",
        "decision",
        "python -m benchmarks.decision --without x9-gisaxs",
        sheets.decision,
    ),
    (
        "Folds measured along the azimuth, on the benchmark of real frames",
        "fold-physics",
        "python -m benchmarks.fold_physics tries --without x9-gisaxs",
        sheets.fold_physics,
    ),
    (
        "The same with grazing frames that experts tagged as having no fold",
        "fold-physics-tagged",
        "python -m benchmarks.fold_physics tries",
        sheets.fold_physics,
    ),
    (
        "Measured folds where nothing changes that they say",
        "fold-physics-invariance",
        "python -m benchmarks.fold_physics invariance",
        invariance_sheet,
    ),
    (
        "The default model on simulated frames",
        "model-default",
        "dvfb evaluate --model default --frames 5000 --figure docs/images/reliability.png",
        sheet,
    ),
    (
        "The paper's joint network on the same frames",
        "model-paper-joint",
        "dvfb evaluate --model runs/paper-joint/bundle --frames 5000",
        sheet,
    ),
    (
        "The default model on simulated, foreign and grazing frames",
        "independent-sets",
        "",
        sheets.independent_sets,
    ),
    ("Novelty", "novelty-default", "dvfb novelty --figure docs/images/novelty.png", sheet),
    ("Speed", "annotate-frames", "", sheets.annotate_frames),
    ("What a count is", "count-scale", "--frames 24 --real FOLDER", sheets.count_scale),
    ("Speed of the view", "view-speed", "", sheets.view_speed),
    ("Time in the live callback", "live-callback", "--frames 400", sheets.live_callback),
    (
        "Plans with and without the callback",
        "live-plan",
        "--rounds 3 --exposures 0.01 0.1",
        sheets.live_plan,
    ),
    ("From document to row", "live-throughput", "--frames 600 --rounds 2", sheets.live_throughput),
    ("Memory of the live callback", "live-memory", "--frames 20000", sheets.live_memory),
    ("Why the default model is as it is", "choose-default", "--work runs", sheets.choose_default),
    ("Table 1", "table-1", "dvfb reproduce 1 --work runs", sheet),
    ("Table 2", "table-2", "dvfb reproduce 2 --work runs", sheet),
    (
        "Table 4",
        "table-4",
        "dvfb reproduce 4 --work runs --out table-4.json",
        sheet,
    ),
    ("Adapting the default model", "adaptation", "", sheets.adaptation),
)
"""Title, file, command, and what makes a table of it. Of a benchmark only the options are given: its name is the
file's."""
FIGURES = {
    "model-default": ("reliability", "How often a label is there against how probable it was called"),
    "real-benchmark-default": ("real-benchmark", "What the default model says of real frames, by label"),
    "invariance-default": ("invariance", "Share of real frames whose labels stay the same, by alteration"),
    "novelty-default": ("novelty", "Novelty and fit residual by kind of frame"),
    "table-4": ("figure-6", "Average precision per label of six methods, and numbers of positive frames"),
}


def spelled_out(name: str, command: str) -> str:
    """Return a whole command."""
    if command.startswith(("dvfb", "python")):
        return command
    module = name.replace("live-", "live ") if name.startswith("live-") else name.replace("-", "_")
    return f"python -m benchmarks.{module} {command}".rstrip()


def page() -> Iterator[str]:
    """Yield the parts of the page; what was not measured is left out."""
    yield INTRODUCTION
    for title, name, command, shown in SECTIONS:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        link = f"[{path.name}](../benchmarks/results/{path.name})"
        table = markdown(shown(json.loads(path.read_text())))
        yield f"## {title}\n\n`{spelled_out(name, command)}` → {link}\n\n{table}\n"
        if name in FIGURES:
            image, caption = FIGURES[name]
            yield f"![{caption}](images/{image}.png)\n"


def main() -> int:
    """Write the pages, or say which are not as results say."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a page is not as it should be"
    )
    check = parser.parse_args().check
    status = 0
    try:
        for path, text in ((quoted.ROOT / "docs" / "results.md", "\n".join(page())), *quoted.pages()):
            if path.read_text(encoding="utf-8") == text:
                continue
            name = path.relative_to(quoted.ROOT)
            if check:
                print(
                    f"{name} is not what results say; write it: python -m benchmarks.results_page",
                    file=sys.stderr,
                )
                status = 1
            else:
                path.write_text(text, encoding="utf-8")
                # Not on stdout, which used to be the page.
                print(f"wrote {name}", file=sys.stderr)
    except quoted.StaleResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
