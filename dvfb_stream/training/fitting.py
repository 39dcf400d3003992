"""Fitting a network: epochs over frames, averaged weights, a checkpoint after every epoch."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.fbt.device import find_precision, in_precision
from dvfb_stream.models.networks import AnnotationNetwork, Inputs, build_network
from dvfb_stream.training.augmentation import SYMMETRIES, moved, transform
from dvfb_stream.training.checkpoint import Epoch, FitState, read_state
from dvfb_stream.training.dataset import EpochFrames
from dvfb_stream.training.distributed import Team, own_device, team
from dvfb_stream.training.evaluation import mean_average_precision, predict
from dvfb_stream.training.examples import Batch, Examples
from dvfb_stream.training.presets import FittingSettings

MILESTONES = (0.6, 0.85)
"""Shares of the fit after which the learning rate falls to a tenth."""


class _AllHeads(nn.Module):
    """The network with its training heads as its output, which is what several processes can share."""

    def __init__(self, network: AnnotationNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        return self.network.all_logits(inputs)[0]


def fit(
    train: EpochFrames,
    validation: Examples,
    *,
    architecture: Mapping[str, Any],
    orders: tuple[int, ...],
    settings: FittingSettings,
    checkpoint: Path,
    device: str = "cpu",
    start: Mapping[str, Mapping[str, Tensor]] | None = None,
    facts: Mapping[str, Any] | None = None,
    on_step: Callable[[int, int, int, float], None] = lambda epoch, step, steps, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[AnnotationNetwork, list[Epoch]]:
    """Fit a network, from `checkpoint` on where it exists, and return it with the history of its epochs.

    Deterministic by the seed on one device; an interrupted fit takes the steps that an uninterrupted one takes.

    Parameters
    ----------
    train, validation
        Frames to learn from, and examples that only measure.
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
    start
        Weights of sub-networks, ``{"image": ..., "coefficient": ...}``, fitted before and kept as they are: the
        second of the paper's two stages, which optimises the fully connected layers (section 4.3).
    facts
        What else the fit follows from, JSON-ready; a checkpoint of others is refused.
    on_step, on_epoch
        Told about progress: epoch, step in it, steps an epoch, mean loss so far; and each finished epoch.

    Raises
    ------
    BundleError
        When the checkpoint belongs to another fit, or `start` does not fit the architecture.
    SettingsError
        When there are fewer training frames than a batch has, or the device is not there.
    """
    if len(train) < settings.batch_size:
        raise SettingsError(
            f"{len(train)} training frames do not fill one batch of {settings.batch_size}; simulate more"
        )
    settings = resolved(settings, checkpoint, device)
    with team() as here:
        return _Fit(
            train,
            validation,
            dict(architecture),
            orders,
            settings,
            checkpoint,
            own_device(device),
            start or {},
            dict(facts or {}),
            here,
        ).run(on_step, on_epoch)


def resolved(settings: FittingSettings, checkpoint: Path, device: str) -> FittingSettings:
    """Return the settings with a precision of the checkpoint's, or of the device's if it begins.

    Raises
    ------
    BundleError
        When the checkpoint is damaged.
    """
    precision = settings.precision
    if precision == "auto" and checkpoint.exists():
        precision = str(read_state(checkpoint)["settings"]["precision"])
    return dataclasses.replace(settings, precision=find_precision(precision, device))


class _Fit:
    def __init__(
        self,
        train: EpochFrames,
        validation: Examples,
        architecture: dict[str, Any],
        orders: tuple[int, ...],
        settings: FittingSettings,
        checkpoint: Path,
        device: str,
        start: Mapping[str, Mapping[str, Tensor]],
        facts: dict[str, Any],
        here: Team,
    ) -> None:
        self._train, self._validation, self._orders = train, validation, orders
        self._architecture, self._settings, self._checkpoint = architecture, settings, checkpoint
        self._device, self._here = torch.device(device), here
        self._described = {
            "settings": dataclasses.asdict(settings),
            "architecture": architecture,
            "frames": len(train),
            **facts,
        }
        torch.manual_seed(settings.seed)
        network = build_network(architecture)
        for view, weights in start.items():
            _take(network, view, weights)
        self._frozen = [network.branches[view] for view in start]
        for part in self._frozen:
            part.requires_grad_(requires_grad=False)
        network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = network
        self._averaged = AveragedModel(
            network, multi_avg_fn=_moving_average(settings.averaging), use_buffers=True
        )
        self._optimizer = _optimizer(network, settings)
        self._state = FitState(network, self._averaged, {}, self._optimizer)
        self._model: nn.Module = _AllHeads(network)
        if here.size > 1:
            self._model = DistributedDataParallel(
                self._model, device_ids=[self._device] if self._device.type == "cuda" else None
            )

    def run(
        self, on_step: Callable[[int, int, int, float], None], on_epoch: Callable[[Epoch], None]
    ) -> tuple[AnnotationNetwork, list[Epoch]]:
        settings = self._settings
        history: list[Epoch] = []
        if self._checkpoint.exists():
            history = self._state.restore(self._checkpoint, self._described)
        for number in range(len(history) + 1, settings.epochs + 1):
            if self._tired(history):
                break
            started = time.monotonic()
            loss = self._epoch(number, on_step)
            scores: dict[str, float] = {}
            if self._here.leads:
                logits, _ = predict(
                    self._smoothed, self._validation, device=self._device, precision=settings.precision
                )
                scores = {
                    head: mean_average_precision(values, self._validation.truth)
                    for head, values in logits.items()
                }
            # The others need nothing but to stop at the same epoch.
            output = self._smoothed.output
            scores[output] = self._here.agree(scores.get(output, 0.0))
            if all(scores[output] > epoch.validation[output] for epoch in history):
                self._state.best = {key: v.clone() for key, v in self._smoothed.state_dict().items()}
            history.append(Epoch(number, loss, scores, time.monotonic() - started))
            if self._here.leads:
                self._state.save(self._checkpoint, self._described, history)
                on_epoch(history[-1])
            self._here.wait()
        # Into a fresh network, whose memory layout is the one that is stored.
        result = build_network(self._architecture)
        result.load_state_dict(self._state.best)
        return result.eval(), history

    @property
    def _smoothed(self) -> AnnotationNetwork:
        smoothed = self._averaged.module
        assert isinstance(smoothed, AnnotationNetwork)
        return smoothed

    def _tired(self, history: list[Epoch]) -> bool:
        patience = self._settings.patience
        if not patience or len(history) <= patience:
            return False
        scores = [epoch.validation[self._network.output] for epoch in history]
        return max(scores[:-patience]) >= max(scores[-patience:])

    def _epoch(self, number: int, on_step: Callable[[int, int, int, float], None]) -> float:
        """Take the steps of one epoch and return their mean loss."""
        settings, here = self._settings, self._here
        examples = self._train.epoch(number)
        # Seeded by the epoch, so that a resumed fit takes the steps that an uninterrupted one takes.
        torch.manual_seed(settings.seed * 100_003 + number)
        order = torch.randperm(len(examples)).numpy()
        steps = len(examples) // settings.batch_size
        share = settings.batch_size // here.size
        places = [
            order[step * settings.batch_size :][here.rank * share : (here.rank + 1) * share]
            for step in range(steps)
        ]
        # Different symmetries and dropout in each process.
        torch.manual_seed((settings.seed * 100_003 + number) * 1_009 + here.rank)
        self._train_mode()
        total = 0.0
        for step, batch in enumerate(
            _ahead(examples, places, self._device, pictures="image" in self._network.branches)
        ):
            done = (number - 1 + step / steps) / settings.epochs
            for group in self._optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate(settings.schedule, done)
            loss = self._loss(batch)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip:
                nn.utils.clip_grad_norm_(self._network.parameters(), settings.clip)
            self._optimizer.step()
            self._averaged.update_parameters(self._network)
            total += float(loss.detach())
            if not math.isfinite(total):
                raise SettingsError(
                    f"the loss is no longer finite in epoch {number}, step {step + 1}; lower the learning rate "
                    f"({settings.learning_rate:g}) and delete {self._checkpoint}"
                )
            on_step(number, step + 1, steps, total / (step + 1))
        return total / steps

    def _train_mode(self) -> None:
        self._network.train()
        for part in self._frozen:
            for module in part.modules():
                # Crops stay random; statistics stay those of the first stage.
                if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.Dropout):
                    module.eval()

    def _loss(self, batch: Batch) -> Tensor:
        settings = self._settings
        views = (batch.images, batch.masks, batch.coefficients)
        rings = moved(batch.rings, settings.moved) if settings.moved else batch.rings
        if settings.symmetries:
            halves = [
                transform(int(torch.randint(SYMMETRIES, ())), *part, orders=self._orders)
                for part in zip(*(view.chunk(2) for view in views), strict=True)
            ]
            views = tuple(torch.cat(parts) for parts in zip(*halves, strict=True))  # type: ignore[assignment]
        inputs = self._network.prepare(*views, rings)
        with in_precision(settings.precision, self._device):
            heads = self._model(inputs)
        return torch.stack(
            [label_loss(logits.float(), batch.labels, settings.loss) for logits in heads.values()]
        ).sum()


def _take(network: AnnotationNetwork, view: str, weights: Mapping[str, Tensor]) -> None:
    if view not in network.branches:
        raise BundleError(f"the network has no {view} network to take weights into")
    try:
        network.branches[view].load_state_dict(weights)
    except RuntimeError as error:
        raise BundleError(f"the weights of the first stage do not fit the {view} network: {error}") from error


def _ahead(examples: Examples, places: list[Any], device: torch.device, *, pictures: bool) -> Iterator[Batch]:
    """Yield batches, with images and masks if asked for, the next one being read while the last is used."""
    pinned = device.type == "cuda"

    def read(which: Any) -> Batch:
        batch = examples.batch(np.asarray(which), pictures=pictures)
        if not pinned:
            return batch
        return Batch(
            *(
                tensor.pin_memory().to(device, non_blocking=True)
                for tensor in (batch.images, batch.masks, batch.coefficients, batch.rings, batch.labels)
            )
        )

    with ThreadPoolExecutor(1) as reader:
        waiting = [reader.submit(read, which) for which in itertools.islice(places, 2)]
        for which in itertools.chain(places[2:], [None, None]):
            if not waiting:
                return
            batch = waiting.pop(0).result()
            if which is not None:
                waiting.append(reader.submit(read, which))
            yield batch


def _optimizer(network: nn.Module, settings: FittingSettings) -> torch.optim.Optimizer:
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(learned, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        learned, settings.learning_rate, momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def _moving_average(decay: float) -> Callable[..., None]:
    """Return the update of the averaged weights; young averages forget faster, as the authors' library has it."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], number: Tensor | int) -> None:
        count = float(number)
        kept = min(decay, (1.0 + count) / (10.0 + count))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1.0 - kept)
        else:
            torch._foreach_copy_(averaged, current)

    return update


