"""The fairness certificate of a decision as it travels with it, and the bytes under its signature.

What it says and who checks it stands in docs/proofs.md; the engine's own form is `daas.placement.fairness`.
"""

from typing import Annotated, Final

import msgspec

from daas.common import bcs, merkle

#: More tenants with pods due than this and a decision goes without; a replay shows its order all the same.
MAX_TENANTS: Final = 4096
MAX_GRANTS: Final = 512
MAX_RESOURCES: Final = 256
_DOMAIN: Final = "k3s-daas/fairness/1"
#: Priorities are 32-bit integers with a sign; BCS has none.
_PRIORITY_ZERO: Final = 1 << 31

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Resource = Annotated[str, msgspec.Meta(min_length=1, max_length=317)]
#: (resource, amount), sorted by resource.
Amounts = Annotated[tuple[tuple[Resource, Count], ...], msgspec.Meta(max_length=MAX_RESOURCES)]


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace with pods due: its weight, what it held before the batch, and how many pods were due."""

    namespace: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    weight: Count
    used: Amounts
    due: Count


class FairnessClaim(msgspec.Struct, frozen=True, kw_only=True):
    """What the order of a batch follows from.

    Attributes:
        capacity: of all nodes together.
        tenants: by namespace.
        requests: what pods of the batch ask for, each once, in the order of their first leaf.
        grants: (index into requests, priority, ticket), one for each leaf.
        signature: Ed25519 by the decision's key over BCS of IntentMessage {6, timestamp_ms, `signed_payload`}.
    """

    capacity: Amounts
    tenants: Annotated[tuple[Tenant, ...], msgspec.Meta(max_length=MAX_TENANTS)]
    requests: Annotated[tuple[Amounts, ...], msgspec.Meta(max_length=MAX_GRANTS)]
    grants: Annotated[
        tuple[tuple[Count, Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)], Count], ...],
        msgspec.Meta(max_length=MAX_GRANTS),
    ]
    signature: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{128})?$")] = ""

    def to_bcs(self) -> bytes:
        """The certificate without its signature, in the order of the fields."""
        return b"".join(
            (
                _amounts(self.capacity),
                bcs.vector(_tenant, self.tenants),
                bcs.vector(_amounts, self.requests),
                bcs.vector(_grant, self.grants),
            )
        )

    def digest(self) -> bytes:
        """blake2b-256 of the BCS, 32 bytes."""
        return merkle.digest(self.to_bcs())

    def signed_payload(self, payload_digest: bytes) -> bytes:
        """What binds the certificate to one decision: BCS of {domain, payload digest of the batch, own digest}."""
        return bcs.string(_DOMAIN) + bcs.bytes_(payload_digest) + bcs.bytes_(self.digest())


def _amounts(amounts: tuple[tuple[str, int], ...]) -> bytes:
    return bcs.vector(lambda pair: bcs.string(pair[0]) + bcs.u64(pair[1]), amounts)


def _tenant(tenant: Tenant) -> bytes:
    return bcs.string(tenant.namespace) + bcs.u64(tenant.weight) + _amounts(tenant.used) + bcs.u64(tenant.due)


def _grant(grant: tuple[int, int, int]) -> bytes:
    return bcs.u64(grant[0]) + bcs.u64(grant[1] + _PRIORITY_ZERO) + bcs.u64(grant[2])
