"""Table 4: six features and kernel SVMs on two domains that no network was trained on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvfb_stream.azimuthal.ring_statistics import BINS
from dvfb_stream.fbt import FourierBesselSettings
from dvfb_stream.models import Bundle
from dvfb_stream.reproduction.descriptors import LbpHog, PcaNet
from dvfb_stream.reproduction.independent_sets import Domain, domain
from dvfb_stream.training.evaluation import average_precision, predict
from dvfb_stream.training.examples import Encoded, Examples, encode, join
from dvfb_stream.training.kernel_svm import fit_kernel_svms

DOMAINS = ("single", "mixed")

SEED = 4
"""Of the domains."""

PENALTIES = (1.0, 10.0, 100.0)
GAMMAS = (0.3, 1.0, 3.0)
"""Of the grid search; γ in units of one over the median squared distance."""

FILTER_FRAMES = 500
"""Frames that PCANet learns its filters from."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class DomainExamples:
    """Frames of a domain as the networks are shown them."""

    labels: tuple[str, ...]
    """Columns of the truth: the ten and finer ones."""
    train: Examples
    test: Examples


def read_domain(
    name: str, work: Path, fbt: FourierBesselSettings, *, scale: float = 1.0, report: Report
) -> DomainExamples:
    """Return the frames of a domain, made at the first call only.

    Parameters
    ----------
    name
        ``single`` or ``mixed``.
    work
        Folder that they are kept in.
    fbt
        Settings of the estimate.
    scale
        Share of the paper's number of frames.
    report
        Told how many frames are made.
    """
    of = domain(name, seed=SEED)
    fitted, tested = (max(1, round(count * scale)) for count in (of.train, of.size - of.train))
    count = fitted + tested
    examples = join(
        work / "frames" / f"domain-{name}-{SEED}-{count}-rings{BINS}",
        count,
        lambda: _encoded(of, count, fbt, report),
    )
    return DomainExamples(
        of.labels,
        examples.first(min(fitted, len(examples) - 1)),
        examples.after(fitted),
    )


def _encoded(
    of: Domain, count: int, fbt: FourierBesselSettings, report: Report
) -> Iterator[tuple[Encoded, NDArray[np.bool_]]]:
    done = 0
    frames = of.frames(0, count)
    for geometry, group in itertools.groupby(frames, key=lambda frame: frame.geometry):
        # A few at a time: detectors are large.
        while members := list(itertools.islice(group, 100)):
            truth = np.array(
                [[label in (*frame.labels, *frame.fine) for label in of.labels] for frame in members]
            )
            encoded = encode([frame.pixels for frame in members], geometry, fbt)
            if encoded is not None:
                yield encoded, truth
            done += len(members)
            report(f"frames of the domain {of.name}", done, count)


def measure_table4(
    bundles: Mapping[str, Bundle],
    work: Path,
    *,
    scale: float = 1.0,
    processes: int = 1,
    device: str = "cpu",
    report: Report = lambda what, done, total: None,
) -> dict[str, Any]:
    """Return Table 4 and what Figure 6 draws, JSON-ready.

    Parameters
    ----------
    bundles
        Networks by the names that `find_networks` gives them for Table 4.
    work
        Folder for the frames of the domains.
    scale
        Share of the paper's number of frames.
    processes
        Fitting SVMs at a time.
    device
        Where to compute features.
    report
        Told about progress.
    """
    fbt = bundles["joint"].fbt_settings
    domains = {}
    for name in DOMAINS:
        examples = read_domain(name, work, fbt, scale=scale, report=report)
        truth = {"train": examples.train.truth, "test": examples.test.truth}
        kept = [
            k
            for k in range(len(examples.labels))
            if min(truth["train"][:, k].sum(), (~truth["train"][:, k]).sum()) >= 10
            and truth["test"][:, k].any()
        ]
        labels = [examples.labels[k] for k in kept]
        methods = {}
        for number, (method, features) in enumerate(_features(bundles, examples, device)):
            report(f"SVMs of the domain {name}", number, len(bundles) + 2)
            started = time.monotonic()
            svms = fit_kernel_svms(
                features["train"],
                truth["train"][:, kept],
                penalties=PENALTIES,
                gammas=GAMMAS,
                labels=labels,
                processes=processes,
            )
            scores = svms.decision_function(features["test"])
            methods[method] = {
                "average_precision": average_precision(scores, truth["test"][:, kept], labels),
                "features": int(features["train"].shape[1]),
                "choices": svms.choices(),
                "seconds": round(time.monotonic() - started, 1),
            }
        domains[name] = {
            "labels": labels,
            "train_frames": len(examples.train),
            "test_frames": len(examples.test),
            "positives": {
                label: int(truth["train"][:, k].sum() + truth["test"][:, k].sum())
                for label, k in zip(labels, kept, strict=True)
            },
            "methods": methods,
        }
    return {"seed": SEED, "penalties": PENALTIES, "gammas": GAMMAS, "domains": domains}


def _features(
    bundles: Mapping[str, Bundle], examples: DomainExamples, device: str
) -> Iterator[tuple[str, dict[str, NDArray[np.float32]]]]:
    parts = {"train": examples.train, "test": examples.test}
    for name, bundle in bundles.items():
        network = bundle.network
        yield name, {which: predict(network, part, device=device)[1] for which, part in parts.items()}
        network.cpu()
    images = {which: part.images[part.rows] for which, part in parts.items()}
    masks = {
        which: np.unpackbits(part.masks[part.rows], axis=-1).astype(bool) for which, part in parts.items()
    }
    pcanet = PcaNet(block=32).fit(images["train"][:FILTER_FRAMES], masks=masks["train"][:FILTER_FRAMES])
    yield "pcanet", {which: pcanet.transform(images[which], masks=masks[which]) for which in parts}
    lbphog = LbpHog()
    yield "lbphog", {which: lbphog.transform(images[which], masks=masks[which]) for which in parts}
