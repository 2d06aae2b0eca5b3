"""Engine values as messages on the bus."""

import msgspec

from daas.common.decision import INTENT_FAIRNESS, INTENT_PLACEMENT, intent_message
from daas.common.fairness import MAX_TENANTS, FairnessClaim, Tenant
from daas.common.messages import DecidedLeaf, DecidedPreemption, DecidedVictim, Header, PlacementDecided
from daas.enclave.identity import Identity
from daas.placement import Decision, FairnessCertificate


def claim_of(certificate: FairnessCertificate) -> FairnessClaim:
    """The certificate as it travels, not signed yet: equal requests stand there once."""
    requests: dict[tuple[tuple[str, int], ...], int] = {}
    grants = []
    for grant in certificate.grants:
        index = requests.setdefault(grant.requests, len(requests))
        grants.append((index, grant.priority, grant.ticket))
    return FairnessClaim(
        capacity=certificate.capacity,
        tenants=tuple(
            Tenant(namespace=tenant.namespace, weight=tenant.weight, used=tenant.used, due=tenant.due)
            for tenant in certificate.tenants
        ),
        requests=tuple(requests),
        grants=tuple(grants),
    )


def _signed(certificate: FairnessCertificate, decision: Decision, identity: Identity) -> FairnessClaim | None:
    """The certificate bound to its decision; None where more tenants wait than a message holds."""
    if len(certificate.tenants) > MAX_TENANTS:
        return None
    claim = claim_of(certificate)
    payload = claim.signed_payload(decision.batch.digest())
    signature = identity.sign(intent_message(INTENT_FAIRNESS, decision.timestamp_ms, payload))
    return msgspec.structs.replace(claim, signature=signature.hex())


def decided(
    decision: Decision, fairness: FairnessCertificate | None, identity: Identity, *, simulated: bool
) -> PlacementDecided:
    """Signs a decision with its certificate, and makes the fact of it."""
    batch = decision.batch
    payload = batch.to_bcs()
    return PlacementDecided(
        header=Header(
            chain=batch.chain.hex(),
            registry="0x" + batch.registry.hex(),
            sequence=batch.sequence,
            previous=batch.previous.hex(),
            log_sequence=batch.log_sequence,
            log_root=batch.log_root.hex(),
            policy=batch.policy.hex(),
            state_root=batch.state_root.hex(),
            decisions=batch.decisions.hex(),
            count=batch.count,
            expires_ms=batch.expires_ms,
        ),
        payload_digest=batch.digest().hex(),
        timestamp_ms=decision.timestamp_ms,
        public_key=identity.public_key,
        signature=identity.sign(intent_message(INTENT_PLACEMENT, decision.timestamp_ms, payload)).hex(),
        simulated=simulated,
        leaves=tuple(
            DecidedLeaf(
                pod_uid=leaf.pod_uid,
                namespace=leaf.namespace,
                name=leaf.name,
                resource_version=leaf.resource_version,
                node=leaf.node,
                score=leaf.score,
                reasons=leaf.reasons,
            )
            for leaf in decision.leaves
        ),
        fairness=_signed(fairness, decision, identity) if fairness is not None else None,
        preemptions=tuple(
            DecidedPreemption(
                pod_uid=plan.pod_uid,
                node=plan.node,
                victims=tuple(
                    DecidedVictim(uid=victim.uid, namespace=victim.namespace, name=victim.name)
                    for victim in plan.victims
                ),
            )
            for plan in decision.preemptions
        ),
    )
