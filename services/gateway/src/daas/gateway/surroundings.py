"""Namespaces, services and controllers: what placement reads besides nodes and pods, watched and told in its terms.

Namespace labels decide what a namespace selector selects; services and controllers decide which pods are spread by
default. Their events carry no version, so each object's newest state is kept here and told only when it changes.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from daas.common.errors import DaasError, DecodeError, Unavailable
from daas.kube import Backoff, Deleted, KubeClient, KubeNotFound, ListFinished, ListStarted, Reflector, Upserted
from daas.placement.log import (
    ControllerDeleted,
    ControllerUpserted,
    NamespaceDeleted,
    NamespaceUpserted,
    ServiceDeleted,
    ServiceUpserted,
)
from daas.placement.model import LabelSelector

Kind = Literal["Namespace", "Service", "ReplicaSet", "StatefulSet", "ReplicationController"]
#: Kind, namespace (empty for namespaces), name.
Place = tuple[Kind, str, str]


class _Meta(msgspec.Struct, frozen=True):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    resource_version: str = msgspec.field(default="", name="resourceVersion")


class _Spec(msgspec.Struct, frozen=True):
    #: A LabelSelector of ReplicaSets and StatefulSets, a map of labels of Services and ReplicationControllers.
    selector: msgspec.Raw = msgspec.Raw(b"null")
    replicas: int | None = None


class Seen(msgspec.Struct, frozen=True):
    """What is read of any of these objects."""

    metadata: _Meta
    spec: _Spec = _Spec()


_LABELS = msgspec.json.Decoder(dict[str, str] | None)
_SELECTOR = msgspec.json.Decoder(LabelSelector | None)


@dataclass(frozen=True, slots=True)
class Followed:
    """One resource: where it is listed, and what its objects are called."""

    kind: Kind
    path: str


SERVED_RETRY_S: Final = 0.5
FOLLOWED: Final = (
    Followed("Namespace", "/api/v1/namespaces"),
    Followed("Service", "/api/v1/services"),
    Followed("ReplicaSet", "/apis/apps/v1/replicasets"),
    Followed("StatefulSet", "/apis/apps/v1/statefulsets"),
    Followed("ReplicationController", "/api/v1/replicationcontrollers"),
)


def event_of(kind: Kind, seen: Seen) -> msgspec.Struct | None:
    """The event that tells of an object; None for one that placement has no use for.

    Raises:
        DecodeError: `selector`.
    """
    meta, raw = seen.metadata, seen.spec.selector
    if kind == "Namespace":
        return NamespaceUpserted(name=meta.name, labels=meta.labels)
    try:
        if kind == "Service":
            labels = _LABELS.decode(raw)
            return ServiceUpserted(namespace=meta.namespace, name=meta.name, selector=labels) if labels else None
        if kind == "ReplicationController":
            labels = _LABELS.decode(raw)
            selector = LabelSelector(match_labels=labels) if labels else None
        else:
            selector = _SELECTOR.decode(raw)
    except msgspec.MsgspecError as error:
        where = f"{kind} {meta.namespace}/{meta.name}"
        raise DecodeError(f"{where}: {error}", reason="selector", field="spec.selector") from None
    if seen.spec.replicas == 0:
        return None  # old ReplicaSets of a Deployment: they have no pods to spread
    return ControllerUpserted(kind=kind, namespace=meta.namespace, name=meta.name, selector=selector)


def deletion_of(place: Place) -> msgspec.Struct:
    """The event that tells that an object is gone."""
    kind, namespace, name = place
    if kind == "Namespace":
        return NamespaceDeleted(name=name)
    if kind == "Service":
        return ServiceDeleted(namespace=namespace, name=name)
    return ControllerDeleted(kind=kind, namespace=namespace, name=name)


class Surroundings:
    """Follows every resource that the API server serves.

    Args:
        client: the API server.
        changed: told of each event, with its place.
        listed: told whenever a resource has been listed in full.
        on_refused: told about objects that can't be read: they are not told of.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        changed: Callable[[Place, msgspec.Struct], Any],
        listed: Callable[[Kind], None],
        on_refused: Callable[[DecodeError], None],
        watch_timeout_s: int,
        backoff: Callable[[], Backoff],
    ) -> None:
        self._client = client
        self._changed = changed
        self._listed = listed
        self._on_refused = on_refused
        self._known: dict[Place, msgspec.Struct] = {}
        self._reflectors = {
            one.kind: Reflector(
                client,
                one.path,
                Seen,
                watch_timeout_s=watch_timeout_s,
                backoff=backoff(),
                on_refused=on_refused,
            )
            for one in FOLLOWED
        }

    def events(self) -> Iterator[tuple[Place, msgspec.Struct]]:
        """Everything known, for a full list."""
        yield from self._known.items()

    def check(self) -> None:
        """Raises Unavailable where a resource is out of step."""
        for kind, reflector in self._reflectors.items():
            if reflector.problem is not None and not isinstance(reflector.problem, KubeNotFound):
                raise Unavailable(f"{kind}: {reflector.problem.message}", reason=reflector.problem.reason)

    async def follow(self, one: Followed) -> None:
        """Follows one resource for ever. What an API server does not serve counts as listed, and as empty."""
        if not await self._served(one):
            self._listed(one.kind)
            await asyncio.Event().wait()  # an API server that learns it later is another one: we restart with it
        named: set[Place] | None = None
        async with aclosing(self._reflectors[one.kind].changes()) as changes:
            async for change in changes:
                match change:
                    case ListStarted():
                        named = set()
                    case Upserted(seen):
                        place = self._place(one.kind, seen)
                        if named is not None:
                            named.add(place)
                        await self._upsert(place, seen)
                    case Deleted(seen):
                        await self._drop(self._place(one.kind, seen))
                    case ListFinished():
                        gone = [p for p in self._known if p[0] == one.kind and p not in (named or set())]
                        for place in gone:
                            await self._drop(place)
                        named = None
                        self._listed(one.kind)

    @staticmethod
    def _place(kind: Kind, seen: Seen) -> Place:
        return kind, seen.metadata.namespace, seen.metadata.name

    async def _upsert(self, place: Place, seen: Seen) -> None:
        try:
            event = event_of(place[0], seen)
        except DecodeError as error:
            self._on_refused(error)
            event = None
        if event is None:
            await self._drop(place)
        elif self._known.get(place) != event:
            self._known[place] = event
            await self._changed(place, event)

    async def _drop(self, place: Place) -> None:
        if self._known.pop(place, None) is not None:
            await self._changed(place, deletion_of(place))

    async def _served(self, one: Followed) -> bool:
        """Whether the API server has this resource at all; asked until it says so."""
        while True:
            try:
                await self._client.request("GET", one.path, query={"limit": 1})
            except KubeNotFound:
                return False
            except DaasError:
                await asyncio.sleep(SERVED_RETRY_S)  # the reflectors of nodes and pods tell what is wrong
            else:
                return True
