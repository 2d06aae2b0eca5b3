"""From a `placement.decided` message back to the signed bytes: BCS of header and leaves, digests, roots.

Everyone who receives a decision (relay, gateway, storage, verifier) checks it with these functions before using it.
"""

from daas.common import bcs, merkle
from daas.common.errors import Refused
from daas.common.messages import DecidedLeaf, DecidedPreemption, DecidedVictim, Header, PlacementDecided

#: What an IntentMessage is about; the first byte of everything the enclave signs.
INTENT_PLACEMENT = 1
INTENT_ACCESS = 2
INTENT_REBALANCE = 3
INTENT_RECEIPT = 4
INTENT_SNAPSHOT = 5
INTENT_FAIRNESS = 6
#: Behind the empty uid, what a leaf is that is not about a placement.
LEAF_PREEMPTION = 1


def header_bcs(header: Header) -> bytes:
    """BCS of PlacementBatch, as the Move package rebuilds it."""
    return b"".join(
        (
            bcs.bytes_(bytes.fromhex(header.chain)),
            bcs.address(bytes.fromhex(header.registry[2:])),
            bcs.u64(header.sequence),
            bcs.bytes_(bytes.fromhex(header.previous)),
            bcs.u64(header.log_sequence),
            bcs.bytes_(bytes.fromhex(header.log_root)),
            bcs.bytes_(bytes.fromhex(header.policy)),
            bcs.bytes_(bytes.fromhex(header.state_root)),
            bcs.bytes_(bytes.fromhex(header.decisions)),
            bcs.u32(header.count),
            bcs.u64(header.expires_ms),
        )
    )


def leaf_bcs(leaf: DecidedLeaf) -> bytes:
    """BCS of one leaf."""
    return b"".join(
        (
            bcs.string(leaf.pod_uid),
            bcs.string(leaf.namespace),
            bcs.string(leaf.name),
            bcs.string(leaf.resource_version),
            bcs.option(bcs.string, leaf.node),
            bcs.u64(leaf.score),
            bcs.u64(leaf.reasons),
        )
    )


def preemption_bcs(preemption: DecidedPreemption) -> bytes:
    """BCS of one plan among the leaves: an empty uid, which no pod has, and what kind of leaf it is."""
    return b"".join(
        (
            bcs.string(""),
            bcs.u8(LEAF_PREEMPTION),
            bcs.string(preemption.pod_uid),
            bcs.string(preemption.node),
            bcs.vector(_victim_bcs, preemption.victims),
        )
    )


def _victim_bcs(victim: DecidedVictim) -> bytes:
    return bcs.string(victim.uid) + bcs.string(victim.namespace) + bcs.string(victim.name)


def committed(decided: PlacementDecided) -> list[bytes]:
    """Everything under the root of decisions, in order: a leaf for each pod, then one for each plan."""
    return [*map(leaf_bcs, decided.leaves), *map(preemption_bcs, decided.preemptions)]


def payload_digest(header: Header) -> bytes:
    """blake2b-256 of the header's BCS: what the next batch names as `previous`."""
    return merkle.digest(header_bcs(header))


def intent_message(intent: int, timestamp_ms: int, payload: bytes) -> bytes:
    """BCS of the Nautilus IntentMessage: the bytes under the Ed25519 signature."""
    return bcs.u8(intent) + bcs.u64(timestamp_ms) + payload


def check_decided(decided: PlacementDecided) -> bytes:
    """Checks that a decision is consistent with itself and returns its payload digest.

    The signature is not checked here: who may sign is the ledger's to say.

    Raises:
        Refused: `payload-digest`, `leaf-count` or `decisions-root`, naming the field.
    """
    digest = payload_digest(decided.header)
    if digest.hex() != decided.payload_digest:
        raise Refused(
            f"the header hashes to {digest.hex()}, the message says {decided.payload_digest}",
            reason="payload-digest",
            field="payload_digest",
        )
    leaves = committed(decided)
    if decided.header.count != len(leaves):
        raise Refused(
            f"the header commits to {decided.header.count} leaves, the message carries {len(leaves)}",
            reason="leaf-count",
            field="leaves",
        )
    root = merkle.root(leaves)
    if root.hex() != decided.header.decisions:
        raise Refused(
            f"the leaves hash to {root.hex()}, the header commits to {decided.header.decisions}",
            reason="decisions-root",
            field="leaves",
        )
    return digest
