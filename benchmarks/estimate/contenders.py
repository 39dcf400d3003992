"""Lines of a comparison, timed in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.progress import Progress

from benchmarks.estimate.timing import Work, ratio, summary, take_turns

PENALTY, L1_RATIO = 1e-4, 0.8
"""The paper's."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of the comparison."""

    name: str
    what: str
    frames: int
    run: Callable[[], object]
    facts: dict[str, Any]
    """What its answers are worth: tolerance set, excess over the minimum."""


def timed(
    contenders: list[Contender], description: str, rounds: int, shown: Progress
) -> list[dict[str, Any]]:
    """Return the contenders' lines; the ratio is to ours in the largest batch, first among them."""
    task = shown.add_task(f"{description}: timing", total=len(contenders) * (rounds + 1))
    durations = take_turns(
        [Work(contender.name, contender.frames, contender.run) for contender in contenders],
        rounds,
        advance=lambda: shown.advance(task),
    )
    ours = durations[contenders[0].name]
    return [
        {
            "name": contender.name,
            "what": contender.what,
            "frames": contender.frames,
            "seconds_per_frame": summary(durations[contender.name]),
            "times_ours": ratio(durations[contender.name], ours),
            **contender.facts,
        }
        for contender in contenders
    ]
