"""Where a partition is taken up when it was assigned: where its journal says, or else where it is committed."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvfb_stream.annotations import ModelIdentity
from dvfb_stream.callbacks import Sink
from dvfb_stream.callbacks.storing_sinks import DurableSink
from dvfb_stream.daemon.settings import KafkaSettings
from dvfb_stream.kafka.consumer import KafkaError, TopicPartition, listed, milliseconds
from dvfb_stream.kafka.journal import JournalFolder, PartitionJournal
from dvfb_stream.kafka.journal_state import JournalState, NotedDocument
from dvfb_stream.kafka.partition_offsets import PartitionOffsets

logger = logging.getLogger(__name__)

_ASK_SECONDS = 10.0
"""How long the cluster is asked for what it knows of a partition; later, the partition goes without a journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """How a partition is taken up."""

    journal: PartitionJournal | None = None
    """What is written from now on; None: none, as the sinks keep nothing, or the cluster does not answer."""
    documents: Sequence[NotedDocument] = ()
    """Of open runs, that came before `position`."""
    runs: Collection[str] = ()
    """Those runs; of others there are resources alone."""
    position: int | None = None
    """Where to read on; None: where the group is committed."""


class Journals:
    """The journals of a daemon.

    A partition is taken up where its journal says, unless

    - the sinks are not all durable ones with one folder: what they do not have must be read again;
    - the journal is of another model, other detectors, or a topic that was made anew;
    - the group is committed further: another daemon, which does not see this folder, has stored what is before;
    - the group is committed less far than the journal knows it was: somebody wants records to be read again.

    Parameters
    ----------
    settings
        The cluster and the group.
    model, arrays, detectors
        Of the daemon. None of the last: whatever looks like an image is one.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        model: ModelIdentity,
        arrays: Sequence[str],
        detectors: Collection[str] | None,
    ) -> None:
        cluster = "\n".join(sorted(settings.bootstrap_servers))
        digest = hashlib.sha256(f"{cluster}\n{settings.group}\n{model}".encode()).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", settings.group).strip("-.")
        self._name = f"{readable[:60]}-{digest}"
        self._header = {
            "model": f"{model.name}@{model.sha256}",
            "arrays": sorted(arrays),
            "detectors": None if detectors is None else sorted(detectors),
        }

    def take_up(
        self,
        consumer: Any,
        partition: TopicPartition,
        *,
        sinks: Sequence[Sink],
        offsets: PartitionOffsets,
    ) -> Resumption:
        """Return how a partition that is ours is taken up. Never raises."""
        durable = [sink for sink in sinks if isinstance(sink, DurableSink)]
        folders = {sink.folder for sink in durable}
        (folder,) = folders if len(folders) == 1 else (None,)
        if folder is None or len(durable) < len(sinks):
            return Resumption()
        try:
            return self._taken_up(consumer, partition, durable, folder, offsets)
        except (KafkaError, OSError, ValueError) as error:
            logger.warning(
                "%s goes without a journal, and its open runs are read again from their start: %s",
                listed([partition]),
                error,
            )
            return Resumption()

    def _taken_up(
        self,
        consumer: Any,
        partition: TopicPartition,
        sinks: Sequence[DurableSink],
        folder: Path,
        offsets: PartitionOffsets,
    ) -> Resumption:
        journals = JournalFolder(folder / "journal" / self._name)
        timeout = milliseconds(_ASK_SECONDS)
        committed = consumer.committed(partition, timeout_ms=timeout)
        begins = consumer.beginning_offsets([partition], timeout_ms=timeout)[partition]
        header = self._header | {"topic": _id_of_topic(consumer, partition.topic)}
        number, found = journals.newest(partition.topic, partition.partition)
        position, why = _position(found, header, committed)
        if why:
            logger.info("the journal of %s is not followed: %s", listed([partition]), why)
        if position is None:
            # What a detector that is staged for several runs has said stays good, if it is of the same topic.
            is_same = found.header.get("topic") == header["topic"]
            state = found.before(1 << 62, keep_runs_from=1 << 62) if is_same else JournalState()
        else:
            position = max(position, begins)
            state = found.before(position, keep_runs_from=committed or 0)
        state.header, state.committed, state.at = header, committed, position
        offsets.begin(committed)

        def sync() -> None:
            for sink in sinks:
                sink.sync()

        journal = journals.begin(
            partition.topic,
            partition.partition,
            number,
            state,
            sync=sync,
            is_ours=lambda: not offsets.ended,
        )
        runs = state.runs()
        if position is not None and runs:
            logger.info(
                "taking up %s at offset %d: %d open runs begin before",
                listed([partition]),
                position,
                len(runs),
            )
        return Resumption(journal=journal, documents=state.documents, runs=runs, position=position)


def _position(state: JournalState, header: dict[str, Any], committed: int | None) -> tuple[int | None, str]:
    """Return where a journal says to read on; None where it is not followed, and why."""
    position = state.position
    if position is None:
        return None, ""
    for name, value in header.items():
        if state.header.get(name) != value:
            return None, f"it is of another {name.rstrip('s')}"
    if committed is not None and committed > position:
        return None, f"the group is committed at {committed}, further than the journal's {position}"
    if state.committed is not None and committed is not None and committed < state.committed:
        return None, f"the group was committed at {state.committed}, and is at {committed} now"
    return position, ""


def _id_of_topic(consumer: Any, topic: str) -> str | None:
    """Return what tells a topic from one of the same name that was made anew; None where the cluster is too old."""
    cluster = getattr(consumer, "_cluster", None)  # kafka-python has no other way
    found = None if cluster is None else cluster.topic_id(topic)
    return None if found is None else str(found)
