"""Writes `docs/results.md` from the files under `benchmarks/results/`, so that every number there has one.

python -m benchmarks.results_page > docs/results.md
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dvfb_stream.cli.evaluate.rendering import Sheet, circumstances, sheet

RESULTS = Path(__file__).parent / "results"

INTRODUCTION = """\
# Results

What was measured, each with the command that gives it and the file that keeps it. This page is made from those files
by `python -m benchmarks.results_page > docs/results.md`. Times are of the machine that each table names and are good
for ratios only.
"""

Results = Mapping[str, Any]


def markdown(shown: Sheet) -> str:
    """Return a table and its notes."""
    lines = [f"| {' | '.join(shown.columns)} |", f"|{' --- |' * len(shown.columns)}"]
    lines += [f"| {' | '.join(row)} |" for row in shown.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in shown.notes)])


def annotate_frames(results: Results) -> Sheet:
    """Frames a second and where the time goes, by batch."""
    stages = ("view", "coefficients", "novelty_statistics", "annotate")
    networks = [
        name for name in next(iter(results["batches"].values()))["seconds_per_frame"] if name not in stages
    ]
    rows = []
    for batch, found in results["batches"].items():
        spent = found["seconds_per_frame"]
        cells = [f"{1e3 * spent[stage]:.2f}" for stage in (*stages[:-1], *networks, "annotate")]
        rows.append([batch, *cells, f"{found['frames_per_second']:.0f}"])
    costs = "; ".join(
        f"{name}: {cost['multiply_adds'] / 1e6:.1f} million multiply-adds, {cost['parameters'] / 1e6:.2f} million "
        "parameters"
        for name, cost in results["networks"].items()
    )
    return Sheet(
        "",
        ("batch", "view", "coefficients", "statistics for novelty", *networks, "all", "frames a second"),
        rows,
        [
            f"Milliseconds a frame: {results['what']}. {results['model']}, {results['threads']} threads; the plan of "
            f"the geometry took {results['plan_build_seconds']:.2f} s once.",
            f"{costs}.",
            circumstances(results),
        ],
    )


def choose_default(results: Results) -> Sheet:
    """Validation mean average precision against cost."""
    rows = []
    for name, found in results["variants"].items():
        fits = found["fits"]
        scores = [f"{fit['validation']['joint']:.4f}" for fit in fits]
        seconds = sum(fit["seconds"] for fit in fits) / len(fits)
        rows.append([name, ", ".join(scores), f"{found['multiply_adds'] / 1e6:.1f}", f"{seconds:.0f}"])
    return Sheet(
        "",
        ("variant", "mean average precision", "million multiply-adds", "seconds a fit"),
        rows,
        [
            f"{results['epochs']} epochs of {results['train_frames']} frames, measured on "
            f"{results['validation_frames']} validation frames; a fit a seed.",
            circumstances(results),
        ],
    )


def adaptation(results: Results) -> Sheet:
    """Gains of adapted heads."""
    rows = []
    for name, fits in results["domains"].items():
        for count in sorted({fit["frames"] for fit in fits}):
            drawn = [fit for fit in fits if fit["frames"] == count]
            means = [
                f"{sum(fit['before'].values()) / len(fit['before']):.3f} → "
                f"{sum(fit['after'].values()) / len(fit['after']):.3f}"
                for fit in drawn
            ]
            gains = ", ".join(f"{fit['gain']:+.3f}" for fit in drawn)
            rows.append([name, str(count), gains, ", ".join(means)])
    return Sheet(
        "",
        ("domain", "labelled frames", "sum of gains over labels", "mean average precision"),
        rows,
        [
            f"{results['model']}, {results['copies']} copies of each frame; a column entry a draw.",
            circumstances(results),
        ],
    )


SECTIONS: tuple[tuple[str, str, str, Callable[[Results], Sheet]], ...] = (
    (
        "The default model on simulated frames",
        "model-default.json",
        "dvfb evaluate --model default --frames 5000 --figure docs/images/reliability.png",
        sheet,
    ),
    (
        "The paper's joint network on the same frames",
        "model-paper-joint.json",
        "dvfb evaluate --model runs/paper-joint/bundle --frames 5000",
        sheet,
    ),
    (
        "The default model on real frames",
        "real-frames-default.json",
        "dvfb evaluate --model default --labels labels.csv",
        sheet,
    ),
    ("Novelty", "novelty-default.json", "dvfb evaluate --novelty --figure docs/images/novelty.png", sheet),
    (
        "Speed",
        "annotate-frames.json",
        "python -m benchmarks.annotate_frames --beside runs/paper-joint/bundle",
        annotate_frames,
    ),
    (
        "Why the default model is as it is",
        "choose-default.json",
        "python -m benchmarks.choose_default --work runs",
        choose_default,
    ),
    ("Table 1", "table-1.json", "dvfb evaluate --table 1 --work runs", sheet),
    ("Table 2", "table-2.json", "dvfb evaluate --table 2 --work runs", sheet),
    (
        "Table 4",
        "table-4.json",
        "dvfb evaluate --table 4 --work runs --figure docs/images/figure-6.png",
        sheet,
    ),
    ("Adapting the default model", "adaptation.json", "python -m benchmarks.adaptation", adaptation),
)
FIGURES = {
    "model-default.json": (
        "reliability.png",
        "How often a label is there against how probable it was called",
    ),
    "novelty-default.json": ("novelty.png", "Novelty and fit residual by kind of frame"),
    "table-4.json": (
        "figure-6.png",
        "Average precision per label of six methods, and numbers of positive frames",
    ),
}


def page() -> Iterator[str]:
    """Yield the parts of the page; what was not measured is left out."""
    yield INTRODUCTION
    for title, name, command, shown in SECTIONS:
        path = RESULTS / name
        if not path.exists():
            continue
        results = json.loads(path.read_text())
        yield f"## {title}\n\n`{command}` → [{name}](../benchmarks/results/{name})\n\n{markdown(shown(results))}\n"
        if name in FIGURES:
            image, caption = FIGURES[name]
            yield f"![{caption}](images/{image})\n"


if __name__ == "__main__":
    print("\n".join(page()), end="")
