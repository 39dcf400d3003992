"""Makes of a run that was another one that is taken now: new uids, the times moved to now, all else as it was."""

from __future__ import annotations

import uuid
from typing import Any

_UIDS = frozenset({"uid", "run_start", "descriptor", "resource", "stream_resource", "datum_id"})
"""Fields that hold a uid, or a list of them, whatever document they are in."""
_TIMES = frozenset({"time"})
REPLAY_OF = "replay_of"
"""Field of the start document: the uid of the run that was published again."""


class NewRun:
    """Gives documents new uids, the same for the same, and moves their times.

    Parameters
    ----------
    seed
        Of the uids; another one gives another run.
    now
        When the new run begins, seconds since 1970.
    """

    def __init__(self, seed: uuid.UUID, now: float) -> None:
        self._seed = seed
        self._now = now
        self._shift = 0.0
        self._external: dict[str, set[str]] = {}
        """Data keys whose values in events are datum ids, by new descriptor."""

    def renew(self, name: str, doc: dict[str, Any]) -> dict[str, Any]:
        """Return a document of the new run."""
        if name == "start":
            begun = doc.get("time")
            self._shift = self._now - begun if isinstance(begun, int | float) else 0.0
        made = {key: self._renewed(key, value) for key, value in doc.items()}
        if name == "start":
            made[REPLAY_OF] = doc.get("uid")
        if name == "descriptor":
            keys = doc.get("data_keys", {})
            self._external[made["uid"]] = {
                key for key, spec in keys.items() if spec.get("external") not in (None, "STREAM:")
            }
        if name in ("event", "event_page"):
            self._renew_event(made)
        return made

    def _renewed(self, key: str, value: Any) -> Any:
        if key in _UIDS:
            return [self._uid(each) for each in value] if isinstance(value, list) else self._uid(value)
        if key in _TIMES:
            return self._moved(value)
        if key == "timestamps" and isinstance(value, dict):
            return {name: self._moved(each) for name, each in value.items()}
        return value

    def _renew_event(self, made: dict[str, Any]) -> None:
        external = self._external.get(str(made.get("descriptor")), set())
        for field in ("data", "filled"):
            values = made.get(field)
            if isinstance(values, dict) and external:
                made[field] = {
                    key: self._datum_id(value) if key in external else value for key, value in values.items()
                }

    def _datum_id(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._datum_id(each) for each in value]
        return self._uid(value) if isinstance(value, str) else value

    def _uid(self, old: Any) -> Any:
        return str(uuid.uuid5(self._seed, old)) if isinstance(old, str) else old

    def _moved(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._moved(each) for each in value]
        return value + self._shift if isinstance(value, int | float) else value
