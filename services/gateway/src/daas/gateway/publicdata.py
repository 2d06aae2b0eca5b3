"""Namespaces, Services, ConfigMaps and Nodes as facts: their public part, whenever it changes, and when they are gone.

What may not become public never reaches the bus: ConfigMaps labelled sensitive and anything that looks like a key are
told of by name and reason alone. The fact's id is the object's version, so telling it again is the same fact.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import DaasError, DecodeError, Unavailable
from daas.common.logs import get_logger
from daas.common.messages import MetadataChanged
from daas.common.secretscan import scan
from daas.kube import Backoff, Deleted, KubeClient, KubeNotFound, ListFinished, ListStarted, Reflector, Upserted

log = get_logger("publicdata")

SENSITIVE_LABEL: Final = "k3s-daas.io/sensitive"
#: It repeats the whole object, in the form that somebody wrote.
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_METADATA: Final = ("name", "namespace", "labels", "annotations", "creationTimestamp", "deletionTimestamp")
_NODE_STATUS: Final = ("capacity", "allocatable", "nodeInfo")
_RETRY_S: Final = (0.5, 10.0)
#: A fact above this is not told: a ConfigMap has at most 1 MiB.
OBJECT_BYTES_MAX: Final = 2 * 1024 * 1024
#: Names of one full list: at most some 2.5 MB.
NAMES_MAX: Final = 20_000
Object = dict[str, Any]
Place = tuple[str, str, str]
#: `publish(fact, message_id)`.
Publish = Callable[[MetadataChanged, str], Awaitable[None]]


class _Meta(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str = msgspec.field(default="", name="creationTimestamp")
    deletion_timestamp: str = msgspec.field(default="", name="deletionTimestamp")
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class Published(msgspec.Struct, frozen=True):
    """What is read of any of these objects."""

    metadata: _Meta
    spec: Object = {}
    status: Object = {}
    data: dict[str, str] | None = None
    immutable: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource, where it is listed, and which part of it is public."""

    name: str
    path: str
    public: Callable[[Published], Object]


def _node(node: Published) -> Object:
    """No addresses, and no conditions: they beat several times a minute."""
    return {
        "spec": {key: node.spec[key] for key in ("taints", "unschedulable") if key in node.spec},
        "status": {key: node.status[key] for key in _NODE_STATUS if key in node.status},
    }


KINDS: Final = (
    Kind("Namespace", "/api/v1/namespaces", lambda seen: {"status": {"phase": seen.status.get("phase", "")}}),
    Kind("Service", "/api/v1/services", lambda seen: {"spec": seen.spec}),
    Kind("ConfigMap", "/api/v1/configmaps", lambda seen: {"data": seen.data or {}, "immutable": seen.immutable}),
    Kind("Node", "/api/v1/nodes", _node),
)


def fact_of(kind: Kind, seen: Published) -> MetadataChanged:
    """The fact that tells of an object, or that it is withheld.

    Raises:
        DecodeError: `resource-version`: it is no number.
    """
    meta = seen.metadata
    told = msgspec.to_builtins(meta)
    told["annotations"] = {name: text for name, text in (meta.annotations or {}).items() if name != _LAST_APPLIED}
    metadata = {key: told[key] for key in _METADATA if told.get(key)}
    public: Object = {"apiVersion": "v1", "kind": kind.name, "metadata": metadata} | kind.public(seen)
    withheld, where = _withheld(kind, meta, public)
    return MetadataChanged(
        kind=kind.name,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=version_of(meta.resource_version),
        object=None if withheld else public,
        withheld=withheld,
        withheld_at=where,
    )


def _withheld(kind: Kind, meta: _Meta, public: Object) -> tuple[str | None, str | None]:
    if SENSITIVE_LABEL in (meta.labels or {}):
        return "sensitive-label", f"metadata.labels[{SENSITIVE_LABEL}]"
    if len(msgspec.json.encode(public)) > OBJECT_BYTES_MAX:
        return "oversize", None
    finding = scan(public, kind.name)
    return (f"secret-{finding.rule}", finding.where[:4096]) if finding is not None else (None, None)


def version_of(text: str) -> int:
    """A resource version as a number.

    Raises:
        DecodeError: `resource-version`.
    """
    if not text.isdecimal() or len(text) > 18:
        raise DecodeError(f"resource version {text[:32]!r} is no number", reason="resource-version")
    return int(text)


