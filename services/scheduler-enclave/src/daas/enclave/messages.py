"""Engine values as messages on the bus."""

from daas.common.decision import INTENT_PLACEMENT, intent_message
from daas.common.messages import DecidedLeaf, Header, PlacementDecided
from daas.enclave.identity import Identity
from daas.placement import Decision


def decided(decision: Decision, identity: Identity, *, simulated: bool) -> PlacementDecided:
    """Signs a decision and makes the fact of it."""
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
    )
