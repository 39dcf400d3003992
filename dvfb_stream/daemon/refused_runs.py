"""What becomes of a raw run of which a store will not take an analysis run as it is, now or ever: a dead letter."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import partial

from dvfb_stream.callbacks.run_progress import Refusal, RunProgress
from dvfb_stream.catalog.spool.encoding import json_ready
from dvfb_stream.dead_letters.letter import Content, DeadLetter, Kind

logger = logging.getLogger(__name__)

Post = Callable[[DeadLetter, Callable[[], None]], object]
"""Takes a letter, and what is to be called once it is safe or given up; does not block."""


def bury_refused(
    run: RunProgress,
    post: Post,
    then: Callable[[], object],
    *,
    topic: str = "",
    partition: int = -1,
    offset: int = -1,
) -> None:
    """Make a dead letter of each analysis run that was refused, and call `then` once the last is safe or given up.

    A letter has start and descriptor of the analysis run. Its rows, and its stop, are where the store keeps what it
    refused: in the spool, from which `dvfb spool retry` delivers them once the cause is mended.

    Parameters
    ----------
    run
        The raw run.
    post
        Where letters go.
    topic, partition, offset
        Where the first document of the raw run came from.
    """
    left = set(range(len(run.refusals)))

    def sent(number: int) -> None:
        left.discard(number)
        if not left:
            then()

    for number, refusal in enumerate(run.refusals):
        logger.error("the %s is refused for good: %s", refusal.analysis, refusal.reason)
        letter = _letter(run.raw_uid, refusal, topic, partition, offset)
        post(letter, partial(sent, number))


def _letter(raw_uid: str, refusal: Refusal, topic: str, partition: int, offset: int) -> DeadLetter:
    analysis = refusal.analysis
    documents = [["start", analysis.start()], ["descriptor", analysis.descriptor()]]
    return DeadLetter(
        kind=Kind.REFUSED,
        reason=refusal.reason,
        time=time.time(),
        content=Content.DOCUMENTS,
        value=json.dumps(json_ready(documents)).encode(),
        topic=topic,
        partition=partition,
        offset=offset,
        run=raw_uid,
        about=f"analysis run {analysis.uid}",
    )