class PublicData:
    """Follows the resources and tells of them.

    Args:
        client: the API server.
        publish: puts a fact on the bus; tried again until it is there.
        registry: for the counters.
        watch_timeout_s: see the reflector.
    """

    def __init__(
        self,
        client: KubeClient,
        publish: Publish,
        registry: CollectorRegistry,
        *,
        watch_timeout_s: int,
    ) -> None:
        self._publish = publish
        self._facts = Counter("daas_gateway_metadata", "Facts about public objects", ["outcome"], registry=registry)
        self._refused = Counter("daas_gateway_metadata_unreadable", "Objects that could not be read", registry=registry)
        #: Place to the version and the digest of what was told of it.
        self._told: dict[Place, tuple[str, bytes]] = {}
        self._reflectors = {
            kind.name: Reflector(
                client,
                kind.path,
                Published,
                watch_timeout_s=watch_timeout_s,
                backoff=Backoff(),
                on_refused=self._unreadable,
            )
            for kind in KINDS
        }

    async def run(self) -> None:
        """Follows all of them for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in KINDS:
                group.create_task(self._follow(kind))

    def check(self) -> None:
        """Raises Unavailable where a resource is out of step."""
        for kind, reflector in self._reflectors.items():
            if reflector.problem is not None and not isinstance(reflector.problem, KubeNotFound):
                raise Unavailable(f"{kind}: {reflector.problem.message}", reason=reflector.problem.reason)

    def _unreadable(self, error: DecodeError) -> None:
        self._refused.inc()
        log.warning("object refused", error=error)

    async def _follow(self, kind: Kind) -> None:
        named: set[Place] | None = None
        async with aclosing(self._reflectors[kind.name].changes()) as changes:
            async for change in changes:
                match change:
                    case ListStarted():
                        named = set()
                    case Upserted(seen):
                        place = (kind.name, seen.metadata.namespace, seen.metadata.name)
                        if named is not None:
                            named.add(place)
                        await self._upsert(kind, place, seen)
                    case Deleted(seen):
                        place = (kind.name, seen.metadata.namespace, seen.metadata.name)
                        await self._gone(place, seen.metadata.resource_version)
                    case ListFinished(version):
                        await self._listed(kind, named or set(), version)
                        named = None

    async def _listed(self, kind: Kind, named: set[Place], version: str) -> None:
        """What a full list named, so that what vanished while nobody watched is found missing."""
        for place in [place for place in self._told if place[0] == kind.name and place not in named]:
            await self._gone(place, version)
        if len(named) > NAMES_MAX:
            log.warning("too many objects to name them all", kind=kind.name, count=len(named))
            return
        names = tuple(sorted(f"{namespace}/{name}" for _, namespace, name in named))
        fact = MetadataChanged(
            kind=kind.name, namespace="", name="*", uid="", resource_version=version_of(version), listed=names
        )
        await self._tell(fact)

    async def _upsert(self, kind: Kind, place: Place, seen: Published) -> None:
        try:
            fact = fact_of(kind, seen)
        except DecodeError as error:
            self._unreadable(error)
            return
        told = blake2b(msgspec.json.encode((fact.object, fact.withheld, fact.uid)), digest_size=16).digest()
        if self._told.get(place, ("", b""))[1] == told:
            return  # another version of what is not public, such as a heartbeat
        await self._tell(fact)
        self._told[place] = (fact.uid, told)
        self._facts.labels("withheld" if fact.withheld else "told").inc()

    async def _gone(self, place: Place, version: str) -> None:
        known = self._told.pop(place, None)
        if known is None:
            return
        kind, namespace, name = place
        try:
            number = version_of(version)
        except DecodeError as error:
            self._unreadable(error)
            return
        await self._tell(
            MetadataChanged(
                kind=kind, namespace=namespace, name=name, uid=known[0], resource_version=number, deleted=True
            )
        )
        self._facts.labels("gone").inc()

    async def _tell(self, fact: MetadataChanged) -> None:
        wait_s, longest_s = _RETRY_S
        gone = "/gone" if fact.deleted else ""
        message_id = f"metadata/{fact.kind}/{fact.namespace}/{fact.name}/{fact.uid}/{fact.resource_version}{gone}"
        while True:
            try:
                await self._publish(fact, message_id)
            except DaasError as error:
                log.warning("metadata not told yet", kind=fact.kind, error=error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, longest_s)
            else:
                return
