"""What the benchmarks measured, as tables for `docs/results.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dvfb_stream.cli.measure.sheets import Sheet, circumstances

Results = Mapping[str, Any]
Rows = Sequence[Sequence[str]]


def table(results: Results, columns: Sequence[str], rows: Rows, *notes: str) -> Sheet:
    """Return a table with its notes, the last of which says on what it was measured."""
    return Sheet("", columns, rows, [*notes, circumstances(results)])


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
    return table(
        results,
        ("batch", "view", "coefficients", "statistics for novelty", *networks, "all", "frames a second"),
        rows,
        f"Milliseconds a frame: {results['what']}. {results['model']}, {results['threads']} threads; the plan of "
        f"the geometry took {results['plan_build_seconds']:.2f} s once.",
        f"{costs}.",
    )


def view_speed(results: Results) -> Sheet:
    """Milliseconds of a view, beside other ways to make it."""
    contenders = {"WholeFrames": "as before", "Ours": "now", "Torch": "torch", "Numba": "numba"}
    rows = []
    for case, found in results["cases"].items():
        spent, ratios = found["milliseconds"], found["times_before"]
        cells = [f"{spent[name]:.2f} ({ratios[name]:.2f})" if name in spent else "" for name in contenders]
        rows.append([case, *cells])
    numba = results["numba"]
    return table(
        results,
        ("frames", *contenders.values()),
        rows,
        f"In brackets, times that of before. {results['what']}; all took turns, {results['rounds']} "
        "rounds of a megapixel frame.",
        f"numba takes {numba['import_seconds']['numba']:.1f} s to import, where torch takes "
        f"{numba['import_seconds']['torch']:.1f} s, and {numba['first_use_seconds']:.1f} s to compile.",
    )


def count_scale(results: Results) -> Sheet:
    """Labels of scaled, corrected and subtracted frames beside those of the counts."""
    rows = []
    for kind, found in results["kinds"].items():
        for form, moved in found["forms"].items():
            cells = [
                f"{100 * moved[when]['same_labels']:.0f} % ({moved[when]['mean_largest_change']:.2f}, "
                f"{moved[when]['largest_change']:.2f})"
                for when in ("before", "now")
            ]
            known = ", ".join(f"{source} {count}" for source, count in moved["known_by"].items())
            rows.append([f"{kind}, {form}", *cells, known])
    counts = ", ".join(f"{found['frames']} {kind} frames" for kind, found in results["kinds"].items())
    return table(
        results,
        ("frames", "before", "now", "what one count is was known by"),
        rows,
        f"{counts}. Share of frames with the labels of their counts; in brackets, by how much the probability that "
        "changed most did, in the mean and at most. Before: values are counts, negative ones invalid. A dark frame "
        "adds noise, so that even right counts change something.",
        f"{results['model']}.",
    )


def choose_default(results: Results) -> Sheet:
    """Validation mean average precision against cost."""
    rows = []
    for name, found in results["variants"].items():
        fits = found["fits"]
        scores = [f"{fit['validation']['joint']:.4f}" for fit in fits]
        seconds = sum(fit["seconds"] for fit in fits) / len(fits)
        rows.append([name, ", ".join(scores), f"{found['multiply_adds'] / 1e6:.1f}", f"{seconds:.0f}"])
    return table(
        results,
        ("variant", "mean average precision", "million multiply-adds", "seconds a fit"),
        rows,
        f"{results['epochs']} epochs of {results['train_frames']} frames, measured on "
        f"{results['validation_frames']} validation frames; a fit a seed.",
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
    return table(
        results,
        ("domain", "labelled frames", "sum of gains over labels", "mean average precision"),
        rows,
        f"{results['model']}, {results['copies']} copies of each frame; a column entry a draw.",
    )


def live_callback(results: Results) -> Sheet:
    """Time inside the callback."""
    rows = [
        [name, str(found["documents"]), *(f"{found[f'{which}_ms']:.2f}" for which in ("p50", "p99", "max"))]
        for name, found in results["callbacks"].items()
    ]
    return table(
        results,
        ("documents, worker, policy", "documents", "p50", "p99", "largest"),
        rows,
        "Milliseconds inside the callback, frames of 1043 x 981 pixels, int32. Saturated: the annotator takes a "
        "second a batch, the queue is full; annotating: the default model, in a process or a thread.",
    )


def live_plan(results: Results) -> Sheet:
    """What a plan takes longer."""
    ways = ("without again", "process", "thread", "saturated")
    rows = [
        [
            name,
            *(
                f"{found['median_ratio'][way]:.3f} ({found['ratios_min_max'][way][0]:.2f} to "
                f"{found['ratios_min_max'][way][1]:.2f})"
                for way in ways
            ),
            f"{found['added_ms_a_point']['process']:.2f}",
        ]
        for name, found in results["plans"].items()
    ]
    return table(
        results,
        ("plan", *ways, "milliseconds a point more, process"),
        rows,
        f"Durations over that of the same plan without the callback, median (least to most) of "
        f"{results['rounds']} rounds in which all took turns. First column: noise, a plan without once more.",
    )


def live_throughput(results: Results) -> Sheet:
    """Frames a second from document to row."""
    stages = ("read", "view", "coefficients", "network", "annotate", "write")
    rows = [
        [
            name,
            *(f"{found['stage_ms_per_frame'].get(stage, 0.0):.2f}" for stage in stages),
            f"{found['frames_per_second']:.0f}",
        ]
        for name, found in results["kinds"].items()
    ]
    return table(
        results,
        ("frames", *stages, "frames a second"),
        rows,
        "Milliseconds a frame of 1043 x 981 pixels; annotate is view, coefficients, network and what is between; "
        "read and write go on beside. Best of some rounds, in which all took turns. "
        f"Model {results['model']}, batches of {results['batch_size']}.",
    )


def live_memory(results: Results) -> Sheet:
    """Resident memory."""
    *resident, emptied = results["resident_mb"]
    spread = results["spread_mb"]
    tenths = [resident[round(k * (len(resident) - 1) / 10)] for k in range(11)]
    return table(
        results,
        ("frames", *(str(round(k * results["frames"] / 10)) for k in range(11))),
        [
            [f"{which}, MB", *(f"{value[name]:.0f}" for value in tenths)]
            for name, which in (("own", "RunEngine's process"), ("others", "those that read and annotate"))
        ],
        f"From smallest to largest after the first fifth {spread['own']:.1f} MB, and {spread['others']:.1f} MB, "
        "with a full queue of 256 frames (1.0 GB) throughout; frames that several processes see count in each. "
        f"{emptied['own']:.0f} MB and {emptied['others']:.0f} MB once it is empty.",
    )


def fold_physics(results: Results) -> Sheet:
    """Folds measured along the azimuth on real frames."""
    rows = _tries(results)
    fitted = results["fitted_to_all"]
    without = f" without {', '.join(results['without'])}" if results["without"] else ""
    return table(
        results,
        ("decided by", "all right", "mean AP", "precision", "recall", "two_fold", "symmetry_rings"),
        rows,
        f"{len(results['frames'])} real frames{without}; the other five labels by {results['model']}. Of the two "
        "labels average precision / ROC area, accepted right / wrong / missed. The docstring of the benchmark says "
        f"what each try is. Fitted to all set-ups, threshold and slope are {fitted['threshold']:.2f} and "
        f"{fitted['slope']:.2f}.",
    )


def decision(results: Results) -> Sheet:
    """How network and measurement decide together on real frames."""
    fitted = results["fitted_to_all"]
    numbers = ", ".join(f"{fitted[name]:.2f}" for name in ("measured", "network", "offset"))
    without = f" without {', '.join(results['without'])}" if results["without"] else ""
    return table(
        results,
        (
            "folds and symmetries by",
            "all right",
            "mean AP",
            "precision",
            "recall",
            "two_fold",
            "symmetry_rings",
        ),
        _tries(results),
        f"{results['frames']} real frames{without}, {results['model']}. Of the two labels average precision / ROC "
        "area, accepted right / wrong / missed. `joined`: weights of measurement and network, and offset, fitted to "
        f"the other set-ups; fitted to all they are {numbers}. The docstring of the benchmark says what each try is.",
    )


def _tries(results: Results) -> list[list[str]]:
    return [
        [
            name,
            *(
                f"{found[which]['value']:.2f}"
                for which in ("all_right", "mean_average_precision", "precision", "recall")
            ),
            *(
                f"{found['labels'][label]['average_precision']['value']:.2f} / "
                f"{found['labels'][label]['roc_area']['value']:.2f}, "
                + " / ".join(str(found["labels"][label][which]) for which in ("right", "wrong", "missed"))
                for label in ("two_fold", "symmetry_rings")
            ),
        ]
        for name, found in results["tries"].items()
    ]


def independent_sets(results: Results) -> Sheet:
    """How right labels are on frames of several packages."""
    measures = (
        "mean_average_precision", "precision", "recall", "all_right", "doubtful_frames",
        "expected_calibration_error",
    )  # fmt: skip
    sets = {**results["sets"], "foreign": results["foreign"]}
    rows = [
        [name, str(found["frames"]), *("" if found[one] is None else f"{found[one]:.3f}" for one in measures)]
        for name, found in sets.items()
        if found
    ]
    notes = [
        f"{results['model']}, thresholds {results['thresholds']}. Over those of the paper's ten labels that are "
        "known; `foreign` is `single`, `mixed`, `diffsims` and `bornagain` together.",
        *(f"Left out: {name}, because {why}." for name, why in results["left_out"].items()),
    ]
    if results["grazing"]:
        notes.append(_at_grazing_incidence(results["grazing"]))
    return table(
        results,
        (
            "frames of",
            "frames",
            "mean AP",
            "precision",
            "recall",
            "all right",
            "in doubt",
            "calibration error",
        ),
        rows,
        *notes,
    )


def _at_grazing_incidence(found: Results) -> str:
    folds = ", ".join(
        f"`{label}` on {100 * found['accepted'][label]:.0f} %"
        for label in ("two_fold", "four_fold", "six_fold")
    )
    told = (
        "the model has no label `grazing`"
        if found["roc_area"] is None
        else f"`grazing` has a ROC area of {found['roc_area']:.3f} against {found['against']} others"
    )
    return f"Of {found['frames']} frames at grazing incidence: {told}; accepted are {folds}."
