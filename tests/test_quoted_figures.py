"""Figures that pages quote are those of the files of results, and results of another model are not quoted."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import quoted, results_page

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"

FIGURE = re.compile(r"(?<![\d.\w])[+-]?0\.\d{2,4}(?![\d.])")
"""What measurements look like: 0.905, +0.326."""


def prose(text):
    """Return a page without what is generated, code, and the targets of links."""
    text = quoted.MARKED.sub("", text)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)


def numbers(found):
    """Yield all numbers in results, however deep."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from numbers(part)
    elif isinstance(found, int | float):
        yield found


def test_readme_states_no_measurement_outside_its_generated_parts():
    text = prose((ROOT / "README.md").read_text())
    assert FIGURE.findall(text) == []
    assert re.findall(r"\d+ %|\d+ frames a second|\d+ million", text) == []


def test_figures_in_the_prose_on_adapting_are_those_of_its_results():
    measured = list(numbers(json.loads((RESULTS / "adaptation.json").read_text())))
    # Means over labels are in no file; docs/results.md makes them of one.
    means = (ROOT / "docs" / "results.md").read_text().partition("## Adapting the default model")[2]
    figures = FIGURE.findall(
        prose((ROOT / "docs" / "models.md").read_text().partition("How much it helps")[2])
    )
    assert len(figures) > 4
    for figure in figures:
        digits = len(figure.partition(".")[2])
        assert figure in means or any(round(number, digits) == float(figure) for number in measured), figure


def test_readme_begins_with_real_frames():
    """Headline figures are of real frames; those of simulated ones stand beside them."""
    real = json.loads((RESULTS / "real-benchmark-default.json").read_text())
    precise = json.loads((RESULTS / "real-benchmark-precise-default.json").read_text())
    simulated = json.loads((RESULTS / "model-default.json").read_text())
    table = (ROOT / "README.md").read_text().partition("<!-- from results: real-and-simulated -->")[2]
    header, *rows = [
        line.strip("| ").split(" | ") for line in table.partition("\n\n")[0].strip().splitlines()
    ]
    assert header[1:] == ["real frames", "simulated frames"]
    cells = {row[0].split(":")[0]: row[1:] for row in rows}
    assert cells["frames with every known label right"][0].startswith(f"{real['all_right']['value']:.2f} (")
    (strict,) = [row for title, row in cells.items() if "high_precision" in title]
    assert strict[0].startswith(f"{precise['precision']['value']:.2f} (")
    assert cells["mean average precision"][1].rstrip(" |") == f"{simulated['average_precision']['mean']:.3f}"


def test_the_card_says_what_was_measured_on_real_frames():
    real = json.loads((RESULTS / "real-benchmark-default.json").read_text())
    card = (quoted.BUNDLE / "CARD.md").read_text()
    section = card.partition("## On real frames")[2].partition("\n## ")[0]
    for label, found in real["labels"].items():
        row = next(line for line in section.splitlines() if line.startswith(f"| {label} |"))
        assert row.startswith(f"| {label} | {found['have_it']} | {found['have_it_not']} | {found['right']} |")
    assert card.index("## On real frames") < card.index("## Average precision on simulated frames")


def test_results_of_another_model_are_not_quoted(monkeypatch, tmp_path):
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    stale = tmp_path / "real-benchmark-default.json"
    stale.write_text(json.dumps({**json.loads(stale.read_text()), "model": "default 9.9.9 (0123456789ab)"}))
    monkeypatch.setattr(quoted, "RESULTS", tmp_path)
    for make in (quoted.card, quoted.real_and_simulated, quoted.precise):
        with pytest.raises(
            quoted.StaleResultsError, match=r"real-benchmark-default.json is of default 9\.9\.9"
        ):
            make()


def test_a_mark_without_an_end_or_of_no_part_is_told():
    assert quoted.renewed("as it was") == "as it was"
    with pytest.raises(ValueError, match="the part cost has no <!-- end -->"):
        quoted.renewed("<!-- from results: cost -->\nforgotten")
    with pytest.raises(ValueError, match="the part cost has no <!-- end -->"):
        quoted.renewed("<!-- from results: cost -->\n<!-- from results: precise -->\n<!-- end -->")
    with pytest.raises(ValueError, match="there is no part 'nothing'"):
        quoted.renewed("<!-- from results: nothing -->\n<!-- end -->")


def test_what_is_quoted_is_put_between_the_marks():
    renewed = quoted.renewed("before\n<!-- from results: precise -->\n0.99\n<!-- end -->\nafter")
    assert renewed.startswith("before\n<!-- from results: precise -->\n| on real frames |")
    assert renewed.endswith("|\n<!-- end -->\nafter")
    assert "0.99\n" not in renewed


@pytest.mark.parametrize("table", ["table-1", "table-2", "table-4"])
def test_tables_of_an_earlier_simulator_say_so(table):
    results = json.loads((RESULTS / f"{table}.json").read_text())
    section = (
        "\n".join(results_page.page()).partition(f"`dvfb reproduce {table[-1]} ")[2].partition("\n## ")[0]
    )
    assert ("Of an earlier simulator" in section) == (results["date"] <= "2026-11-24")
    for facts in results["trained_on"].values():
        steps = facts["epochs"] * (facts["frames"] // facts["fitting"]["batch_size"])
        assert f"{facts['epochs']} epochs, {steps} steps of" in section
