"""Analysis runs that were found, with what a person asks of them first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray

from dvfb_stream.catalog.mirror.runs import RunSummaries


@dataclass(frozen=True, slots=True)
class FoundRun:
    """One analysis run."""

    raw_uid: str
    """Uid of the raw run."""
    analysis_uid: str
    stream: str
    data_key: str
    model: str
    """Name and version, ``default@0.4.1``."""
    time: float
    """When the raw run was begun, seconds since 1970."""
    raw: Mapping[str, Any]
    """What was copied from the raw start document."""
    frames: int
    """All of the run."""
    found: int
    """For which the expression holds."""
    labels: Mapping[str, tuple[int, float]]
    """Of each label asked for, on how many frames the model accepted it, and its highest probability.

    NaN: not known.
    """


def found_runs(runs: pyarrow.Table, found: NDArray[np.int64], labels: Sequence[str]) -> list[FoundRun]:
    """Return runs of a mirror, each with the number of frames for which something holds."""
    summaries = RunSummaries(runs)
    counts = {label: np.nan_to_num(summaries.number(f"{label}.count")).astype(int) for label in labels}
    highest = {label: summaries.number(f"{label}.max") for label in labels}
    columns = ["parent", "uid", "stream", "data_key", "model", "model_version", "time", "raw"]
    return [
        FoundRun(
            raw_uid=row["parent"],
            analysis_uid=row["uid"],
            stream=row["stream"],
            data_key=row["data_key"],
            model=f"{row['model']}@{row['model_version']}",
            time=row["time"],
            raw=json.loads(row["raw"]),
            frames=int(summaries.frames[k]),
            found=int(found[k]),
            labels={label: (int(counts[label][k]), float(highest[label][k])) for label in labels},
        )
        for k, row in enumerate(runs.select(columns).to_pylist())
    ]
