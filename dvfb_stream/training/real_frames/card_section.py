"""What a card says of a model on real frames, from the results of `dvfb evaluate --real` and `dvfb invariance`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dvfb_stream.errors import SettingsError

Results = Mapping[str, Any]

AT_CHANCE = 0.75
"""ROC area below which a label is warned of: more than a quarter of the pairs is ranked wrongly; by chance half."""

OVER_ALL = {
    "all_right": "frames with every known label right",
    "precision": "precision of accepted labels",
    "recall": "recall of accepted labels",
    "mean_average_precision": "mean average precision",
    "expected_calibration_error": "calibration error",
}
ALTERATIONS = {
    "symmetries": "turned and mirrored, exactly",
    "rotations": "turned by any angle",
    "centre_off": "centre off by 3 pixels",
    "counts_tenth": "a tenth of the counts",
    "counts_tenfold": "ten times the counts",
    "scaled": "values scaled by 0.1 and 10",
    "beamstop": "beamstop masked, or not masked",
    "binned": "2 x 2 pixels summed",
    "larger_detector": "on a detector 1.5 times as large, masked around",
    "larger_continued": "on a detector 1.5 times as large, carried on",
}
"""What is done to frames, in the words of cards and tables."""


def stated(found: Results) -> str:
    """Return a statistic with its interval, or nothing where there is none."""
    if found["value"] is None:
        return ""
    if found["interval"] is None:
        return f"{found['value']:.2f}"
    low, high = found["interval"]
    return f"{found['value']:.2f} ({low:.2f} to {high:.2f})"


def real_section(measured: Sequence[Results]) -> str:
    """Return the section's text.

    Parameters
    ----------
    measured
        Results of the kinds ``real``, at least one, and ``invariance``.

    Raises
    ------
    SettingsError
        When there are others, or none of real frames.
    """
    other = sorted({str(found.get("kind")) for found in measured} - {"real", "invariance"})
    if other:
        raise SettingsError(
            f"a card has results of the kinds real and invariance, not {', '.join(other)}; make them by "
            "dvfb evaluate --real and dvfb invariance"
        )
    real = [found for found in measured if found["kind"] == "real"]
    if not real:
        raise SettingsError(
            "no results on real frames; make them: dvfb evaluate --real FOLDER --out real.json"
        )
    parts = [_over_all(real), _by_label(real[0]), "\n".join(f"- {line}" for line in _warnings(real))]
    parts += [_unchanged(found) for found in measured if found["kind"] == "invariance"]
    return "\n\n".join(part for part in parts if part)


def _over_all(real: Sequence[Results]) -> str:
    first = real[0]
    lines = [
        f"Measured {first['date']} on {first['frames']} frames of {len(first['setups'])} set-ups, each set-up "
        "weighed alike; in brackets\n95 % intervals over set-ups.",
        "",
        f"| thresholds | {' | '.join(found['operating_point'] for found in real)} |",
        f"| --- |{' --- |' * len(real)}",
    ]
    for name, title in OVER_ALL.items():
        lines.append(f"| {title} | {' | '.join(stated(found[name]) for found in real)} |")
    return "\n".join(lines)


def _by_label(results: Results) -> str:
    lines = [
        f"By label, at `{results['operating_point']}`, in frames; average precision and ROC area weighed by set-up:",
        "",
        "| label | have it | have it not | right | wrong | missed | average precision | ROC area |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for label, found in results["labels"].items():
        counts = (str(found[name]) for name in ("have_it", "have_it_not", "right", "wrong", "missed"))
        ranked = (stated(found[name]) for name in ("average_precision", "roc_area"))
        lines.append(f"| {label} | {' | '.join((*counts, *ranked))} |")
    return "\n".join(lines)


def _warnings(real: Sequence[Results]) -> Iterator[str]:
    """Yield what nobody knows, what is hardly better than chance, and what a name promises."""
    labels = real[0]["labels"]
    never = [label for label, found in labels.items() if not found["have_it"]]
    if never:
        yield f"No frame has {', '.join(never)}: how well these are found on real frames is not known."
    areas = {label: found["roc_area"]["value"] for label, found in labels.items()}
    poor = [label for label, area in areas.items() if area is not None and area < AT_CHANCE]
    if poor:
        yield f"Ranked little better than by chance (ROC area below {AT_CHANCE}): {', '.join(poor)}."
    for found in real:
        if found["operating_point"] == "high_precision":
            yield (
                "`high_precision` is set so that 95 % of the accepted simulated frames have the label; here "
                f"{100 * found['precision']['value']:.0f} % of what was accepted is right."
            )


def _unchanged(results: Results) -> str:
    lines = [
        f"Labels do not always stay the same where nothing changes that they say ({results['frames']} real frames, "
        f"`{results['operating_point']}`):",
        "",
        "| frames are | share with the same accepted labels |",
        "| --- | --- |",
    ]
    for name, found in results["alterations"].items():
        lines.append(f"| {ALTERATIONS.get(name, name)} | {stated(found['unchanged'])} |")
    twins = stated(results["isotropic"]["fold_or_symmetry"])
    lines += ["", f"Isotropic twins, which have no direction, with a fold or symmetry label: {twins}."]
    return "\n".join(lines)
