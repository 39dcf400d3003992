"""Elastic nets to learn from: simulated frames of random geometries, each solved to its certificate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import FourierBessel, FourierBesselSettings, PenaltyReading, Projections
from dvfb_stream.fbt.elastic_net import PenalisedFit
from dvfb_stream.process_pool import process_pool
from dvfb_stream.simulation import SimulationSettings, Simulator
from dvfb_stream.training.examples import by_geometry, views_of

TOLERANCES = {PenaltyReading.PER_SAMPLE: 1e-9, PenaltyReading.UNIT_NORM: 1e-6}
"""Of the minima that are learned from: a hundredth, or less, of the excess that any encoder leaves."""

ORIGIN_KEY = "origin"
"""Metadata of a stored problem, by which those of other settings are told."""


@dataclass(frozen=True, slots=True, eq=False)
class SolvedProblem:
    """Frames of one geometry in the form P of `dvfb_stream.fbt.elastic_net.problem`, and their minima."""

    gram: Tensor
    """(J, J) G."""
    l1: float
    """κ₁."""
    l2: float
    """κ₂."""
    largest: float
    """Bound on the eigenvalues of G."""
    projections: Tensor
    """(B, J) q."""
    minimum: Tensor
    """(B, J) the unknowns that minimise P."""
    subgradient: Tensor
    """(B, J) s of ‖·‖₁ at the minimum, -1..1: κ₁ s = q - (G + κ₂) a."""
    objective: Tensor
    """(B,) P at the minimum."""

    def excess(self, a: Tensor) -> Tensor:
        """Return (P(a) - min P) / min P, (B,), as a sum of what cannot be negative: float32 shows the smallest.

        ½dᵀ(G + κ₂)d + κ₁ Σ(|a| - s a) with d the distance from the minimum.
        """
        distance = a - self.minimum
        curved = ((distance @ self.gram) * distance).sum(1) + self.l2 * distance.square().sum(1)
        bent = (a.abs() - self.subgradient * a).sum(1)
        return (0.5 * curved + self.l1 * bent) / self.objective

    def coefficient_error(self, a: Tensor) -> Tensor:
        """Return ‖a - minimum‖ / ‖minimum‖, (B,)."""
        error: Tensor = (a - self.minimum).norm(dim=1) / self.minimum.norm(dim=1)
        return error


def solve(
    estimator: FourierBessel, projections: Projections, settings: FourierBesselSettings
) -> SolvedProblem:
    """Return the problem of `settings` for what `estimator` projected, solved in float64 to `TOLERANCES`."""
    exact = replace(projections, values=projections.values.double())
    solution = estimator.solve_projected(exact, settings.changed(tolerance=TOLERANCES[settings.reading]))
    problem = PenalisedFit(estimator.gram, estimator.fitted_count, settings)
    q, lengths = problem.scaled(exact)
    minimum = problem.in_units_of_the_problem(solution.coefficients, lengths)
    quadratic = problem.quadratic
    pull = q - minimum @ quadratic.gram - quadratic.l2 * minimum
    energies = projections.energies / lengths[:, 0].square()
    misfit_and_ridge = energies - (minimum * (q + pull)).sum(1)
    return SolvedProblem(
        gram=quadratic.gram,
        l1=quadratic.l1,
        l2=quadratic.l2,
        largest=quadratic.largest_eigenvalue,
        projections=q,
        minimum=minimum,
        # What is left of the solver's error must not show as an excess of first order where a has a sign.
        subgradient=torch.where(minimum != 0, minimum.sign(), (pull / quadratic.l1).clamp(-1.0, 1.0)),
        objective=0.5 * misfit_and_ridge + quadratic.l1 * minimum.abs().sum(1),
    )


def build(
    folder: Path,
    *,
    seed: int,
    geometries: int,
    frames: int,
    settings: FourierBesselSettings,
    processes: int = 1,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[SolvedProblem]:
    """Return the problems of a seed's experiments, solving only those that `folder` does not have yet.

    Parameters
    ----------
    folder
        Where they are kept, one file a geometry: 3 MB each at 840 unknowns.
    seed
        Of the simulator.
    geometries, frames
        Experiments, and frames of each, at least 1.
    settings
        Of the Fourier-Bessel estimate.
    processes
        Working at a time.
    report
        Called with geometries done and in all.

    Raises
    ------
    SettingsError
        When a number is below 1, or `folder` holds files of other settings, or damaged ones.
    """
    if min(geometries, frames, processes) < 1:
        raise SettingsError(
            f"geometries, frames and processes must be at least 1, not {geometries}, {frames} and {processes}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.safetensors" for index in range(geometries)]
    missing = [(path, seed, index, frames, settings) for index, path in enumerate(paths) if not path.exists()]
    done = len(paths) - len(missing)
    report(done, len(paths))
    if processes == 1:
        for finished, task in enumerate(missing, start=1):
            _solve(task)
            report(done + finished, len(paths))
    else:
        with process_pool(processes) as pool:
            for finished, _ in enumerate(pool.map(_solve, missing), start=1):
                report(done + finished, len(paths))
    return [problem for path in paths for problem in _read(path, _origin(seed, frames, settings))]


def _solve(task: tuple[Path, int, int, int, FourierBesselSettings]) -> None:
    path, seed, index, frames, settings = task
    simulator = Simulator(seed, settings=SimulationSettings(frames_per_experiment=frames))
    tensors: dict[str, Tensor] = {}
    metadata = {ORIGIN_KEY: _origin(seed, frames, settings)}
    # An experiment that no annotator would take leaves a file without tensors.
    for geometry, pixels, _ in by_geometry(simulator, index * frames, (index + 1) * frames):
        views = views_of(pixels, geometry, settings)
        if views is None:
            continue
        solved = solve(views.estimator, views.estimator.project(views.images), settings)
        shown = solved.minimum.norm(dim=1) > 0  # a blank frame has nothing to learn from
        tensors = {
            "gram": solved.gram,
            "projections": solved.projections[shown],
            "minimum": solved.minimum[shown],
            "subgradient": solved.subgradient[shown],
            "objective": solved.objective[shown],
        }
        facts = {"l1": solved.l1, "l2": solved.l2, "largest": solved.largest}
        metadata |= {key: repr(value) for key, value in facts.items()}
    partial = path.with_suffix(".partial")
    save_file({key: value.float().contiguous() for key, value in tensors.items()}, partial, metadata=metadata)
    partial.rename(path)


def _origin(seed: int, frames: int, settings: FourierBesselSettings) -> str:
    return json.dumps({"seed": seed, "frames_per_experiment": frames, "fbt": settings.as_dict()})


def _read(path: Path, origin: str) -> Iterator[SolvedProblem]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            stored = metadata.get(ORIGIN_KEY)
            if stored != origin:
                raise SettingsError(
                    f"{path} was simulated with {stored}, not with {origin}; choose another folder or delete it"
                )
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise SettingsError(f"{path} is damaged ({error}); delete it, it will be solved again") from error
    if tensors and len(tensors["projections"]):
        yield SolvedProblem(
            l1=float(metadata["l1"]), l2=float(metadata["l2"]), largest=float(metadata["largest"]), **tensors
        )
