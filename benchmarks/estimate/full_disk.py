"""The estimate beside expansions of a full disk: no mask, no penalty, a centred beam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks.estimate import expansions, solvers
from benchmarks.estimate.contenders import L1_RATIO, PENALTY, Contender, timed
from benchmarks.estimate.inputs import simulate
from dvfb_stream.fbt import PenaltyReading


def compare_full_disk(
    *, frames: int, slow_frames: int, rounds: int, tolerance: float, device: str, shown: Progress
) -> dict[str, Any]:
    """Return expansions of a disk without a mask, 128 x 128, about as many functions as the estimate has."""
    size = 128
    case = simulate("centred", frames, size=size)
    images = np.ascontiguousarray(case.images)
    slow = images[:slow_frames]
    bandlimit = expansions.bandlimit_of(840, size)
    left_out: dict[str, str] = {}
    others: list[Contender] = []
    disk: expansions.FullDisk | None = None
    for name, make in (("fle_2d", expansions.Fle2d), ("aspire", expansions.Aspire)):
        try:
            other = make(size, bandlimit)
        except ImportError as error:
            left_out[name] = f"{error}; see benchmarks/README.md"
            continue
        disk = disk or other.disk
        facts = {"functions": len(other.disk.orders), "epsilon": expansions.EPSILON}
        agreement = agreement_with(other.disk, other.evaluate_t(images[:2]), images[:2])
        others += [
            Contender(
                f"{name}_evaluate_t",
                "projections of all images at once",
                frames,
                lambda other=other: other.evaluate_t(images),
                {**facts, "difference_from_our_projection": agreement},
            ),
            Contender(
                f"{name}_evaluate_t_batch_1",
                "projections, one image at a time",
                len(slow),
                lambda other=other: [other.evaluate_t(image[None]) for image in slow],
                facts,
            ),
            Contender(
                f"{name}_expand",
                "least squares by conjugate gradients to 1e-3, fle_2d's preset",
                len(slow),
                lambda other=other: other.expand(slow),
                facts,
            ),
        ]
    if disk is None:
        return {"contenders": [], "left_out": left_out}
    estimator = disk.estimator(device)
    held = estimator.basis(torch.float32)[:, torch.from_numpy(disk.columns())].contiguous()
    on_device = torch.from_numpy(images).to(held.device)
    fitted = torch.from_numpy(np.flatnonzero(estimator.fitted_pixels)).to(held.device)
    ours = solvers.Ours(
        estimator,
        penalty=PENALTY,
        l1_ratio=L1_RATIO,
        reading=PenaltyReading.PER_SAMPLE,
        tolerance=tolerance,
    )
    contenders = [
        Contender(
            f"ours_batch_{frames}",
            f"FourierBessel.estimate of {frames} images at once on the rectangle of orders and radial indices "
            "that holds all their functions",
            frames,
            lambda: ours.estimate(torch.from_numpy(images), frames),
            {"functions": estimator.unknowns},
        ),
        Contender(
            f"dense_projection_batch_{frames}",
            "one float32 matrix product with exactly their functions: what evaluate_t computes",
            frames,
            lambda: (on_device.flatten(1)[:, fitted] @ held).cpu(),
            {"functions": held.shape[1]},
        ),
        *others,
    ]
    return {
        "size": size,
        "bandlimit": bandlimit,
        "contenders": timed(contenders, "full disk", rounds, shown),
        "left_out": left_out,
    }


def agreement_with(disk: expansions.FullDisk, theirs: NDArray[Any], images: NDArray[np.float32]) -> float:
    """Return the largest difference from our float64 projection, as a share of the largest projection."""
    estimator = disk.estimator("cpu")
    pixels = estimator.working_pixels(images.astype(np.float64)).numpy()
    ours = pixels @ estimator.basis().numpy()[:, disk.columns()]
    difference = float(np.abs(theirs - ours).max() / np.abs(ours).max())
    return difference if math.isfinite(difference) else math.inf
