"""The check of a decision's fairness certificate: signed for this decision, and its order, envelope and queues hold."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.common.decision import INTENT_FAIRNESS, intent_message, payload_digest
from daas.common.errors import Refused
from daas.common.fairness import FairnessClaim
from daas.common.messages import DecidedLeaf
from daas.evidence.bundle import describe
from daas.evidence.checks import Examined
from daas.evidence.report import Check, failed, passed
from daas.placement import Leaf
from daas.placement.fairness import FairnessCertificate, Grant, TenantShare, verify_fairness


def certificate_of(claim: FairnessClaim) -> FairnessCertificate:
    """The certificate in the engine's form.

    Raises:
        Refused: `fairness-shape`: a grant names no request.
    """
    if any(index >= len(claim.requests) for index, _, _ in claim.grants):
        raise Refused("a grant names a request that is not there", reason="fairness-shape", field="grants")
    return FairnessCertificate(
        capacity=claim.capacity,
        tenants=tuple(TenantShare(one.namespace, one.weight, one.used, one.due) for one in claim.tenants),
        grants=tuple(Grant(claim.requests[index], priority, ticket) for index, priority, ticket in claim.grants),
    )


def fairness(examined: Examined) -> Check:
    """Each tenant was served in its turn, and inside a tenant by priority and arrival.

    That the certificate's amounts are those of the state before the batch is what the replay shows.
    """
    name, decided = "fairness", examined.decided
    claim = decided.fairness
    if claim is None:
        return failed(name, "the decision carries no fairness certificate")
    payload = claim.signed_payload(payload_digest(decided.header))
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(decided.public_key))
        key.verify(bytes.fromhex(claim.signature), intent_message(INTENT_FAIRNESS, decided.timestamp_ms, payload))
    except (InvalidSignature, ValueError):
        return failed(name, f"key {describe(decided.public_key)} did not sign this certificate for this decision")
    verdict = verify_fairness(certificate_of(claim), [_leaf(leaf) for leaf in decided.leaves])
    if not verdict.holds:
        return failed(name, f"{verdict.broken}: {verdict.message}", broken=verdict.broken, at=verdict.at)
    return passed(
        name,
        f"{len(claim.grants)} pods of {len(claim.tenants)} tenant(s) were served in weighted dominant-share order, "
        "by priority and arrival inside each, and nobody waits below one who was served",
        tenants=len(claim.tenants),
        digest=claim.digest().hex(),
    )


def _leaf(leaf: DecidedLeaf) -> Leaf:
    return Leaf(
        pod_uid=leaf.pod_uid,
        namespace=leaf.namespace,
        name=leaf.name,
        resource_version=leaf.resource_version,
        node=leaf.node,
        score=leaf.score,
        reasons=leaf.reasons,
    )
