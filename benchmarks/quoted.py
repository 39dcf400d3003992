"""What README and pages quote of results: parts between two marks, made from the files under `benchmarks/results/`.

    <!-- from results: NAME -->
    ...
    <!-- end -->

`python -m benchmarks.results_page` writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

from dvfb_stream.cli.models import card_of
from dvfb_stream.labels import TITLES
from dvfb_stream.reproduction import paper
from dvfb_stream.training.real_frames.card_section import stated

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BUNDLE = ROOT / "models" / "bundles" / "default"

OF_THE_CARD = ("real-benchmark-default", "real-benchmark-precise-default", "invariance-default")
"""Results that the default model's card is written with, those by its usual thresholds first."""

MARKED = re.compile(r"<!-- from results: (?P<name>[\w-]+) -->\n(?:(?!<!-- ).)*<!-- end -->", re.DOTALL)

Results = dict[str, Any]


class StaleResultsError(Exception):
    """Results that a page quotes are of another model than the one that is shipped."""


def results_of(name: str) -> Results:
    """Return what a file says."""
    found: Results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def shipped() -> str:
    """Return the name, version and hash of the default model, as results state them."""
    described = json.loads((BUNDLE / "model.json").read_text(encoding="utf-8"))
    return f"{described['name']} {described['version']} ({described['weights_sha256'][:12]})"


def of_the_default(name: str) -> Results:
    """Return results that must be of the default model as it is shipped.

    Raises
    ------
    StaleResultsError
        When they are of another.
    """
    found = results_of(name)
    if found["model"] != shipped():
        raise StaleResultsError(
            f"{name}.json is of {found['model']}, and {shipped()} is shipped; docs/results.md has the command that "
            "measures it"
        )
    return found


def card() -> str:
    """Return the default model's card."""
    for name in OF_THE_CARD:
        of_the_default(name)
    return card_of(str(BUNDLE), [RESULTS / f"{name}.json" for name in OF_THE_CARD])


def real_and_simulated() -> str:
    """Return the table of the default model on real frames and on simulated ones."""
    real, precise, altered = (of_the_default(name) for name in OF_THE_CARD)
    simulated = of_the_default("model-default")
    ranked = simulated["average_precision"]

    def label(name: str) -> tuple[str, str, str]:
        found = real["labels"][name]
        counted = f"{found['have_it']} of {found['have_it'] + found['have_it_not']} have it"
        return (
            f"`{name}` alone: average precision ({counted})",
            stated(found["average_precision"]),
            f"{ranked[name]:.3f}",
        )

    rows = [
        (f"{simulated['model']}", "real frames", "simulated frames"),
        ("---", "---", "---"),
        (
            "measured on",
            f"{real['frames']} frames of {len(real['setups'])} set-ups",
            f"{simulated['test_frames']:,} frames",
        ),
        ("frames with every known label right", stated(real["all_right"]), ""),
        (
            "precision, recall of accepted labels",
            f"{stated(real['precision'])}, {stated(real['recall'])}",
            "",
        ),
        (
            "the same with `high_precision`, set for 0.95 on simulated frames",
            f"{stated(precise['precision'])}, {stated(precise['recall'])}",
            "",
        ),
        ("mean average precision", stated(real["mean_average_precision"]), f"{ranked['mean']:.3f}"),
        label("two_fold"),
        label("symmetry_rings"),
        (
            "calibration error",
            stated(real["expected_calibration_error"]),
            f"{simulated['expected_calibration_error']:.3f}",
        ),
        (
            f"same accepted labels when turned by quarters and mirrored ({altered['frames']} frames)",
            stated(altered["alterations"]["symmetries"]["unchanged"]),
            "",
        ),
        (
            "the same where frames are turned by any angle",
            stated(altered["alterations"]["rotations"]["each"]),
            "",
        ),
        (
            "the same where the beam centre is off by 3 pixels",
            stated(altered["alterations"]["centre_off"]["each"]),
            "",
        ),
        (
            "the same with a tenth of the counts",
            stated(altered["alterations"]["counts_tenth"]["each"]),
            "",
        ),
        (
            "a fold or symmetry label where the azimuthal mean is all there is",
            stated(altered["isotropic"]["fold_or_symmetry"]),
            "",
        ),
    ]
    links = [f"[{name}](benchmarks/results/{name}.json)" for name in (*OF_THE_CARD, "model-default")]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{table}\n\nIn brackets 95 % intervals over set-ups, each of which weighs alike. From the files\n"
        f"{links[0]},\n{links[1]},\n{links[2]} and {links[3]}."
    )


def cost() -> str:
    """Return what the default model costs."""
    found = of_the_default("annotate-frames")
    network = found["networks"]["default"]
    size = (BUNDLE / "weights.safetensors").stat().st_size
    speeds = [f"{batch['frames_per_second']:.0f} in batches of {n}" for n, batch in found["batches"].items()]
    return fill(
        f"The default network needs {network['multiply_adds'] / 1e6:.0f} million multiply-adds a frame, its "
        f"weights take {size / 1e6:.1f} MB. Frames of 1043 x 981 pixels annotated a second, view and coefficients "
        f"included: {', '.join(speeds)} ({found['device']}, {found['date']}, "
        "[annotate-frames.json](benchmarks/results/annotate-frames.json)).",
        118,
        break_long_words=False,
        break_on_hyphens=False,
    )


