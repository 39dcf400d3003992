"""How a network is fitted."""

from __future__ import annotations

from dataclasses import dataclass

from dvfb_stream.errors import SettingsError
from dvfb_stream.fbt.device import PRECISIONS

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("steps", "one_cycle")
LOSSES = ("bce", "asymmetric")


@dataclass(frozen=True, slots=True, kw_only=True)
class FittingSettings:
    """How a network is fitted; the defaults are the authors', but for the number of epochs and the learning rate.

    Raises
    ------
    SettingsError
        When a value is unknown or out of its range.
    """

    epochs: int = 12
    """Passes over the training frames, at most."""
    batch_size: int = 50
    """Frames a step, of all processes together."""
    optimizer: str = "sgd"
    """``sgd`` with momentum, or ``adamw``."""
    learning_rate: float = 0.01
    """Peak. The loss (11) is a sum over ten labels; the authors' 0.01, for their mean, would be 0.001 here."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 0.0
    schedule: str = "steps"
    """``steps``: a tenth after 60 % and after 85 % of the fit; ``one_cycle``: up for a tenth, then down a half
    cosine."""
    averaging: float = 0.9999
    """Decay of the exponential moving average of weights, which is what is kept in the end. It starts lower."""
    loss: str = "bce"
    """``bce``: binary cross entropy (11); ``asymmetric``: easy negatives count less (Ridnik et al. 2021)."""
    clip: float = 0.0
    """Largest norm of a step's gradient; 0: any."""
    symmetries: bool = True
    """Whether each half of a batch is turned by one of the eight symmetries of the square."""
    rotation: float = 0.0
    """Largest angle, in degrees, by which frames are turned besides, about the middle of the view."""
    precision: str = "auto"
    """Of the network's products; weights, losses and standardisation are float32. ``auto``: ``bfloat16`` where the
    device multiplies it natively, else ``float32``; an interrupted fit goes on with what it began with."""
    patience: int = 0
    """Epochs without a better validation mAP after which the fit ends; 0: it never ends early."""
    seed: int = 0
    """Of initial weights, order of frames, augmentation and dropout."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise SettingsError(
                f"fitting needs at least 1 epoch and batches of at least 2 frames, not {self.epochs} and "
                f"{self.batch_size}"
            )
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("loss", LOSSES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise SettingsError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name, low, high in (
            ("learning_rate", 1e-8, 10.0),
            ("momentum", 0.0, 0.9999),
            ("weight_decay", 0.0, 10.0),
            ("averaging", 0.0, 0.999999),
            ("clip", 0.0, 1e9),
            ("rotation", 0.0, 45.0),
            ("patience", 0, 10_000),
        ):
            if not low <= getattr(self, name) <= high:
                raise SettingsError(f"{name} must lie from {low:g} to {high:g}, not {getattr(self, name)!r}")
