"""Fitting an unrolled encoder: Adam on how far its objective and its coefficients are from the minimum's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dvfb_stream.errors import BundleError, SettingsError
from dvfb_stream.reproduction.encoder_training.problems import SolvedProblem
from dvfb_stream.reproduction.encoders.layers import Layers, for_geometry, unroll

COMMON_FIRST = 0.15
"""Share of the fit in which a layer's parameters move together only; then each (n, m) goes its own way."""

KINDS = len(fields(Layers))
"""Of parameters."""

NEGLIGIBLE_EXCESS = 1e-7
NEGLIGIBLE_ERROR = 1e-3
"""Of objective and coefficients: less is not worth learning at the price of other frames."""

CONSTANT_RATE = 0.5
"""Share of the fit before the learning rate starts to fall to zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFittingSettings:
    """How layers are fitted."""

    layers: int = 4
    """Steps of the encoder, one product with a matrix of the geometry each."""
    epochs: int = 10
    """Passes over the geometries; a step takes all frames of one."""
    learning_rate: float = 0.1
    """Adam's; the parameters are logarithms and relaxations, of order one."""
    coefficients: float = 1.0
    """Weight of ln mean(coefficient error²) beside that of ln mean(excess): the stiff reading's objective hardly
    sees what no pixel does, but a network sees every coefficient."""
    early_layers: float = 0.1
    """Weight of the loss of all layers but the last at the start; it falls to zero."""
    curvature: float = 0.0
    """Logarithm of R at the start, in units of the solver's ρ."""
    first_curvature: float = -4.0
    """The same in the first layer, which has no estimate to stay close to: nearly regularised least squares."""
    relaxation: float = 1.3
    """γ at the start; 1 in the first layer."""
    seed: int = 0
    """Of the order of geometries."""

    def __post_init__(self) -> None:
        if self.layers < 1 or self.epochs < 1:
            raise SettingsError(
                f"an encoder needs at least 1 layer and 1 epoch, not {self.layers} and {self.epochs}"
            )


@dataclass(frozen=True, slots=True)
class EncoderEpoch:
    """What one pass over the geometries came to."""

    number: int
    """From 1."""
    loss: float
    """Mean over the pass, of the last layer."""
    validation: dict[str, float]
    """`measure` of the last layer on the validation problems."""
    seconds: float


class RidgeSolve(torch.autograd.Function):
    """x = (H + diag R)⁻¹ b with its derivatives by R and b, which need the factor and nothing more."""

    @staticmethod
    def forward(ctx: Any, hessian: Tensor, curvature: Tensor, right: Tensor) -> Tensor:
        """Return x, (B, J), of (J, J) H, (J,) R and (B, J) b."""
        factor = torch.linalg.cholesky(hessian + torch.diag(curvature))
        solved = torch.cholesky_solve(right.T, factor).T
        ctx.save_for_backward(factor, solved)
        return solved

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        """Return the derivatives by R and b."""
        factor, solved = ctx.saved_tensors
        by_right = torch.cholesky_solve(gradients[0].T, factor).T
        return None, -(by_right * solved).sum(0), by_right


def estimates(layers: Layers, problem: SolvedProblem, orders: Sequence[int]) -> list[Tensor]:
    """Return each layer's unknowns, (B, J), differentiable by the layers' parameters."""
    parts = for_geometry(layers, orders=orders, l1=problem.l1, l2=problem.l2, largest=problem.largest)
    # In float64: the stiff reading's curvatures span six decades.
    hessian = problem.gram.double() + problem.l2 * torch.eye(len(problem.gram), dtype=torch.float64)

    def solve(k: int, right: Tensor) -> Tensor:
        solved: Tensor = RidgeSolve.apply(hessian, parts[k].curvature.double(), right.double())  # type: ignore[no-untyped-call]
        return solved.to(right.dtype)

    return unroll(problem.projections, parts, l1=problem.l1, solve=solve)


@torch.no_grad()
def measure(layers: Layers, problems: Sequence[SolvedProblem], orders: Sequence[int]) -> dict[str, float]:
    """Return median and 95th percentile of the relative excess and of the coefficient error of all frames."""
    last = [(problem, estimates(layers, problem, orders)[-1]) for problem in problems]
    found = {
        "excess": torch.cat([problem.excess(a) for problem, a in last]),
        "coefficient_error": torch.cat([problem.coefficient_error(a) for problem, a in last]),
    }
    return {
        f"{name}_{which}": float(values.quantile(share))
        for name, values in found.items()
        for which, share in (("median", 0.5), ("p95", 0.95))
    }


