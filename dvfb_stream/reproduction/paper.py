"""What the paper prints, for comparison: Guan, Qin, Yager, Choo and Yu, BMVC 2018."""

from __future__ import annotations

from collections.abc import Mapping

from dvfb_stream.labels import LABELS

TABLE_1: Mapping[str, float] = {
    "coefficients": 0.3921,
    "log_coefficients": 0.3513,
    "image": 0.6055,
    "coefficient": 0.7034,
    "joint": 0.7371,
}
"""Mean average precision of linear SVMs on five features: F-B coefficients, log F-B coefficients (10), and the first
fully connected layers of AlexNet, 2conv, and both."""


def _per_label(*values: float) -> dict[str, float]:
    """Name the values of a row as it is printed: the mean, then the labels in our order, which is the paper's."""
    return dict(zip(("mean", *LABELS), values, strict=True))


TABLE_2: Mapping[str, Mapping[str, float]] = {
    "image": _per_label(
        0.6424, 0.8945, 0.8012, 0.8839, 0.9580, 0.9568, 0.5778, 0.4873, 0.4238, 0.2199, 0.2208
    ),
    "coefficient": _per_label(
        0.7450, 0.8486, 0.7044, 0.8502, 0.9451, 0.9506, 0.7165, 0.5099, 0.6915, 0.5718, 0.6612
    ),
    "joint": _per_label(
        0.7779, 0.9087, 0.8178, 0.9014, 0.9604, 0.9626, 0.7494, 0.5385, 0.6821, 0.5964, 0.6621
    ),
}
"""Average precision per label: AlexNet, 2c-pool-2c, and both."""

POSITIVE_RATIOS: Mapping[str, float] = dict(
    zip(
        LABELS,
        (0.1366, 0.0840, 0.2226, 0.5776, 0.5978, 0.1440, 0.1192, 0.2422, 0.1176, 0.0838),
        strict=True,
    )
)
"""Shares of positive frames in the paper's dataset, Table 2."""

TABLE_4: Mapping[str, Mapping[str, float]] = {
    "lbphog": {"single": 0.5968, "mixed": 0.5581},
    "pcanet": {"single": 0.6660, "mixed": 0.5951},
    "alexnet": {"single": 0.8189, "mixed": 0.7768},
    "vgg16": {"single": 0.8312, "mixed": 0.7997},
    "resnet50": {"single": 0.8231, "mixed": 0.7084},
    "joint": {"single": 0.8513, "mixed": 0.7989},
}
"""Mean average precision of kernel SVMs on the paper's experimental data, which is not public."""