def steps_of(trained: Results) -> int:
    """Return the steps of a fit."""
    return int(trained["epochs"] * (trained["frames"] // trained["fitting"]["batch_size"]))


def paper_networks() -> str:
    """Return how the paper's networks were fitted, and what they come to beside the default."""
    beside, ours = results_of("model-paper-joint"), of_the_default("model-default")
    trained = results_of("table-2")["trained_on"]
    if (
        trained["joint"]["sha256"][:12] not in beside["model"]
        or beside["positive_ratio"] != ours["positive_ratio"]
    ):
        raise StaleResultsError(
            "model-paper-joint.json must be of the network of table-2.json, and of the frames of model-default.json"
        )
    image, coefficient, joint = (trained[name] for name in ("image", "coefficient", "joint"))
    return fill(
        f"On the same {ours['test_frames']:,} simulated frames the default comes to a mean average precision of "
        f"{ours['average_precision']['mean']:.3f} and the paper's joint network, as it is fitted here, to "
        f"{beside['average_precision']['mean']:.3f}. That fit is far from the paper's: {steps_of(image):,} steps "
        f"of its image network, {steps_of(coefficient):,} of its coefficient network and {steps_of(joint):,} of "
        "the joint layers, with learning rates of our own, where the paper trains to convergence; and its training "
        f"frames are of an earlier simulator. The paper reports {paper.TABLE_2['joint']['mean']:.3f} on frames of "
        "its own simulator, which are not public: that figure compares with neither.",
        118,
    )


def seven_frames() -> str:
    """Return what two default models say of seven real frames."""
    before, after = results_of("real-frames-0.2.0"), results_of("real-frames-default")
    rows = [(f"label: lowest that has it, highest that has not | {before['model']} | {after['model']}",)]
    rows.append(("--- | --- | ---",))
    for name, found in after["labels"].items():
        if found["positives"] and found["negatives"]:
            cells = [
                f"{one['labels'][name]['lowest_positive']['score']:.3f}, "
                f"{one['labels'][name]['highest_negative']['score']:.3f}"
                for one in (before, after)
            ]
            title = f"`{name}`: of {found['positives']}, of {found['negatives']}"
            rows.append((f"{title} | {' | '.join(cells)}",))
    return "\n".join(f"| {row} |" for (row,) in rows)


def precise() -> str:
    """Return what `high_precision` gives on real frames."""
    usual, strict = (of_the_default(name) for name in OF_THE_CARD[:2])
    lines = ["| on real frames | precision | recall |", "| --- | --- | --- |"]
    for found in (usual, strict):
        lines.append(
            f"| `{found['operating_point']}` | {stated(found['precision'])} | {stated(found['recall'])} |"
        )
    return "\n".join(lines)


def adaptation() -> str:
    """Return what adapting brought, by number of labelled frames."""
    domains = results_of("adaptation")["domains"]
    numbers = sorted({draw["frames"] for draws in domains.values() for draw in draws})
    lines = [
        "| labelled frames | `single`: one set-up | `mixed`: another set-up every 50 frames, others to judge on |"
    ]
    lines.append("| --- | --- | --- |")
    for number in numbers:
        gains = [
            ", ".join(f"{draw['gain']:+.3f}" for draw in domains[domain] if draw["frames"] == number)
            for domain in ("single", "mixed")
        ]
        lines.append(f"| {number} | {' | '.join(gains)} |")
    return "\n".join(lines)


def label_shares() -> str:
    """Return how often simulated frames have each label, beside the paper."""
    found = results_of("label-shares")
    here = f"first {found['frames']:,} frames of seed {found['seed']}"
    lines = [f"| label | {here} | paper |", "| --- | --- | --- |"]
    for label, share in found["shares"].items():
        lines.append(f"| {TITLES[label]} | {share:.3f} | {paper.POSITIVE_RATIOS[label]:.3f} |")
    return "\n".join(lines)


PARTS: dict[str, Callable[[], str]] = {
    "real-and-simulated": real_and_simulated,
    "cost": cost,
    "paper-networks": paper_networks,
    "seven-frames": seven_frames,
    "precise": precise,
    "adaptation": adaptation,
    "label-shares": label_shares,
}
"""What a mark names."""

QUOTING = ("README.md", "docs/models.md", "docs/simulate.md", "docs/training.md")
"""Pages with marks."""


def renewed(text: str) -> str:
    """Return a page with its marked parts as results say.

    Raises
    ------
    ValueError
        When a mark has no end, or names no part.
    """
    for name in re.findall("<!-- from results: (.*?) -->", MARKED.sub("", text)):
        raise ValueError(f"the part {name} has no <!-- end -->, or another begins before it")
    return MARKED.sub(lambda found: marked(found["name"]), text)


def marked(name: str) -> str:
    """Return a part between its marks."""
    if name not in PARTS:
        raise ValueError(f"there is no part {name!r}; there are {', '.join(PARTS)}")
    return f"<!-- from results: {name} -->\n{PARTS[name]()}\n<!-- end -->"


def pages() -> Iterator[tuple[Path, str]]:
    """Yield the card, and each page that quotes results, as they should be."""
    yield BUNDLE / "CARD.md", card()
    for name in QUOTING:
        yield ROOT / name, renewed((ROOT / name).read_text(encoding="utf-8"))
