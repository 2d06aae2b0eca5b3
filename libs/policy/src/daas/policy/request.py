"""What is asked: a principal, a verb, a class of resources or a path, and a moment of the log's time."""

import re
from typing import Any

import msgspec

from daas.common import bcs, merkle
from daas.policy.errors import RequestError
from daas.policy.schema import NAMESPACE, PATH_VERBS, VERBS
from daas.policy.tiers import MAX_STAKE_SUI, Tier, reached

#: Names in Kubernetes stay below it.
MAX_NAME = 253
MAX_PATH = 1024
_MINUTE_MS = 60_000
_MINUTES_PER_DAY = 1440
#: 1 January 1970 was a Thursday.
_FIRST_WEEKDAY = 3

_ADDRESS = re.compile(r"0x[0-9a-f]{64}")


class Address(msgspec.Struct, frozen=True, kw_only=True, tag="address"):
    """A Sui address: a user or staker.

    Attributes:
        address: 0x and 64 hexadecimal digits, small letters.
        stake_sui: whole SUI, rounded down.
        node: name of the node that this address runs, if it runs one.
    """

    address: str
    stake_sui: int = 0
    node: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True, tag="node"):
    """A node of the cluster.

    Attributes:
        name: as Kubernetes has it.
        stake_sui: whole SUI behind it, rounded down.
        operator: the Sui address that answers for it.
    """

    name: str
    stake_sui: int = 0
    operator: str | None = None


class ResourceClass(msgspec.Struct, frozen=True, kw_only=True, tag="resource"):
    """Resources that policies can't tell apart.

    Attributes:
        group: API group, empty for the core group.
        resource: plural name. subresource: `log`, `status` and so on, or empty.
        namespace: empty for cluster-wide resources and for all namespaces at once. A policy that forbids by namespace
            has to forbid this too: who may list everywhere may list there.
        seal_policy: the Seal policy that its Secrets are sealed under, if that is known.
    """

    group: str = ""
    resource: str
    subresource: str = ""
    namespace: str = ""
    seal_policy: str | None = None


class UrlPath(msgspec.Struct, frozen=True, kw_only=True, tag="path"):
    """A URL outside the resource API, such as /metrics."""

    path: str


class AccessRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question.

    Attributes:
        principal: who asks, with the stake that the log says they have.
        verb: of the Kubernetes API.
        target: what about.
        timestamp_ms: the time of the log entry that the stake was read at.
    """

    principal: Address | Node
    verb: str
    target: ResourceClass | UrlPath
    timestamp_ms: int = 0

    def check(self) -> None:
        """Refuses what no policy could judge.

        Raises:
            RequestError: `unknown-verb`, `request-address`, `request-name`, `request-stake` or `request-time`.
        """
        verbs = VERBS if isinstance(self.target, ResourceClass) else PATH_VERBS
        if self.verb not in verbs:
            raise RequestError(f"{self.verb[:64]!r} is no verb for this target", reason="unknown-verb", field="verb")
        if not 0 <= self.timestamp_ms < 2**63:
            raise RequestError("a time is 0 or more", reason="request-time", field="timestamp_ms")
        if not 0 <= self.principal.stake_sui <= MAX_STAKE_SUI:
            raise RequestError(
                f"a stake is 0..{MAX_STAKE_SUI} SUI, not {self.principal.stake_sui}",
                reason="request-stake",
                field="principal.stake_sui",
            )
        if isinstance(self.principal, Address):
            _check_address(self.principal.address, "principal.address")
            _check_name(self.principal.node, "principal.node", empty=False)
        else:
            _check_name(self.principal.name, "principal.name", empty=False)
            if self.principal.operator is not None:
                _check_address(self.principal.operator, "principal.operator")
        if isinstance(self.target, UrlPath):
            path = self.target.path
            if not path.startswith("/") or len(path) > MAX_PATH or not path.isprintable():
                raise RequestError(
                    f"a path starts with / and has at most {MAX_PATH} printable characters",
                    reason="request-name",
                    field="target.path",
                )
            return
        _check_name(self.target.resource, "target.resource", empty=False)
        for field, name in (
            ("target.group", self.target.group),
            ("target.subresource", self.target.subresource),
            ("target.namespace", self.target.namespace),
            ("target.seal_policy", self.target.seal_policy),
        ):
            _check_name(name, field, empty=True)

    @property
    def minute(self) -> int:
        """Minutes since 1970: the finest that policies see of time."""
        return self.timestamp_ms // _MINUTE_MS

    def memory_key(self, *, timeless: bool) -> bytes:
        """blake2b-256 of all that an answer can depend on, 32 bytes; of this process only, never signed.

        Args:
            timeless: leave the time out, for policies that don't read it.
        """
        parts = (self.principal, self.verb, self.target, None if timeless else self.minute)
        return merkle.digest(msgspec.msgpack.encode(parts))

    def digest(self) -> bytes:
        """blake2b-256 of the BCS, 32 bytes: equal questions have equal digests."""
        return merkle.digest(self.to_bcs())

    def to_bcs(self) -> bytes:
        """Principal, verb, target, minute; variants are told apart by a leading byte."""
        principal, target = self.principal, self.target
        if isinstance(principal, Address):
            who = bcs.u8(0) + bcs.string(principal.address) + bcs.option(bcs.string, principal.node)
        else:
            who = bcs.u8(1) + bcs.string(principal.name) + bcs.option(bcs.string, principal.operator)
        if isinstance(target, ResourceClass):
            names = (target.group, target.resource, target.subresource, target.namespace)
            what = bcs.u8(0) + b"".join(map(bcs.string, names)) + bcs.option(bcs.string, target.seal_policy)
        else:
            what = bcs.u8(1) + bcs.string(target.path)
        return who + bcs.u64(principal.stake_sui) + bcs.string(self.verb) + what + bcs.u64(self.minute)


def _check_address(text: str, field: str) -> None:
    if not _ADDRESS.fullmatch(text):
        raise RequestError("an address is 0x and 64 hexadecimal digits", reason="request-address", field=field)


def _check_name(text: str | None, field: str, *, empty: bool) -> None:
    if text is not None and (len(text) > MAX_NAME or not (text or empty) or not text.isprintable() or "/" in text):
        raise RequestError(
            f"a name has at most {MAX_NAME} printable characters and no slash", reason="request-name", field=field
        )


def _uid(kind: str, name: str) -> dict[str, str]:
    return {"type": f"{NAMESPACE}::{kind}", "id": name}


def cedar_request(request: AccessRequest) -> dict[str, Any]:
    """The question as Cedar takes it."""
    minute = request.minute
    day, of_day = divmod(minute, _MINUTES_PER_DAY)
    return {
        "principal": _principal_uid(request.principal),
        "action": _uid("Action", request.verb),
        "resource": _target_uid(request.target),
        "context": {"minute": minute, "minuteOfDay": of_day, "weekday": (day + _FIRST_WEEKDAY) % 7},
    }


def cedar_entities(request: AccessRequest, tiers: tuple[Tier, ...]) -> list[dict[str, Any]]:
    """The entities of a question: principal, its tiers, target and namespace."""
    principal, target = request.principal, request.target
    attributes: dict[str, Any] = {"stake": principal.stake_sui}
    if isinstance(principal, Address):
        if principal.node is not None:
            attributes["node"] = principal.node
    elif principal.operator is not None:
        attributes["operator"] = {"__entity": _uid("Address", principal.operator)}
    entities = [
        _entity(_principal_uid(principal), attributes, [_uid("Tier", reached(tiers, principal.stake_sui))]),
        *(
            _entity(_uid("Tier", tier.name), {}, [_uid("Tier", tiers[rank - 1].name)] if rank else [])
            for rank, tier in enumerate(tiers)
        ),
    ]
    if isinstance(target, UrlPath):
        entities.append(_entity(_target_uid(target), {"path": target.path}, []))
        return entities
    attributes = {
        "apiGroup": target.group,
        "resource": target.resource,
        "subresource": target.subresource,
        "namespace": target.namespace,
    }
    if target.seal_policy is not None:
        attributes["sealPolicy"] = target.seal_policy
    namespace = [_uid("Namespace", target.namespace)] if target.namespace else []
    entities.append(_entity(_target_uid(target), attributes, namespace))
    entities += [_entity(uid, {}, []) for uid in namespace]
    return entities


def _entity(uid: dict[str, str], attributes: dict[str, Any], parents: list[dict[str, str]]) -> dict[str, Any]:
    return {"uid": uid, "attrs": attributes, "parents": parents}


def _principal_uid(principal: Address | Node) -> dict[str, str]:
    if isinstance(principal, Address):
        return _uid("Address", principal.address)
    return _uid("Node", principal.name)


def _target_uid(target: ResourceClass | UrlPath) -> dict[str, str]:
    if isinstance(target, UrlPath):
        return _uid("Path", target.path)
    parts = (target.group, target.resource, target.subresource, target.namespace)
    return _uid("Resource", "/".join(parts))
