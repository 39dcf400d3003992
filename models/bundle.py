"""The model bundle: a folder with `model.json`, `weights.safetensors` and `CARD.md`, checked when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, from_numpy

from dvfb_stream.annotations import ModelIdentity
from dvfb_stream.atomic_output import replaced
from dvfb_stream.azimuthal.ring_statistics import VERSION as RINGS_VERSION
from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.fbt.settings import FourierBesselSettings
from dvfb_stream.models.bundle_description import (
    FORMAT,
    BundleDescription,
    LabelCalibration,
    read_description,
)
from dvfb_stream.models.decision_numbers import Decision
from dvfb_stream.models.kernel_head import KernelHeads
from dvfb_stream.models.networks import AnnotationNetwork, build_network
from dvfb_stream.models.novelty import Novelty, number_of_statistics

NOVELTY_PREFIX = "novelty_score."
"""Tensors of the novelty score lie beside the network's in the weights file, under this prefix."""

HEADS_PREFIX = "heads_of_frames."
"""Those of kernel heads, likewise."""

JUDGING = "judging"
"""Name, in the metadata of the weights file, of the hash of what judges by the weights."""

BRANCHES, STORED_BRANCHES = "branches.", "views."
"""What the tensors of a network's branches begin with, in the network and in the weights file of `FORMAT`."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model ready to be used."""

    description: BundleDescription
    network: AnnotationNetwork
    """In evaluation mode, on the CPU."""
    novelty: Novelty
    heads: KernelHeads | None = None
    """Judge some labels instead of the network's output."""
    decision: Decision | None = None
    """How measurement and network decide together; None: the network alone does."""

    @property
    def identity(self) -> ModelIdentity:
        """Name, version and hash that go with every annotation."""
        d = self.description
        return ModelIdentity(name=d.name, version=d.version, sha256=d.weights_sha256)

    @property
    def calibrations(self) -> tuple[LabelCalibration, ...]:
        """Calibration of each label, in the order of the outputs."""
        return tuple(map(self.description.calibration.__getitem__, self.description.labels))

    @property
    def fbt_settings(self) -> FourierBesselSettings:
        """Settings of the Fourier-Bessel estimate."""
        return FourierBesselSettings.from_dict(self.description.fbt)


