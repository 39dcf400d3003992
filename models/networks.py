"""The double-view network: an image CNN f, a coefficient CNN g, and layers that judge both together (section 4.2).

In place of the image the default model looks at ring statistics.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dvfb_stream.errors import BundleError
from dvfb_stream.labels import LABELS
from dvfb_stream.models.branches import (
    AlexNet,
    CoefficientCnn,
    CompactCoefficientNetwork,
    CompactImageNetwork,
    start_output,
)
from dvfb_stream.models.invariant_branches import (
    InvariantCoefficientNetwork,
    RingNetwork,
    SeveralRingNetworks,
)

IMAGE_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "alexnet": AlexNet,
    "compact": CompactImageNetwork,
}
COEFFICIENT_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "2conv": lambda **extent: CoefficientCnn(2, **extent),
    "2c-pool-2c": lambda **extent: CoefficientCnn(4, **extent),
    "compact": CompactCoefficientNetwork,
    "invariant": InvariantCoefficientNetwork,
}
RING_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "compact": RingNetwork,
    "several": SeveralRingNetworks,
}
"""Every f, g and network of rings that a bundle may name; a changed one gets a new name. `PEERS` adds its own when it
is imported."""

PEERS = "dvfb_stream.reproduction.peer_networks"
"""The module that brings the networks which the paper compares with."""


class Inputs(NamedTuple):
    """What the branches take; None for a view that the network has not."""

    image: Tensor | None = None
    coefficient: Tensor | None = None
    rings: Tensor | None = None


class AnnotationNetwork(nn.Module):
    """Sub-networks for one view or both, their features concatenated, and fully connected layers.

    Parameters
    ----------
    image
        ``{"name": ..., **parameters}`` of f, one of `IMAGE_NETWORKS`; None: without image.
    coefficient
        The same of g, one of `COEFFICIENT_NETWORKS`; None: without coefficients.
    rings
        The same of the network of ring statistics, one of `RING_NETWORKS`; None: without them.
    outputs
        Labels that it judges: the first of `dvfb_stream.labels.ALL_LABELS`.
    hidden
        Widths of the fully connected layers before the output; the paper's are (4000, 4000). The activations of
        the first are the features for novelty and for transfer learning.
    dropout
        Share of the activations of each of these layers dropped in training.
    heads
        Whether each view has a small head of its own beside the joint layers. They train the sub-networks as if
        alone in the same pass, and say what each view knows by itself; only the joint output is used on frames.
    """

    def __init__(
        self,
        *,
        image: Mapping[str, Any] | None = None,
        coefficient: Mapping[str, Any] | None = None,
        rings: Mapping[str, Any] | None = None,
        outputs: int = len(LABELS),
        hidden: tuple[int, ...] = (4000, 4000),
        dropout: float = 0.5,
        heads: bool = False,
    ) -> None:
        super().__init__()
        branches: dict[str, nn.Module] = {}
        if image is not None:
            branches["image"] = _build(IMAGE_NETWORKS, image)
        if coefficient is not None:
            branches["coefficient"] = _build(COEFFICIENT_NETWORKS, coefficient)
        if rings is not None:
            branches["rings"] = _build(RING_NETWORKS, rings)
        if not branches:
            raise ValueError("a network needs an image network, a coefficient network or one of rings")
        hidden = tuple(hidden)
        if not hidden or min(hidden) < 1:
            raise ValueError(f"hidden must name the width of at least one layer, not {hidden}")
        self.branches = nn.ModuleDict(branches)
        self.hidden = hidden[0]
        widths = {view: int(network.features) for view, network in branches.items()}  # type: ignore[arg-type]
        self.first = nn.Linear(sum(widths.values()), hidden[0])
        later: list[nn.Module] = [nn.Dropout(dropout)]
        for before, after in itertools.pairwise(hidden):
            later += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        output = nn.Linear(hidden[-1], outputs)
        self.later = nn.Sequential(*later, output)
        self.heads = nn.ModuleDict()
        if heads:
            for view, width in widths.items():
                self.heads[view] = nn.Sequential(
                    nn.Linear(width, hidden[0] // 2),
                    nn.ReLU(),
                    nn.Dropout(dropout),
                    nn.Linear(hidden[0] // 2, outputs),
                )
        start_output(output)

    @property
    def coefficient_shape(self) -> tuple[int, int] | None:
        """(n_radial, n_orders) that g takes; None without g."""
        if "coefficient" not in self.branches:
            return None
        shape: tuple[int, int] = self.branches["coefficient"].shape  # type: ignore[assignment]
        return shape

    @property
    def takes_rings(self) -> bool:
        """Whether it looks at ring statistics."""
        return "rings" in self.branches

    @property
    def invariant(self) -> bool:
        """Whether no turn about the beam and no mirror image of a frame changes what it says."""
        return all(getattr(branch, "invariant", False) for branch in self.branches.values())

    @property
    def outputs(self) -> int:
        """Labels that it judges."""
        return int(self.later[-1].out_features)  # type: ignore[arg-type]

    def prepare(
        self, images: Tensor, masks: Tensor, coefficients: Tensor, rings: Tensor | None = None
    ) -> Inputs:
        """Return the inputs of the branches, those of images and coefficients channels last.

        Parameters
        ----------
        images
            (B, 256, 256) float32 views, 0..255, 0 where invalid.
        masks
            (B, 256, 256) bool, True = valid.
        coefficients
            (B, n_radial, n_orders) complex, of the same views.
        rings
            (B, channels, bins) ring statistics of the same views, for a network that takes them.

        Raises
        ------
        ValueError
            When it takes them and none are given.
        """
        if rings is None and self.takes_rings:
            raise ValueError(
                "this network takes ring statistics; give `rings`, as `AzimuthalOrders.statistics` does"
            )
        arguments = {"image": (images, masks), "coefficient": (coefficients,), "rings": (rings,)}
        prepared: dict[str, Tensor] = {
            view: network.prepare(*arguments[view])  # type: ignore[operator]
            for view, network in self.branches.items()
        }
        return Inputs(
            **{
                view: value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
                for view, value in prepared.items()
            }
        )

    def features(self, inputs: Inputs) -> dict[str, Tensor]:
        """Return the features of each view, (B, width) each."""
        taken = inputs._asdict()
        return {view: network(taken[view]) for view, network in self.branches.items()}

    def judge(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits, (B, labels), and activations of the first fully connected layer, of each view's features."""
        hidden = torch.relu(self.first(torch.cat([features[view] for view in self.branches], dim=1)))
        return self.later(hidden), hidden

    def all_logits(self, inputs: Inputs) -> tuple[dict[str, Tensor], Tensor]:
        """Return the logits of every head, (B, labels) each, and the activations of the first joint layer.

        The network's own output is ``joint`` with several views, else named like its view.
        """
        features = self.features(inputs)
        logits, hidden = self.judge(features)
        found = {view: head(features[view]) for view, head in self.heads.items()}
        return {**found, self.output: logits}, hidden

    @property
    def output(self) -> str:
        """Name of the network's own output."""
        return "joint" if len(self.branches) > 1 else next(iter(self.branches))

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return logits, (B, labels), and the activations of the first fully connected layer, (B, hidden)."""
        return self.judge(self.features(inputs))


def _build(known: Mapping[str, Callable[..., nn.Module]], described: Mapping[str, Any]) -> nn.Module:
    parameters = dict(described)
    name = parameters.pop("name", None)
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"there is no sub-network {name!r}; there are {', '.join(known)}, and after `import {PEERS}` those that "
            "the paper compares with"
        )
    return known[name](**{key: tuple(v) if isinstance(v, list) else v for key, v in parameters.items()})


def build_network(architecture: Mapping[str, Any]) -> AnnotationNetwork:
    """Return the network, with fresh weights, that `model.json` describes.

    Parameters
    ----------
    architecture
        Arguments of `AnnotationNetwork` by name.

    Raises
    ------
    BundleError
        When a sub-network is unknown or the parameters do not fit.
    """
    try:
        return AnnotationNetwork(**architecture)
    except (TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"parameters {dict(architecture)} describe no network: {error}") from error


@torch.no_grad()
def mean_of_rings(
    networks: Sequence[AnnotationNetwork], *, without: Sequence[str] = ()
) -> tuple[AnnotationNetwork, dict[str, Any]]:
    """Return one network whose logits are the mean of those of several ring networks, and its architecture.

    Parameters
    ----------
    networks
        Of compact ring networks alone, each with one hidden layer and as many outputs as the others.
    without
        Channels that they shall not see any more.

    Raises
    ------
    BundleError
        When they are others.
    """
    if any(list(network.branches) != ["rings"] or len(network.later) != 2 for network in networks):
        raise BundleError("only networks of ring statistics with one hidden layer have a mean")
    members = [network.branches["rings"] for network in networks]
    widths = [list(member.widths) for member in members]  # type: ignore[arg-type]
    architecture: dict[str, Any] = {
        "rings": {"name": "several", "widths": widths, **({"without": list(without)} if without else {})},
        "hidden": [sum(network.hidden for network in networks)],
        "outputs": networks[0].outputs,
    }
    mean = build_network(architecture)
    mean.first.weight.zero_()
    output = mean.later[-1]
    assert isinstance(output, nn.Linear)
    output.bias.zero_()
    last = [network.later[-1] for network in networks]
    row = column = 0
    places = mean.branches["rings"].members
    for network, own, member, place in zip(networks, last, members, places, strict=True):  # type: ignore[arg-type]
        assert isinstance(own, nn.Linear)
        place.load_state_dict(member.state_dict())
        rows, columns = network.first.weight.shape
        mean.first.weight[row : row + rows, column : column + columns] = network.first.weight
        mean.first.bias[row : row + rows] = network.first.bias
        output.weight[:, row : row + rows] = own.weight / len(networks)
        output.bias.add_(own.bias / len(networks))
        row, column = row + rows, column + columns
    return mean.eval(), architecture
