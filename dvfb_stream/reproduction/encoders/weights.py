"""Weights of unrolled encoders: what was learned, for which settings, from what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.fbt.settings import FourierBesselSettings, PenaltyReading
from dvfb_stream.reproduction.encoders.layers import Layers

FORMAT = "dvfb-unrolled-encoder-1"
"""Of the file; goes up when its meaning changes."""

FOLDER = Path(__file__).parent / "learned"
"""Where the weights that come with the package lie: one file a reading, named like it."""

BINDING = ("n_radial", "orders", "penalty", "l1_ratio", "reading")
"""Settings that parameters are tied to. The others reach an encoder through the Gram matrix, as geometries do."""


@dataclass(frozen=True, slots=True, eq=False)
class EncoderWeights:
    """Parameters of an unrolled encoder and where they come from."""

    layers: Layers
    settings: FourierBesselSettings
    """What it was trained to estimate."""
    training: Mapping[str, Any]
    """Seeds, geometries, steps, software and results."""
    sha256: str
    """SHA-256 of parameters, settings and training facts, hexadecimal."""

    def check(self, settings: FourierBesselSettings) -> None:
        """Refuse settings that the parameters were not trained for.

        Raises
        ------
        SettingsError
            When one of `BINDING` differs.
        """
        for name in BINDING:
            asked, trained = getattr(settings, name), getattr(self.settings, name)
            if asked != trained:
                raise SettingsError(
                    f"the unrolled encoder {self.sha256[:12]} was trained for {name} {_shown(trained)}, not "
                    f"{_shown(asked)}; use FourierBessel.estimate, or train one with "
                    "python -m dvfb_stream.reproduction.encoder_training"
                )


def save_weights(
    path: Path, layers: Layers, *, settings: FourierBesselSettings, training: Mapping[str, Any]
) -> EncoderWeights:
    """Write a weights file and return it as read back."""
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in layers.parameters().items()}
    metadata = {
        "format": FORMAT,
        "settings": json.dumps(settings.as_dict()),
        "settings_sha256": settings.digest,
        "training": json.dumps(dict(training)),
    }
    metadata["sha256"] = _digest(tensors, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(save_tensors(tensors, metadata))
    return load_weights(path)


def load_weights(source: Path | str | PenaltyReading) -> EncoderWeights:
    """Return the weights in a file, checked against their own hash.

    Parameters
    ----------
    source
        A file, or a reading: the weights that come with the package.

    Raises
    ------
    BundleError
        When the file is missing, damaged, altered or of another format.
    """
    path = FOLDER / f"{source.value}.safetensors" if isinstance(source, PenaltyReading) else Path(source)
    try:
        tensors = load_tensors(path.read_bytes())
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise BundleError(
            f"the encoder's weights {path} cannot be read: {error}; train them with "
            "python -m dvfb_stream.reproduction.encoder_training"
        ) from error
    except SafetensorError as error:
        raise BundleError(
            f"the encoder's weights {path} are damaged ({error}); restore them from their source"
        ) from error
    if metadata.get("format") != FORMAT:
        raise BundleError(
            f"{path} has format {metadata.get('format')!r}, this version of dvfb_stream reads {FORMAT!r}; "
            "retrain the encoder or install the version that wrote it"
        )
    stated, found = metadata.pop("sha256", "none"), _digest(tensors, metadata)
    if stated != found:
        raise BundleError(
            f"{path} has SHA-256 {found[:12]}… over parameters and settings, but states {stated[:12]}…: "
            "it was altered; restore it from its source"
        )
    try:
        settings = FourierBesselSettings.from_dict(json.loads(metadata["settings"]))
        training = json.loads(metadata["training"])
        layers = Layers(**tensors)
    except (KeyError, TypeError, ValueError, AttributeError, SettingsError) as error:
        raise BundleError(f"{path} does not describe its weights: {error}; retrain the encoder") from error
    shape = (len(layers), settings.n_radial, len(settings.orders))
    for name, value in tensors.items():
        if tuple(value.shape) != shape or not bool(torch.isfinite(value).all()):
            raise BundleError(
                f"{name} in {path} must be finite and of shape {shape}, not {tuple(value.shape)}; "
                "restore the file from its source"
            )
    return EncoderWeights(layers, settings, training, found)


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of metadata, names, shapes and little-endian values, hexadecimal."""
    found = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        values = tensors[name].numpy()
        found.update(f"{name}:{values.dtype}:{values.shape}\n".encode())
        found.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(str, value))})"
    return str(value)