def fit(
    train: Sequence[SolvedProblem],
    validation: Sequence[SolvedProblem],
    *,
    orders: tuple[int, ...],
    settings: EncoderFittingSettings,
    checkpoint: Path,
    on_step: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    on_epoch: Callable[[EncoderEpoch], None] = lambda epoch: None,
) -> tuple[Layers, list[EncoderEpoch]]:
    """Fit layers, from `checkpoint` on where it exists, and return them with the history of the epochs.

    Parameters
    ----------
    train, validation
        Problems; validation only measures.
    orders
        Angular orders of the coefficients' columns.
    settings
        Fixed for a checkpoint: one made with others is refused.
    checkpoint
        A safetensors file, written anew after every epoch, atomically.
    on_step, on_epoch
        Told about progress: step in epoch, steps in epoch, loss; and each finished epoch.

    Raises
    ------
    BundleError
        When the checkpoint is damaged or belongs to another fit.
    SettingsError
        When there is nothing to learn from.
    """
    if not train or not validation:
        raise SettingsError("no geometry of the training or the validation set shows anything; simulate more")
    parameters = _start(settings, n_orders=len(orders), unknowns=train[0].gram.shape[0], orders=orders)
    common, own = parameters[:KINDS], parameters[KINDS:]
    optimizer = torch.optim.Adam([{"params": common}, {"params": own}], lr=0.0, betas=(0.9, 0.99))
    described = {"settings": asdict(settings), "orders": list(orders), "geometries": len(train)}
    history = _restore(checkpoint, described, parameters, optimizer) if checkpoint.exists() else []
    for number in range(len(history) + 1, settings.epochs + 1):
        started = time.monotonic()
        # Seeded by the epoch, so that a resumed fit takes the steps that an uninterrupted one takes.
        generator = torch.Generator().manual_seed(settings.seed * 100_003 + number)
        total = 0.0
        for step, index in enumerate(torch.randperm(len(train), generator=generator).tolist()):
            done = (number - 1 + step / len(train)) / settings.epochs
            rate = settings.learning_rate * min(1.0, (1.0 - done) / (1.0 - CONSTANT_RATE))
            optimizer.param_groups[0]["lr"] = rate
            optimizer.param_groups[1]["lr"] = 0.0 if done < COMMON_FIRST else 0.5 * rate
            problem = train[index]
            losses = [_loss(problem, a, settings) for a in estimates(_layers(parameters), problem, orders)]
            early = settings.early_layers * (1.0 - done)
            loss = losses[-1] + early * torch.stack([torch.zeros(()), *losses[:-1]]).sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(losses[-1].detach())
            on_step(step + 1, len(train), total / (step + 1))
        measured = measure(_layers(parameters), validation, orders)
        history.append(EncoderEpoch(number, total / len(train), measured, time.monotonic() - started))
        _save(checkpoint, described, history, parameters, optimizer)
        on_epoch(history[-1])
    fitted = _layers(parameters)
    return Layers(**{name: value.detach() for name, value in fitted.parameters().items()}), history


def _start(
    settings: EncoderFittingSettings, *, n_orders: int, unknowns: int, orders: Sequence[int]
) -> list[Tensor]:
    """Each kind of parameter at the start: common to a layer, (K, 1, 1), and what (n, m) add to it."""
    n_radial = unknowns // sum(1 if order == 0 else 2 for order in orders)
    later = settings.layers - 1
    curvature = torch.tensor([settings.first_curvature] + [settings.curvature] * later)
    # As in ADMM, the threshold is κ₁ over the curvature; the first layer's is that of the second.
    threshold = torch.full((settings.layers,), -settings.curvature)
    relaxation = torch.tensor([1.0] + [settings.relaxation] * later)
    brightness = torch.zeros(settings.layers)
    common = [start[:, None, None] for start in (curvature, threshold, relaxation, brightness)]
    own = [torch.zeros(settings.layers, n_radial, n_orders) for _ in common]
    return [tensor.clone().requires_grad_() for tensor in (*common, *own)]


def _layers(parameters: Sequence[Tensor]) -> Layers:
    return Layers(*(common + own for common, own in zip(parameters[:KINDS], parameters[KINDS:], strict=True)))


def _loss(problem: SolvedProblem, a: Tensor, settings: EncoderFittingSettings) -> Tensor:
    """Logarithms, for geometries differ by decades; of means, for the worst frames of a geometry count."""
    excess = problem.excess(a).mean() + NEGLIGIBLE_EXCESS
    error = problem.coefficient_error(a).square().mean() + NEGLIGIBLE_ERROR**2
    return excess.log() + settings.coefficients * error.log()


def _save(
    path: Path,
    described: dict[str, Any],
    history: Sequence[EncoderEpoch],
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors = {f"parameter.{k}": parameter.detach() for k, parameter in enumerate(parameters)}
    for k, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{k}.{name}": value for name, value in state.items()}
    partial = path.with_suffix(".partial")
    save_file(
        tensors,
        partial,
        metadata={"fit": json.dumps(described), "history": json.dumps([asdict(epoch) for epoch in history])},
    )
    partial.rename(path)


def _restore(
    path: Path, described: dict[str, Any], parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> list[EncoderEpoch]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise BundleError(f"the checkpoint {path} is damaged ({error}); delete it to start anew") from error
    if metadata.get("fit") != json.dumps(described):
        raise BundleError(
            f"the checkpoint {path} belongs to a fit with {metadata.get('fit')}, not {json.dumps(described)}; "
            "choose another folder or delete it"
        )
    state: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for key, value in tensors.items():
            kind, k, *name = key.split(".")
            if kind == "parameter":
                parameters[int(k)].copy_(value)
            else:
                state.setdefault(int(k), {})[name[0]] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return [EncoderEpoch(**epoch) for epoch in json.loads(metadata["history"])]
