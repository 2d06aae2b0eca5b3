"""The audit sink: the API server's events become facts. Of Secrets nothing but that somebody asked leaves here, and of
other objects no body in which something looks like a key: facts lie in the clear in the files of the bus.
"""

from collections.abc import Awaitable, Callable, Iterator
from hashlib import blake2b
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import DaasError, InvalidInput
from daas.common.messages import AuditRecorded
from daas.common.secretscan import scan

Object = dict[str, Any]

API_VERSION: Final = "audit.k8s.io/v1"
#: One fact of the bus stays well below its 4 MiB.
FACT_BYTES_MAX: Final = 1_000_000
EVENT_BYTES_MAX: Final = 262_144
FACT_EVENTS_MAX: Final = 512
#: Of these resources only metadata is kept, whatever the API server's audit policy says.
METADATA_ONLY: Final = frozenset({"secrets", "serviceaccounts/token", "tokenreviews", "configmaps"})
_BODIES: Final = ("requestObject", "responseObject")


#: `publish(fact, message_id)`.
Publish = Callable[[AuditRecorded, str], Awaitable[None]]


def public(event: Object) -> tuple[Object, bool]:
    """The event as it may be published, and whether something was cut away.

    Requests that name Secrets only in their path (a failed get, an exec) carry no body anyway; `last-applied`
    annotations repeat whole objects, so bodies go as a whole and not field by field. What is found in a body is what
    storage would find (`daas.common.secretscan`); what stands elsewhere in the event is for storage to judge.
    """
    reference = event.get("objectRef") or {}
    resource, sub = str(reference.get("resource", "")), reference.get("subresource")
    named = f"{resource}/{sub}" if sub else resource
    bodies = [one for one in (event.get(name) for name in _BODIES) if isinstance(one, dict)]
    kinds = {str(one.get("kind", "")) for one in bodies}
    secret = resource == "secrets" or named in METADATA_ONLY or not kinds.isdisjoint({"Secret", "SecretList"})
    oversized = bool(bodies) and len(msgspec.json.encode(event)) > EVENT_BYTES_MAX
    if not bodies or not (secret or oversized or any(scan(one) is not None for one in bodies)):
        return event, False
    return {**{name: value for name, value in event.items() if name not in _BODIES}, "level": "Metadata"}, True


def batches(events: list[Object]) -> Iterator[list[Object]]:
    """Events in groups that fit into one fact each."""
    group: list[Object] = []
    size = 0
    for event in events:
        length = len(msgspec.json.encode(event))
        if group and (size + length > FACT_BYTES_MAX or len(group) == FACT_EVENTS_MAX):
            yield group
            group, size = [], 0
        group.append(event)
        size += length
    if group:
        yield group


class AuditSink:
    """Takes EventLists.

    An answer of 200 means that everything is stored; otherwise the API server sends the list again, and events that
    were stored already have the same message ids.
    """

    def __init__(self, publish: Publish, registry: CollectorRegistry) -> None:
        self._publish = publish
        self._events = Counter("daas_gateway_audit_events", "Audit events by outcome", ["outcome"], registry=registry)
        self._stripped = Counter(
            "daas_gateway_audit_stripped", "Audit events that said more than they may", registry=registry
        )

    async def take(self, body: Object) -> Object:
        """Stores a list.

        Raises:
            InvalidInput: it is no EventList.
            Unavailable: the bus is away; counted as lost, since the API server gives up after its own retries.
        """
        if (body.get("kind"), body.get("apiVersion")) != ("EventList", API_VERSION):
            raise InvalidInput(f"expected an EventList of {API_VERSION}", reason="audit-kind", field="kind")
        items = body.get("items") or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise InvalidInput("expected events", reason="audit-items", field="items")
        for group in batches(items):
            judged = [public(event) for event in group]
            stripped = sum(cut for _, cut in judged)
            fact = AuditRecorded(events=tuple(event for event, _ in judged), stripped=stripped)
            identity = "\0".join(f"{event.get('auditID')}/{event.get('stage')}" for event in group)
            digest = blake2b(identity.encode(), digest_size=16).hexdigest()
            try:
                await self._publish(fact, f"audit/{digest}")
            except DaasError:
                self._events.labels("failed").inc(len(group))
                raise
            self._events.labels("stored").inc(len(group))
            self._stripped.inc(stripped)
        return {}
