"""The paper's tables of results, measured with the networks of one work folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt import log_scale, normalise
from dvfb_stream.models import Bundle, load_bundle
from dvfb_stream.reproduction.linear_svm import fit_linear_svms
from dvfb_stream.reproduction.table4 import measure_table4
from dvfb_stream.training.dataset import SimulatedDataset, build
from dvfb_stream.training.evaluation import average_precision, predict
from dvfb_stream.training.examples import Examples
from dvfb_stream.training.presets import SEEDS

TABLE_PRESETS: Mapping[int, Mapping[str, str]] = {
    1: {"image": "paper-image", "coefficient": "paper-2conv", "joint": "paper-joint-2conv"},
    2: {"image": "paper-image", "coefficient": "paper-coefficient", "joint": "paper-joint"},
    4: {"joint": "paper-joint", "alexnet": "paper-image", "vgg16": "vgg16", "resnet50": "resnet50"},
}
"""Networks that a table compares, and the presets they come from."""

SVM_FRAMES = 10_000
"""Training frames that the linear SVMs of Table 1 are fitted to, at most."""

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""C of the cross-validation, for losses that are sums over frames."""

Report = Callable[[str, int, int], None]


def measure_table(
    table: int,
    work: Path,
    *,
    scale: float = 1.0,
    processes: int = 1,
    device: str = "cpu",
    report: Report = lambda what, done, total: None,
) -> dict[str, Any]:
    """Return Table 1, 2 or 4 as measured with the networks in `work`, JSON-ready.

    Parameters
    ----------
    table
        Number of the table.
    work
        Folder in which `dvfb train` has left networks and frames; what else is simulated is kept there too.
    scale
        Share of the frames of Table 4.
    processes, device
        Simulating or fitting at a time; where the networks compute.
    report
        Told about progress: what, done, in all.

    Raises
    ------
    SettingsError
        When a network is not there; the message says how to train it.
    """
    bundles = find_networks(table, work)
    found: dict[str, Any] = {"table": table, "trained_on": scale_of(bundles)}
    if table == 4:
        return found | measure_table4(
            bundles, work, scale=scale, processes=processes, device=device, report=report
        )
    joint = bundles["joint"]
    sets = {
        which: build(
            work / "frames" / which,
            SimulatedDataset(
                seed=SEEDS[which], count=joint.description.training["frames"][which], fbt=joint.fbt_settings
            ),
            processes=processes,
            report=lambda done, total: report("simulating, blocks of 100 frames", done, total),
        )
        for which in (("train", "test") if table == 1 else ("test",))
    }
    if table == 1:
        return found | measure_table1(bundles, sets["train"], sets["test"], device=device, report=report)
    return found | measure_table2(bundles, sets["test"], device=device, report=report)


def find_networks(table: int, work: Path) -> dict[str, Bundle]:
    """Return the trained networks that a table compares.

    Raises
    ------
    SettingsError
        When one is not there; the message says how to train it.
    """
    found, absent = {}, []
    for name, preset in TABLE_PRESETS[table].items():
        folder = work / preset / "bundle"
        if (folder / "model.json").exists():
            found[name] = load_bundle(folder)
        else:
            absent.append(preset)
    if absent:
        commands = "; ".join(f"dvfb train {preset} --work {work}" for preset in absent)
        raise SettingsError(
            f"Table {table} needs networks that {work} has not got yet; train them: {commands}"
        )
    return found


def scale_of(bundles: Mapping[str, Bundle]) -> dict[str, Any]:
    """Return what each network was trained on, JSON-ready."""
    scale = {}
    for name, bundle in bundles.items():
        facts = bundle.description.training
        scale[name] = {
            "preset": bundle.description.name,
            "purpose": facts["purpose"],
            "frames": facts["frames_taken"]["train"],
            "epochs": len(facts["history"]),
            "seconds": facts["fitting_seconds"],
            "machine": facts["machine"],
            "date": facts["date"],
            "fitting": facts["fitting"],
            "cost": facts["cost"],
            "image_side": (bundle.description.architecture.get("image") or {}).get("side"),
            "sha256": bundle.description.weights_sha256,
        }
    return scale


def measure_table1(
    bundles: Mapping[str, Bundle],
    train: Examples,
    test: Examples,
    *,
    device: str = "cpu",
    report: Report = lambda what, done, total: None,
) -> dict[str, Any]:
    """Return Table 1: linear SVMs on coefficients, their logarithm, and the first layers of three networks.

    Parameters
    ----------
    bundles
        ``image``, ``coefficient`` (2conv) and ``joint`` (with 2conv).
    train, test
        Frames to fit the SVMs on, at most `SVM_FRAMES` of them, and to measure on.
    device
        Where to compute.
    report
        Told about progress.
    """
    part = train.first(SVM_FRAMES)
    features: dict[str, Callable[[Examples], NDArray[np.float32]]] = {
        "coefficients": _coefficients,
        "log_coefficients": _log_coefficients,
        **{name: _first_layer(bundle, device) for name, bundle in bundles.items()},
    }
    rows = {}
    for number, (name, of) in enumerate(features.items()):
        report("linear SVMs", number, len(features))
        started = time.monotonic()
        fitted = of(part)
        svms = fit_linear_svms(fitted, part.truth, penalties=PENALTIES, device=device)
        rows[name] = {
            "average_precision": average_precision(svms.decision_function(of(test)), test.truth),
            "features": fitted.shape[1],
            "penalties": svms.choices(),
            "seconds": round(time.monotonic() - started, 1),
        }
    return {"svm_frames": len(part), "test_frames": len(test), "penalties": PENALTIES, "rows": rows}


def _coefficients(examples: Examples) -> NDArray[np.float32]:
    values = torch.from_numpy(examples.coefficients[examples.rows])
    return torch.view_as_real(values).flatten(1).numpy()


def _log_coefficients(examples: Examples) -> NDArray[np.float32]:
    values = torch.from_numpy(examples.coefficients[examples.rows])
    return torch.view_as_real(log_scale(normalise(values))).flatten(1).numpy()


def _first_layer(bundle: Bundle, device: str) -> Callable[[Examples], NDArray[np.float32]]:
    return lambda examples: predict(bundle.network, examples, device=device)[1]


def measure_table2(
    bundles: Mapping[str, Bundle],
    test: Examples,
    *,
    device: str = "cpu",
    report: Report = lambda what, done, total: None,
) -> dict[str, Any]:
    """Return Table 2: average precision per label of image, coefficient and joint networks."""
    truth = test.truth
    rows = {}
    for number, (name, bundle) in enumerate(bundles.items()):
        report("networks", number, len(bundles))
        logits, _ = predict(bundle.network, test, device=device)
        bundle.network.cpu()
        rows[name] = {"average_precision": average_precision(logits[bundle.network.output], truth)}
    ratios = {label: float(truth[:, k].mean()) for k, label in enumerate(bundles["joint"].description.labels)}
    return {"test_frames": len(test), "positive_ratio": ratios, "rows": rows}
