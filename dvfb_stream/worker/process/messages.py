"""What an annotator's process and the process that has started it say to one another: JSON, never pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from typing import Any

from dvfb_stream.annotations import Annotation, ModelIdentity
from dvfb_stream.frames import Origin


class Kind(StrEnum):
    """What a message is."""

    SETUP = "setup"
    """To the process: what makes the annotator. Answered by `READY` or `REFUSED`."""
    READY = "ready"
    """The annotator is there: its identity, its provenance."""
    REFUSED = "refused"
    """It could not be made: kind and text of the error. The process ends."""
    BATCH = "batch"
    """To the process: where the frames of a batch lie. Answered by `TAKEN`, then by `ANNOTATED` or `FAILED`."""
    TAKEN = "taken"
    """A batch has come: from now on it may have to do with the batch if the process ends."""
    ANNOTATED = "annotated"
    """Annotations, and how long the stages took."""
    FAILED = "failed"
    """The annotator raised: what it means, and what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message."""

    kind: Kind
    content: Mapping[str, Any]


def send(connection: Connection, kind: Kind, **content: Any) -> None:
    """Send a message whole; OSError when nobody is there to read it."""
    connection.send_bytes(json.dumps({"kind": kind.value, "content": content}).encode())


def receive(connection: Connection) -> Message:
    """Wait for a message; EOFError or OSError when none can come any more."""
    message = json.loads(connection.recv_bytes())
    return Message(kind=Kind(message["kind"]), content=message["content"])


def described(annotation: Annotation) -> dict[str, Any]:
    """Return an annotation as JSON, without what the process that asked for it knows: model and origin."""
    return {
        "status": annotation.status,
        "reason": annotation.reason,
        "scores": {label: float(score) for label, score in annotation.scores.items()},
        "labels": list(annotation.labels),
        "fit_residual": float(annotation.fit_residual),
        "novelty": float(annotation.novelty),
    }


def annotation_from(told: Mapping[str, Any], *, model: ModelIdentity, origin: Origin | None) -> Annotation:
    """Return the annotation that `described` has described."""
    return Annotation(
        status=told["status"],
        model=model,
        origin=origin,
        reason=told["reason"],
        scores=dict(told["scores"]),
        labels=tuple(told["labels"]),
        fit_residual=told["fit_residual"],
        novelty=told["novelty"],
    )


def described_identity(identity: ModelIdentity) -> dict[str, str]:
    """Return an identity as JSON."""
    return {"name": identity.name, "version": identity.version, "sha256": identity.sha256}
