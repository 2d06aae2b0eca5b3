"""Audit events on their way to the archive: what looks like a key is cut out first, and how often that was."""

from collections.abc import Callable
from typing import Any, Final

from daas.common.errors import InvalidInput
from daas.common.merkle import digest
from daas.common.messages import AuditRecorded
from daas.common.secretscan import scan
from daas.evidence import Keys
from daas.evidence.audit import Object, encode_events, summary_of
from daas.evidence.packing import Value, packed

#: Of an event in which something was found, what says who did what to what, and nothing that was said.
_KEPT: Final = ("kind", "apiVersion", "auditID", "stage", "verb", "stageTimestamp", "requestReceivedTimestamp")
_REFERENCE: Final = ("resource", "subresource", "namespace", "name", "apiGroup", "apiVersion")
_SCALARS: Final = (str, int, bool)


def audit_value(fact: AuditRecorded, keys: Keys, on_finding: Callable[[str], None]) -> Value | None:
    """The value of a batch; None where it has no events.

    Args:
        fact: the batch.
        keys: of the cluster.
        on_finding: told the rule of each finding.

    Raises:
        InvalidInput: `audit-events`: something in it is no event.
    """
    if not all(isinstance(event, dict) for event in fact.events):
        raise InvalidInput("expected audit events", reason="audit-events", field="events")
    if not fact.events:
        return None
    events = [public_event(event, on_finding) for event in fact.events]
    data = encode_events(events)
    summary = summary_of(events)
    name = digest(data).hex()
    return packed(keys.audit(summary.last_ms, name), f"audit-{summary.last_ms:020d}-{name[:16]}", data, audit=summary)


def public_event(event: Object, on_finding: Callable[[str], None]) -> Object:
    """The event, or where something was found in it only who did what to what."""
    finding = scan(event)
    if finding is None:
        return event
    on_finding(finding.rule)
    kept: dict[str, Any] = {name: event[name] for name in _KEPT if isinstance(event.get(name), _SCALARS)}
    user, reference, status = (event.get(name) for name in ("user", "objectRef", "responseStatus"))
    if isinstance(user, dict):
        kept["user"] = {"username": str(user.get("username", ""))}
    if isinstance(reference, dict):
        kept["objectRef"] = {name: str(reference[name]) for name in _REFERENCE if name in reference}
    if isinstance(status, dict) and isinstance(status.get("code"), int):
        kept["responseStatus"] = {"code": status["code"]}
    left = scan(kept)
    if left is not None:  # in a name itself
        kept = {"auditID": str(event.get("auditID", ""))[:64], "verb": str(event.get("verb", ""))[:32]}
    return kept | {"level": "Metadata", "withheld": {"rule": finding.rule, "at": finding.where[:256]}}
