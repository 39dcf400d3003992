"""The state of a fit in one file, written after every epoch, so that an interrupted fit goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dvfb_stream.errors import BundleError


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training frames came to."""

    number: int
    """From 1."""
    loss: float
    """Mean over the pass of the loss (11), summed over the heads."""
    validation: dict[str, float]
    """Mean average precision of each head of the averaged network on the validation frames."""
    seconds: float

    def __str__(self) -> str:
        scores = ", ".join(f"{head} {score:.4f}" for head, score in self.validation.items())
        return f"epoch {self.number}: loss {self.loss:.4f}, validation mAP {scores} ({self.seconds:.0f} s)"


@dataclass(slots=True, eq=False)
class FitState:
    """All that a fit goes on from."""

    network: nn.Module
    averaged: nn.Module
    """Moving average of the network's weights."""
    best: dict[str, Tensor]
    """Averaged weights of the epoch that did best on the validation frames."""
    optimizer: torch.optim.Optimizer

    def save(self, path: Path, described: dict[str, Any], history: list[Epoch]) -> None:
        """Write the state, atomically."""
        parts = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "best": self.best,
        }
        tensors = {f"{part}.{key}": value for part, state in parts.items() for key, value in state.items()}
        for parameter, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{parameter}.{key}": value for key, value in moments.items() if value is not None
            }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(
            {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()},
            partial,
            metadata={"state": json.dumps({**described, "history": [asdict(epoch) for epoch in history]})},
        )
        partial.rename(path)

    def restore(self, path: Path, described: dict[str, Any]) -> list[Epoch]:
        """Take the state from a file and return the history of its epochs.

        Raises
        ------
        BundleError
            When the file is damaged, or belongs to other settings, another network or other frames.
        """
        state, tensors = _read(path)
        history = [Epoch(**epoch) for epoch in state.pop("history")]
        if state != json.loads(json.dumps(described)):
            raise BundleError(
                f"the checkpoint {path} was made with {state}, not with {described}; "
                "delete it or choose another output folder"
            )
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "best": {}, "optimizer": {}}
        for key, tensor in tensors.items():
            part, _, rest = key.partition(".")
            parts[part][rest] = tensor
        self.network.load_state_dict(parts["network"])
        self.averaged.load_state_dict(parts["averaged"])
        self.best = parts["best"]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            parameter, _, name = key.partition(".")
            moments.setdefault(int(parameter), {})[name] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        return history


def read_state(path: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its fit: settings, architecture, frames and history.

    Raises
    ------
    BundleError
        When the file is damaged.
    """
    return _read(path, tensors=False)[0]


def _read(path: Path, *, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            keys = file.keys() if tensors else ()
            return json.loads(file.metadata()["state"]), {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"the checkpoint {path} is damaged ({error}); delete it to begin the fit anew"
        ) from error
