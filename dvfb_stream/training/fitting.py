"""Fitting the joint network: all three heads in one pass, averaged weights, a checkpoint after every epoch."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.models.inputs import coefficient_input, image_input
from dvfb_stream.models.networks import JointNetwork, build_network
from dvfb_stream.training.augmentation import SYMMETRIES, transform
from dvfb_stream.training.dataset import Examples
from dvfb_stream.training.evaluation import average_precision, predict


@dataclass(frozen=True, slots=True, kw_only=True)
class FittingSettings:
    """How the network is fitted."""

    epochs: int = 12
    """Passes over the training frames."""
    batch_size: int = 64
    """Frames a step."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    weight_decay: float = 1e-2
    """AdamW's."""
    averaging: float = 0.998
    """Decay of the exponential moving average of weights, which is what is kept in the end."""
    seed: int = 0
    """Of initial weights, order of frames, augmentation and dropout."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise SettingsError("fitting needs at least 1 epoch and batches of at least 2 frames")


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one pass over the training frames came to."""

    number: int
    """From 1."""
    loss: float
    """Mean over the pass of the summed losses (11) of the three heads."""
    validation: dict[str, float]
    """Mean average precision of each head of the averaged network on the validation frames."""
    seconds: float


def fit(
    train: Examples,
    validation: Examples,
    *,
    architecture: Mapping[str, Any],
    orders: tuple[int, ...],
    settings: FittingSettings,
    checkpoint: Path,
    device: str = "cpu",
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[JointNetwork, list[Epoch]]:
    """Fit a network, from `checkpoint` on where it exists, and return it with the history of its epochs.

    Parameters
    ----------
    train, validation
        Examples; validation frames only measure.
    architecture
        For `build_network`.
    orders
        Angular orders of the coefficients' columns.
    settings
        Fixed for a checkpoint: one made with other settings is refused.
    checkpoint
        A safetensors file, written anew after every epoch, atomically.
    device
        Where to fit.
    on_step, on_epoch
        Told about progress: step in epoch, steps in epoch, loss; and each finished epoch.

    Raises
    ------
    BundleError
        When the checkpoint belongs to other settings or another architecture.
    SettingsError
        When there are fewer training frames than a batch has.
    """
    if len(train) < settings.batch_size:
        raise SettingsError(
            f"{len(train)} training frames do not fill one batch of {settings.batch_size}; simulate more"
        )
    torch.manual_seed(settings.seed)
    network = _channels_last(build_network(architecture).to(device))
    averaging = get_ema_multi_avg_fn(settings.averaging)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(network, multi_avg_fn=averaging, use_buffers=True)
    smoothed = averaged.module
    assert isinstance(smoothed, JointNetwork)
    optimizer = torch.optim.AdamW(
        network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    described = {"settings": asdict(settings), "architecture": dict(architecture), "frames": len(train)}
    history: list[Epoch] = []
    if checkpoint.exists():
        history = _restore(checkpoint, described, network, averaged, optimizer)
    steps = len(train) // settings.batch_size
    for number in range(len(history) + 1, settings.epochs + 1):
        started = time.monotonic()
        # Seeded by the epoch, so that a resumed fit takes the steps that an uninterrupted one takes.
        torch.manual_seed(settings.seed * 100_003 + number)
        order = torch.randperm(len(train))
        total = 0.0
        network.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _one_cycle(
                    ((number - 1) * steps + step) / (settings.epochs * steps)
                )
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            loss = _loss(network, train, rows, orders, device)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            averaged.update_parameters(network)
            total += float(loss.detach())
            on_step(step + 1, steps, total / (step + 1))
        logits, _ = predict(smoothed, validation, device=device)
        truth = validation.labels.numpy()
        scores = {head: average_precision(values, truth)["mean"] for head, values in logits.items()}
        history.append(Epoch(number, total / steps, scores, time.monotonic() - started))
        _save(checkpoint, described, history, network, averaged, optimizer)
        on_epoch(history[-1])
    # Copied into a fresh network, whose memory layout is the one that is stored.
    result = build_network(architecture)
    result.load_state_dict(smoothed.state_dict())
    return result.eval(), history


def _channels_last(network: JointNetwork) -> JointNetwork:
    """Lay the convolutions' weights out as the processor's and the GPU's fast kernels want them."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _loss(
    network: JointNetwork, train: Examples, rows: Tensor, orders: tuple[int, ...], device: str
) -> Tensor:
    """Binary cross entropy (11), summed over the three heads; each half of the batch under its own symmetry."""
    images: list[Tensor] = []
    masks: list[Tensor] = []
    coefficients: list[Tensor] = []
    for part in rows.chunk(2):
        symmetry = int(torch.randint(SYMMETRIES, ()))
        turned = transform(
            symmetry,
            train.images[part],
            train.masks[part],
            train.coefficients[part],
            orders=orders,
        )
        for collected, tensor in zip((images, masks, coefficients), turned, strict=True):
            collected.append(tensor)
    truth = torch.cat([train.labels[part] for part in rows.chunk(2)]).float().to(device)
    # Standardised in float32; only the network itself runs in bfloat16.
    image_view = image_input(torch.cat(images).to(device).float(), torch.cat(masks).to(device))
    coefficient_view = coefficient_input(torch.cat(coefficients).to(device))
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        heads, _ = network.heads(
            image_view.contiguous(memory_format=torch.channels_last),
            coefficient_view.contiguous(memory_format=torch.channels_last),
        )
    losses = [
        nn.functional.binary_cross_entropy_with_logits(logits.float(), truth) for logits in heads.values()
    ]
    return torch.stack(losses).sum()


def _one_cycle(progress: float) -> float:
    """Share of the peak learning rate: up for a tenth of the fit, then down a half cosine to a thousandth."""
    if progress < 0.1:
        return 0.1 + 0.9 * progress / 0.1
    return 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))


def _save(
    path: Path,
    described: dict[str, Any],
    history: list[Epoch],
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"averaged.{key}": value for key, value in averaged.state_dict().items()}
    for parameter, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{parameter}.{key}": value for key, value in moments.items()}
    partial = path.with_suffix(".partial")
    save_file(
        {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()},
        partial,
        metadata={"state": json.dumps({**described, "history": [asdict(epoch) for epoch in history]})},
    )
    partial.rename(path)


def _restore(
    path: Path,
    described: dict[str, Any],
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> list[Epoch]:
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"the checkpoint {path} is damaged ({error}); delete it to begin the fit anew"
        ) from error
    history = [Epoch(**epoch) for epoch in state.pop("history")]
    if state != described:
        raise BundleError(
            f"the checkpoint {path} was made with {state}, not with {described}; "
            "delete it or choose another output folder"
        )
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "optimizer": {}}
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = tensor
    network.load_state_dict(parts["network"])
    averaged.load_state_dict(parts["averaged"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in parts["optimizer"].items():
        parameter, _, name = key.partition(".")
        moments.setdefault(int(parameter), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return history