def save_bundle(
    folder: Path,
    *,
    name: str,
    version: str,
    network: AnnotationNetwork,
    architecture: Mapping[str, Any],
    calibrations: Mapping[str, LabelCalibration],
    novelty: Novelty,
    view: Mapping[str, Any],
    fbt: FourierBesselSettings,
    training: Mapping[str, Any],
    card: str,
    heads: KernelHeads | None = None,
    decision: Decision | None = None,
) -> Bundle:
    """Write a bundle into `folder`, made if need be, and return it as read back.

    The hash of its weights, by which rows and analysis runs name it, covers what judges by them as well: with another
    calibration, head or decision it is another bundle.
    """
    tensors: dict[str, Tensor] = {
        _renamed(key, BRANCHES, STORED_BRANCHES): value.detach().cpu().contiguous()
        for key, value in network.state_dict().items()
    }
    tensors |= {NOVELTY_PREFIX + key: value for key, value in novelty.tensors().items()}
    described_heads: dict[str, dict[str, float]] = {}
    if heads is not None:
        for part in ("support", "dual"):
            tensors[HEADS_PREFIX + part] = from_numpy(np.ascontiguousarray(getattr(heads, part)))
        described_heads = {
            label: {"gamma": gamma, "intercept": intercept}
            for label, gamma, intercept in zip(heads.labels, heads.gammas, heads.intercepts, strict=True)
        }
    described_calibration = {label: asdict(one) for label, one in calibrations.items()}
    described_decision = None if decision is None else decision.as_dict()
    judging = json.dumps([described_calibration, described_heads, described_decision], sort_keys=True)
    weights = save_tensors(tensors, metadata={JUDGING: hashlib.sha256(judging.encode()).hexdigest()})
    description = BundleDescription(
        format=FORMAT,
        name=name,
        version=version,
        labels=tuple(calibrations),
        architecture=dict(architecture),
        calibration=dict(calibrations),
        heads=described_heads,
        view=dict(view),
        fbt=fbt.as_dict(),
        training=dict(training),
        decision=described_decision,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    files = {
        "weights.safetensors": weights,
        "CARD.md": card.encode(),
        "model.json": (json.dumps(asdict(description), indent=2) + "\n").encode(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    # All are on the disk before the first is renamed: an old bundle stays where the disk is full.
    with ExitStack() as renamed:
        for name, content in files.items():
            renamed.enter_context(replaced(folder / name)).write_bytes(content)
    return load_bundle(folder)


def load_bundle(folder: Path) -> Bundle:
    """Return the bundle in `folder`, its weights checked against the hash in `model.json`.

    Raises
    ------
    BundleError
        When a part is missing, altered, or does not fit the others.
    """
    description = read_description(folder)
    _check_rings(folder, description)
    path = folder / "weights.safetensors"
    try:
        weights = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    found = hashlib.sha256(weights).hexdigest()
    if found != description.weights_sha256:
        raise BundleError(
            f"{path} has SHA-256 {found[:12]}…, but model.json says {description.weights_sha256[:12]}…: "
            "the weights were altered or belong to another model; restore the bundle from its source"
        )
    try:
        fbt = FourierBesselSettings.from_dict(description.fbt)
        tensors = load_tensors(weights)
        for name, tensor in tensors.items():
            if not bool(tensor.isfinite().all()):
                raise ValueError(f"{name} holds numbers that are not finite")
        novelty = Novelty.from_tensors(
            {
                key.removeprefix(NOVELTY_PREFIX): tensors.pop(key)
                for key in list(tensors)
                if key.startswith(NOVELTY_PREFIX)
            }
        )
        heads = _heads_of(description, tensors)
        network = build_network(description.architecture)
        network.load_state_dict(
            {_renamed(key, STORED_BRANCHES, BRANCHES): tensor for key, tensor in tensors.items()}
        )
    except BundleError as error:
        raise BundleError(f"{folder}: the architecture in model.json is none: {error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, SettingsError) as error:
        raise BundleError(f"{folder}: the weights do not fit model.json: {error}") from error
    if network.outputs != len(description.labels):
        raise BundleError(
            f"{folder}: the network judges {network.outputs} labels, but model.json names {len(description.labels)}"
        )
    expected_inputs = network.hidden + number_of_statistics(invariant=network.invariant)
    if len(novelty.weights) != expected_inputs:
        raise BundleError(
            f"{folder}: the novelty score has {len(novelty.weights)} weights, but the network needs {expected_inputs}"
        )
    estimated, expected = (fbt.n_radial, len(fbt.orders)), network.coefficient_shape
    if expected is not None and estimated != expected:
        raise BundleError(
            f"{folder}: the network takes {expected[0]} x {expected[1]} coefficients, "
            f"but fbt in model.json makes {estimated[0]} x {estimated[1]}"
        )
    if heads is not None and heads.support.shape[1] != network.hidden:
        raise BundleError(
            f"{folder}: the heads compare {heads.support.shape[1]} features, but the network has {network.hidden}"
        )
    try:
        decision = None if description.decision is None else Decision.from_dict(description.decision)
    except ValueError as error:
        raise BundleError(f"{folder}: the decision in model.json is none: {error}") from error
    return Bundle(description, network.eval(), novelty, heads, decision)


def _check_rings(folder: Path, description: BundleDescription) -> None:
    """Refuse a network that was trained on other ring statistics than are made now."""
    stated = description.view.get("rings", 1)
    if "rings" in description.architecture and stated != RINGS_VERSION:
        raise BundleError(
            f"{folder}: {description.name} {description.version} was trained on ring statistics of version {stated}, "
            f"but this version of dvfb_stream makes those of version {RINGS_VERSION}; train it anew (dvfb train, or "
            "dvfb adapt for a beamline's own), or install the version that trained it"
        )


def _renamed(key: str, old: str, new: str) -> str:
    return new + key.removeprefix(old) if key.startswith(old) else key


def _heads_of(description: BundleDescription, tensors: dict[str, Tensor]) -> KernelHeads | None:
    """Take the tensors of kernel heads out of those of the weights file."""
    if not description.heads:
        return None
    support, dual = (tensors.pop(HEADS_PREFIX + name).numpy() for name in ("support", "dual"))
    if support.ndim != 2 or dual.shape != (len(support), len(description.heads)):
        raise ValueError(
            f"heads of {len(description.heads)} labels have support of shape {support.shape} and dual "
            f"coefficients of shape {dual.shape}"
        )
    return KernelHeads(
        labels=tuple(description.heads),
        gammas=tuple(float(head["gamma"]) for head in description.heads.values()),
        intercepts=tuple(float(head["intercept"]) for head in description.heads.values()),
        support=support,
        dual=dual,
    )
