"""Takes out of documents what says who somebody is: recordings travel, in reports of faults."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

PERSONAL_FIELDS = (
    "operator", "operators", "user", "users", "username", "user_name", "login", "login_id", "owner", "email",
    "experimenter", "experimenters", "pi", "pi_name", "principal_investigator", "proposer", "proposal",
    "proposal_id", "proposal_title", "saf", "saf_id", "institution", "affiliation", "tiled_access_tags",
)  # fmt: skip
"""Names of fields that are taken out, in capitals or not, wherever they are in a start, descriptor or stop: what
NSLS-II, APS and ESRF write of people. Paths of files stay, since frames lie there, and so do names of samples."""

_WITH_METADATA = frozenset({"start", "descriptor", "stop"})
_DEEPEST = 32


def without_personal_fields(
    name: str, doc: dict[str, Any], fields: Collection[str] = PERSONAL_FIELDS
) -> dict[str, Any]:
    """Return a document without those fields, at any depth; what holds frames comes back as it is."""
    if name not in _WITH_METADATA:
        return doc
    unwanted = {field.lower() for field in fields}
    found = _without(doc, unwanted, 0)
    assert isinstance(found, dict)
    return found


def _without(value: Any, unwanted: Collection[str], depth: int) -> Any:
    if depth > _DEEPEST:
        return None
    if isinstance(value, Mapping):
        return {
            key: _without(part, unwanted, depth + 1)
            for key, part in value.items()
            if str(key).lower() not in unwanted
        }
    if isinstance(value, list | tuple):
        return [_without(part, unwanted, depth + 1) for part in value]
    return value