def rate(schedule: str, done: float) -> float:
    """Return the share of the peak learning rate when a share `done` of the fit is over."""
    if schedule == "steps":
        return 0.1 ** sum(done >= milestone for milestone in MILESTONES)
    if done < 0.1:
        return 0.1 + 0.9 * done / 0.1
    return 0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))


NEGATIVE_FOCUS = 4.0
"""γ₋ of the asymmetric loss."""
MARGIN = 0.05
"""Probability up to which a negative costs nothing."""


def label_loss(logits: Tensor, truth: Tensor, kind: str) -> Tensor:
    """Return the loss, summed over labels and averaged over frames as (11) prints it.

    Parameters
    ----------
    logits, truth
        (B, L); truth 0 or 1.
    kind
        ``bce``: (11). ``asymmetric``: negatives p are weighted by max(p - 0.05, 0)⁴, positives not at all.

    References
    ----------
    Ridnik et al. (2021), Asymmetric loss for multi-label classification, ICCV.
    """
    if kind == "bce":
        return nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / len(logits)
    stated = torch.sigmoid(logits)
    shifted = (stated - MARGIN).clamp_min(0.0)
    positive = truth * nn.functional.logsigmoid(logits)
    negative = (1.0 - truth) * torch.log((1.0 - shifted).clamp_min(1e-8)) * shifted.pow(NEGATIVE_FOCUS)
    return -(positive + negative).sum() / len(logits)
