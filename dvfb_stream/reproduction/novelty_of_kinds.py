"""Whether an annotator notices what it does not know: frames that are no scattering beside simulated ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dvfb_stream.annotator import Annotator
from dvfb_stream.errors import SettingsError
from dvfb_stream.frames import Frame
from dvfb_stream.models import Bundle
from dvfb_stream.reproduction.independent_sets import domain
from dvfb_stream.reproduction.oddities import KINDS, oddity
from dvfb_stream.simulation import SimulationSettings, Simulator

SIMULATION = SimulationSettings(frames_per_experiment=50, raster="detector")
"""Of the familiar frames: as in training, but in the detectors' own pixels."""

FAMILIAR_FRAMES_PER_ODDITY = 5
"""Every fifth frame of an experiment lends its geometry, and where a kind needs them its counts, to each kind."""

DOMAINS = ("single", "mixed")
"""Scattering that another program made: not to be taken for novel."""

SCORES = ("novelty", "fit_residual")
"""Numbers of an annotation that may tell the unfamiliar; large = unfamiliar."""

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of frames below each of the ``quantiles``."""

Report = Callable[[str, int, int], None]


@dataclass(slots=True)
class _Sample:
    """What was said about the frames of one kind."""

    novelty: list[float] = field(default_factory=list)
    fit_residual: list[float] = field(default_factory=list)
    failed: int = 0
    """Frames that could not be annotated: they stand out by that."""

    def add(self, annotator: Annotator, frames: Sequence[Frame]) -> list[bool]:
        """Annotate frames and return of each whether it could be."""
        annotations = annotator.annotate(frames)
        for annotation in annotations:
            if annotation.ok:
                self.novelty.append(annotation.novelty)
                self.fit_residual.append(annotation.fit_residual)
            else:
                self.failed += 1
        return [annotation.ok for annotation in annotations]

    def described(self) -> dict[str, Any]:
        scores = {score: np.array(getattr(self, score)) for score in SCORES}
        return {
            "frames": len(self.novelty),
            "failed": self.failed,
            "quantiles": {
                score: np.quantile(values, SHARES).tolist() if len(values) else None
                for score, values in scores.items()
            },
            "mean": {
                score: float(values.mean()) if len(values) else None for score, values in scores.items()
            },
        }


def measure_novelty(
    bundle: Bundle,
    *,
    frames: int,
    seed: int,
    domains: Sequence[str] = DOMAINS,
    simulation: SimulationSettings = SIMULATION,
    device: str = "cpu",
    report: Report = lambda what, done, total: None,
) -> dict[str, Any]:
    """Return how well each kind of unfamiliar frame stands out from simulated ones of its geometries, JSON-ready.

    Frames are counts of the detector's own pixels and go through the whole annotator, as those of a beamline do.

    Parameters
    ----------
    bundle
        The model.
    frames
        Simulated frames; each kind gets a fifth as many, and each domain too.
    seed
        Of simulator, oddities and domains; not one that the model was trained or calibrated on.
    domains
        Which of `DOMAINS` to measure as well.
    simulation
        Settings of the simulator.
    device
        Where to annotate.
    report
        Told about progress: what, done, in all.

    Returns
    -------
    dict
        ``model``; ``seed``; ``familiar``, in words; ``familiar_frames`` and ``labelled_frames``, those of them that
        show something; ``shares`` of ``quantiles``; ``familiar_scores``; and by kind in ``kinds``, by domain in
        ``domains``: ``frames``, ``failed``, ``quantiles`` and ``mean`` of either score, and ``auroc``, the area
        under the ROC curve of that score against all simulated frames, and against those alone that show something
        (``..._against_labelled``): on an empty frame nothing but noise is ordinary. Of a kind whose frames all failed
        there are no scores: None.

    Raises
    ------
    MissingExtraError
        When what makes unfamiliar frames is not installed.
    SettingsError
        When no simulated frame shows anything: there are too few.
    """
    annotator = Annotator(bundle, device=device)
    familiar, labelled = _Sample(), []
    odd = {kind: _Sample() for kind in KINDS}
    rng = np.random.default_rng(seed)
    done = 0
    for members, shown in _experiments(Simulator(seed, settings=simulation), frames):
        report("frames and oddities", done, frames)
        annotated = familiar.add(annotator, members)
        labelled += [label for label, ok in zip(shown, annotated, strict=True) if ok]
        for kind in KINDS:
            sources = members[::FAMILIAR_FRAMES_PER_ODDITY]
            odd[kind].add(annotator, [Frame(oddity(kind, s, rng=rng), s.geometry) for s in sources])
        done += len(members)
    if not any(labelled):
        raise SettingsError(f"none of {frames} simulated frames shows anything; take more")
    others = {}
    for number, name in enumerate(domains):
        report("frames of domains", number, len(domains))
        others[name] = _Sample()
        made = domain(name, seed=seed).frames(0, -(-frames // FAMILIAR_FRAMES_PER_ODDITY))
        others[name].add(annotator, [Frame(frame.pixels, frame.geometry) for frame in made])
    shows = np.array(labelled)
    return {
        "model": str(bundle.identity),
        "seed": seed,
        "familiar": f"{len(shows)} frames of the simulator, seed {seed}, {int(shows.sum())} of them with a label",
        "familiar_frames": len(shows),
        "labelled_frames": int(shows.sum()),
        "shares": list(SHARES),
        "familiar_scores": familiar.described(),
        "kinds": {kind: _compared(sample, familiar, shows) for kind, sample in odd.items()},
        "domains": {name: _compared(sample, familiar, shows) for name, sample in others.items()},
    }


def _experiments(simulator: Simulator, count: int) -> Iterator[tuple[list[Frame], list[bool]]]:
    """Yield the frames of one simulated experiment after the other, and of each whether it has a label."""
    share = simulator.settings.frames_per_experiment
    for start in range(0, count, share):
        frames, shown = [], []
        for batch in simulator.batches(start, min(start + share, count)):
            frames += [Frame(pixels, batch.geometry) for pixels in batch.pixels.numpy()]
            shown += batch.labels.any(dim=1).tolist()
        yield frames, shown


def _compared(sample: _Sample, familiar: _Sample, shows: NDArray[np.bool_]) -> dict[str, Any]:
    areas = {}
    for score in SCORES:
        ordinary, unfamiliar = np.array(getattr(familiar, score)), np.array(getattr(sample, score))
        areas[score] = _area(ordinary, unfamiliar)
        areas[f"{score}_against_labelled"] = _area(ordinary[shows], unfamiliar)
    return {**sample.described(), "auroc": areas}


def _area(ordinary: NDArray[np.float64], unfamiliar: NDArray[np.float64]) -> float | None:
    """Return the area under the ROC curve; None where a side has no frame."""
    if not len(ordinary) or not len(unfamiliar):
        return None
    truth = np.repeat([False, True], [len(ordinary), len(unfamiliar)])
    return float(roc_auc_score(truth, np.concatenate([ordinary, unfamiliar])))
