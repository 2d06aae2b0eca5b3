"""Archived audit events: summaries, and the search over time, user, resource and verdict."""

import datetime as dt
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from daas.common.errors import DecodeError, InvalidInput
from daas.etcd import EtcdClient
from daas.evidence.layout import AuditSummary, Keys, Manifest, decode_manifest
from daas.evidence.values import ValueReader

Object = dict[str, Any]
#: Names in a summary; a batch with more is read whenever its time fits.
_NAMES_MAX: Final = 64
_PAGE: Final = 200
VERDICTS: Final = ("allow", "forbid", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """What is looked for; None matches everything.

    Attributes:
        since_ms, until_ms: time of the event, both inclusive.
        user: name of the user, in full.
        resource: `pods`, `secrets`, `pods/binding`, or one object: `pods/NAMESPACE/NAME`.
        verdict: `allow`, `forbid` or `error` (see `verdict_of`).
    """

    since_ms: int = 0
    until_ms: int = 2**62
    user: str | None = None
    resource: str | None = None
    verdict: str | None = None

    def __post_init__(self) -> None:
        """Refuses a verdict that no event has.

        Raises:
            InvalidInput: `audit-verdict`.
        """
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise InvalidInput(
                f"verdict {self.verdict!r}; expected one of {', '.join(VERDICTS)}",
                reason="audit-verdict",
                field="verdict",
            )

    def may_match(self, summary: AuditSummary) -> bool:
        """Whether a batch can hold an answer."""
        if summary.last_ms < self.since_ms or summary.first_ms > self.until_ms:
            return False
        if self.user is not None and summary.users is not None and self.user not in summary.users:
            return False
        if self.verdict is not None and self.verdict not in summary.verdicts:
            return False
        if self.resource is None or summary.resources is None:
            return True
        plain = self.resource.split("/", maxsplit=1)[0]
        return any(resource.split("/", maxsplit=1)[0] == plain for resource in summary.resources)

    def matches(self, event: Object) -> bool:
        """Whether an event is an answer."""
        return (
            self.since_ms <= time_ms_of(event) <= self.until_ms
            and self.user in (None, user_of(event))
            and self.verdict in (None, verdict_of(event))
            and (self.resource is None or self.resource in _names_of(event))
        )


def time_ms_of(event: Object) -> int:
    """When a stage of a request was over, in ms since 1970; 0 where the event does not say."""
    text = str(event.get("stageTimestamp") or event.get("requestReceivedTimestamp") or "")
    try:
        return int(dt.datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        return 0


def user_of(event: Object) -> str:
    """Who asked."""
    user = event.get("user")
    return str(user.get("username", "")) if isinstance(user, dict) else ""


def resource_of(event: Object) -> str:
    """What was asked for: `pods` or `pods/binding`; the path of a request that is for no resource."""
    reference = event.get("objectRef")
    if not isinstance(reference, dict) or not reference.get("resource"):
        return str(event.get("requestURI", "")).partition("?")[0]
    sub = reference.get("subresource")
    return f"{reference['resource']}/{sub}" if sub else str(reference["resource"])


def _names_of(event: Object) -> set[str]:
    reference = event.get("objectRef")
    names = {resource_of(event), resource_of(event).split("/", maxsplit=1)[0]}
    if isinstance(reference, dict) and reference.get("name"):
        names.add(f"{reference.get('resource')}/{reference.get('namespace', '')}/{reference['name']}")
    return names


def verdict_of(event: Object) -> str:
    """`forbid` where authorization said no, `error` for other failures, else `allow`."""
    annotations = event.get("annotations")
    said = annotations.get("authorization.k8s.io/decision") if isinstance(annotations, dict) else None
    status = event.get("responseStatus")
    code = status.get("code", 0) if isinstance(status, dict) else 0
    if said == "forbid" or code in (401, 403):
        return "forbid"
    return "error" if isinstance(code, int) and code >= 400 else "allow"


def summary_of(events: Iterable[Object]) -> AuditSummary:
    """The summary of a batch with at least one event."""
    listed = list(events)
    times = [time_ms_of(event) for event in listed] or [0]

    def named(names: set[str]) -> tuple[str, ...] | None:
        return tuple(sorted(names)) if len(names) <= _NAMES_MAX else None

    return AuditSummary(
        first_ms=min(times),
        last_ms=max(times),
        count=len(listed),
        users=named({user_of(event) for event in listed}),
        resources=named({resource_of(event)[:253] for event in listed}),
        verdicts=tuple(sorted({verdict_of(event) for event in listed})),
    )


class AuditArchive:
    """Searches what was archived.

    Args:
        etcd: the connection.
        keys: of the cluster.
        values: reads the batches.
    """

    def __init__(self, etcd: EtcdClient, keys: Keys, values: ValueReader) -> None:
        self._etcd = etcd
        self._keys = keys
        self._values = values

    async def batches(self, query: AuditQuery) -> AsyncIterator[Manifest]:
        """Manifests of the batches that can hold an answer, by the time of their last event."""
        prefix = self._keys.audits()
        start: str | None = self._keys.audit(query.since_ms, "")
        revision = 0
        while start is not None:
            page = await self._etcd.range(prefix, start=start, limit=_PAGE, revision=revision)
            for kv in page.items:
                manifest = decode_manifest(kv.value)
                if manifest.audit is not None and query.may_match(manifest.audit):
                    yield manifest
            start, revision = page.next_key, page.revision

    async def search(self, query: AuditQuery, *, limit: int) -> AsyncIterator[Object]:
        """At most `limit` events that match, batch by batch, in the order of each batch.

        Raises:
            DecodeError: what is stored is damaged. Unavailable: etcd or Walrus is away.
        """
        found = 0
        async for manifest in self.batches(query):
            for event in decode_events(await self._values.read(manifest)):
                if query.matches(event):
                    yield event
                    found += 1
                    if found == limit:
                        return


def encode_events(events: Iterable[Object]) -> bytes:
    """One event a line."""
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def decode_events(data: bytes) -> list[Object]:
    """The events of a batch.

    Raises:
        DecodeError: `stored-malformed`.
    """
    try:
        return [msgspec.json.decode(line, type=dict[str, Any]) for line in data.splitlines()]
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise DecodeError(f"a batch of audit events: {error}", reason="stored-malformed") from None
