"""The rules a chain of decisions is made under, and their digest; with `Genesis`, where a chain begins."""

import re

import msgspec

from daas.common import bcs, merkle
from daas.placement.batch import DIGEST_LENGTH, MAX_LEAVES
from daas.placement.errors import GenesisError

#: Names the decision procedure: any change that can alter a decision needs another one.
ALGORITHM = "k3s-daas/placement/4"
#: Whose formulas the scores follow: 1.36 looks at how a pod changes the balance of a node, 1.32 at what it comes to.
PROFILE = "kube-scheduler/1.32"
PROFILE_BALANCE_CHANGE = "kube-scheduler/1.36"
PROFILES = (PROFILE, PROFILE_BALANCE_CHANGE)
#: Room for every weighted score of 0..100 in the integer keys that nodes are compared by.
MAX_WEIGHT = 1000
#: The API's own limit for weights of preferred terms.
MAX_SCORE = 100
#: Digest of the access policies that `daas.policy` ships, version 1; a test there holds it.
ACCESS_POLICIES = "4d9cf7ac4a9117b6b5642d1d0a935344359aaaae5809d395d0eb7c6cbb9f2994"
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: An hour: past that a decision says nothing about the cluster any more.
MAX_DURATION_MS = 3_600_000


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions depend on beside the log. Its digest stands in every batch.

    Attributes:
        scheduler_name: pods with this spec.schedulerName are ours to place.
        weight_*: of the scores, each 0..100, as in kube-scheduler's default profile.
        hard_affinity_weight: what a required affinity term of a running pod counts for in inter-pod affinity.
        batch_max: pods in one decision.
        expires_ms: how long a decision may wait for its bind, from the entry's timestamp.
        grace_ms: how much longer the engine keeps the capacity taken, so that a late bind is still seen first.
        backoff_min_ms, backoff_max_ms: doubling delay of a pod that could not be placed or bound.
        access: digest of the Cedar policy set by which the enclave decides about access, 64 hex digits. No placement
            depends on it; it stands here so that what the registry requires and every batch carries covers it.
    """

    algorithm: str = ALGORITHM
    profile: str = PROFILE
    scheduler_name: str = "k3s-daas"
    weight_least_allocated: int = 1
    weight_balanced_allocation: int = 1
    weight_taint_toleration: int = 3
    weight_node_affinity: int = 2
    weight_topology_spread: int = 2
    weight_inter_pod_affinity: int = 2
    weight_image_locality: int = 1
    hard_affinity_weight: int = 1
    batch_max: int = MAX_LEAVES
    expires_ms: int = 60_000
    grace_ms: int = 30_000
    backoff_min_ms: int = 1_000
    backoff_max_ms: int = 10_000
    access: str = ACCESS_POLICIES

    def __post_init__(self) -> None:
        """Refuses values outside their range.

        Raises:
            GenesisError: `policy-range`, naming the field.
        """
        for field, value, low, high in (
            ("weight_least_allocated", self.weight_least_allocated, 0, MAX_WEIGHT),
            ("weight_balanced_allocation", self.weight_balanced_allocation, 0, MAX_WEIGHT),
            ("weight_taint_toleration", self.weight_taint_toleration, 0, MAX_WEIGHT),
            ("weight_node_affinity", self.weight_node_affinity, 0, MAX_WEIGHT),
            ("weight_topology_spread", self.weight_topology_spread, 0, MAX_WEIGHT),
            ("weight_inter_pod_affinity", self.weight_inter_pod_affinity, 0, MAX_WEIGHT),
            ("weight_image_locality", self.weight_image_locality, 0, MAX_WEIGHT),
            ("hard_affinity_weight", self.hard_affinity_weight, 0, MAX_SCORE),
            ("batch_max", self.batch_max, 1, MAX_LEAVES),
            ("expires_ms", self.expires_ms, 1, MAX_DURATION_MS),
            ("grace_ms", self.grace_ms, 0, MAX_DURATION_MS),
            ("backoff_min_ms", self.backoff_min_ms, 1, MAX_DURATION_MS),
            ("backoff_max_ms", self.backoff_max_ms, self.backoff_min_ms, MAX_DURATION_MS),
        ):
            if not low <= value <= high:
                raise GenesisError(f"{field} is {low}..{high}, not {value}", reason="policy-range", field=field)
        if not _DIGEST.fullmatch(self.access):
            raise GenesisError("access is a digest of 64 hex digits", reason="policy-range", field="access")
        for field, text, known in (("algorithm", self.algorithm, (ALGORITHM,)), ("profile", self.profile, PROFILES)):
            if text not in known:
                raise GenesisError(
                    f"{field} is {' or '.join(known)} here, not {text!r}", reason="policy-unknown", field=field
                )

    def to_bcs(self) -> bytes:
        """The bytes under the digest: the fields in order."""
        return b"".join(
            (
                bcs.string(self.algorithm),
                bcs.string(self.profile),
                bcs.string(self.scheduler_name),
                bcs.u32(self.weight_least_allocated),
                bcs.u32(self.weight_balanced_allocation),
                bcs.u32(self.weight_taint_toleration),
                bcs.u32(self.weight_node_affinity),
                bcs.u32(self.weight_topology_spread),
                bcs.u32(self.weight_inter_pod_affinity),
                bcs.u32(self.weight_image_locality),
                bcs.u32(self.hard_affinity_weight),
                bcs.u32(self.batch_max),
                bcs.u64(self.expires_ms),
                bcs.u64(self.grace_ms),
                bcs.u64(self.backoff_min_ms),
                bcs.u64(self.backoff_max_ms),
                bcs.bytes_(bytes.fromhex(self.access)),
            )
        )

    def digest(self) -> bytes:
        """blake2b-256 of the BCS, 32 bytes."""
        return merkle.digest(self.to_bcs())

    def backoff_ms(self, attempts: int) -> int:
        """The delay after so many failures in a row (1, 2, ...): doubling from the least to the most."""
        return min(self.backoff_min_ms << min(max(attempts - 1, 0), 32), self.backoff_max_ms)


class Genesis(msgspec.Struct, frozen=True):
    """Where a chain of decisions begins.

    Attributes:
        chain: genesis digest of the ledger's chain, 32 bytes.
        registry: id of our Registry object, 32 bytes.
        policy: the rules.
    """

    chain: bytes
    registry: bytes
    policy: Policy

    def __post_init__(self) -> None:
        """Refuses ids of another length.

        Raises:
            GenesisError: `genesis-length`, naming the field.
        """
        for field, value in (("chain", self.chain), ("registry", self.registry)):
            if len(value) != DIGEST_LENGTH:
                raise GenesisError(
                    f"{field} has {DIGEST_LENGTH} bytes, not {len(value)}", reason="genesis-length", field=field
                )

    def digest(self) -> bytes:
        """blake2b-256 of chain, registry and policy digest: what snapshots are bound to."""
        return merkle.digest(bcs.bytes_(self.chain) + bcs.address(self.registry) + bcs.bytes_(self.policy.digest()))
