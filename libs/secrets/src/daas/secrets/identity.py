"""Seal ids of envelopes: what a key server is asked for, bound to a policy, a generation and one place in a cluster.

Layout of an inner id, 89 bytes (the Move package reads the first 40, see `daas::policy`):

    policy object id 32 | generation u64 little-endian | scope u8 | salt 16 | digest 32

The digest is blake2b-256 over BCS {"k3s-daas/envelope/1", scope u8, cluster, namespace, name, salt}, so that an
envelope which was moved is recognised before any key server is asked. The salt is random: every sealing has an id of
its own, and a key that was released for one envelope opens no other, not even a later one of the same Secret.
"""

import secrets
from enum import IntEnum
from typing import Final

import msgspec

from daas.common import bcs, merkle
from daas.common.errors import DecodeError, InvalidInput
from daas.secrets.errors import MalformedEnvelope, WrongPlace

SALT_LENGTH: Final = 16
INNER_ID_LENGTH: Final = 32 + 8 + 1 + SALT_LENGTH + 32
_DOMAIN: Final = "k3s-daas/envelope/1"


class Scope(IntEnum):
    """What one envelope's data key is for."""

    #: One Secret: the rule.
    SECRET = 1
    #: All Secrets of a namespace that choose so. Whoever may open one of them holds the key of all.
    NAMESPACE = 2
    #: A whole cluster: the seed of its encryption at rest.
    CLUSTER = 3


class Place(msgspec.Struct, frozen=True):
    """Where something sealed belongs. Secrets have all three names, other scopes leave the later ones empty."""

    cluster: str
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.cluster, self.namespace, self.name) if part)

    def within(self, scope: Scope) -> "Place":
        """What of this place an envelope of that scope is bound to."""
        match scope:
            case Scope.SECRET:
                return self
            case Scope.NAMESPACE:
                return Place(self.cluster, self.namespace)
            case Scope.CLUSTER:
                return Place(self.cluster)

    def check(self, scope: Scope) -> None:
        """Asserts that exactly the names are there that the scope needs.

        Raises:
            InvalidInput: `sealed-place`.
        """
        expected = {Scope.SECRET: (True, True), Scope.NAMESPACE: (True, False), Scope.CLUSTER: (False, False)}[scope]
        if not self.cluster or (bool(self.namespace), bool(self.name)) != expected:
            raise InvalidInput(f"a place of scope {scope.name.lower()} has other names than {self}",
                               reason="sealed-place")  # fmt: skip


class EnvelopeId(msgspec.Struct, frozen=True, kw_only=True):
    """An inner id, read. `policy` has 32 bytes, `salt` 16, `digest` 32."""

    policy: bytes
    generation: int
    scope: Scope
    salt: bytes
    digest: bytes

    @classmethod
    def fresh(cls, policy: bytes, generation: int, scope: Scope, place: Place) -> "EnvelopeId":
        """A new id for a place.

        Raises:
            InvalidInput: `sealed-place`, `bcs-*`.
        """
        place.check(scope)
        salt = secrets.token_bytes(SALT_LENGTH)
        digest = _digest(scope, place, salt)
        return cls(policy=bcs.address(policy), generation=generation, scope=scope, salt=salt, digest=digest)

    @classmethod
    def decode(cls, inner_id: bytes) -> "EnvelopeId":
        """Reads an id.

        Raises:
            MalformedEnvelope: `envelope-id`.
        """
        reader = bcs.Reader(inner_id)
        try:
            policy, generation, kind = reader.address(), reader.u64(), reader.u8()
            salt, digest = reader.take(SALT_LENGTH), reader.take(merkle.HASH_LENGTH)
            reader.end()
            scope = Scope(kind)
        except (DecodeError, ValueError):
            raise MalformedEnvelope("the Seal id is not one of an envelope", reason="envelope-id") from None
        return cls(policy=policy, generation=generation, scope=scope, salt=salt, digest=digest)

    def encode(self) -> bytes:
        """The inner id, 89 bytes."""
        return self.policy + bcs.u64(self.generation) + bcs.u8(self.scope) + self.salt + self.digest

    def check(self, place: Place) -> None:
        """Asserts that the id was made for this place (of which only what the scope covers counts).

        Raises:
            WrongPlace: `sealed-elsewhere`.
        """
        if _digest(self.scope, place.within(self.scope), self.salt) != self.digest:
            raise WrongPlace(f"the envelope was not sealed for {place}", reason="sealed-elsewhere")


def _digest(scope: Scope, place: Place, salt: bytes) -> bytes:
    names = bcs.string(place.cluster) + bcs.string(place.namespace) + bcs.string(place.name)
    return merkle.digest(bcs.string(_DOMAIN) + bcs.u8(scope) + names + salt)
