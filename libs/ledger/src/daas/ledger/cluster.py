"""Stake, nodes, Seal policies and proposals of a cluster as frozen values: fields in the order of the Move structs.

Amounts are MIST, durations and times milliseconds, shares hundredths of a percent (bps).
"""

import msgspec

from daas.ledger.layout import U8, U64, Bool, Bytes, ObjectId

DAY_MS = 24 * 3600 * 1000
MIST_PER_SUI = 1_000_000_000


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster asks of stake (`parameters::Parameters`). The defaults ask none: for simulated clusters only.

    Attributes:
        operator_minimum_mist: bonded stake without which no enclave is registered.
        node_minimum_mist: bonded stake for each node.
        proposal_minimum_mist: bonded stake without which no proposal is made.
        unbonding_ms: from asking for stake to getting it; at least voting_ms + timelock_ms.
        slash_bps: how much of an operator's stake two contradicting signatures cost.
        reporter_bps: how much of that goes to the reporter, at most half; the rest goes to the treasury.
        quorum_bps: how much of all bonded stake must vote on a proposal.
        voting_ms, timelock_ms: how long a vote lasts, and how long its execution waits after it.
    """

    operator_minimum_mist: U64 = 0
    node_minimum_mist: U64 = 0
    proposal_minimum_mist: U64 = 0
    unbonding_ms: U64 = 14 * DAY_MS
    slash_bps: U64 = 10_000
    reporter_bps: U64 = 1_000
    quorum_bps: U64 = 3_000
    voting_ms: U64 = 5 * DAY_MS
    timelock_ms: U64 = 2 * DAY_MS


#: What a cluster with real enclaves starts from where its creator names nothing else.
STAKED = Parameters(
    operator_minimum_mist=1_000 * MIST_PER_SUI,
    node_minimum_mist=100 * MIST_PER_SUI,
    proposal_minimum_mist=100 * MIST_PER_SUI,
)


class Tranche(msgspec.Struct, frozen=True, kw_only=True):
    """Stake that has been bonded since a time."""

    amount_mist: U64
    since_ms: U64


class Withdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """Stake on its way out: free from `until_ms` on, slashable until it is withdrawn."""

    amount_mist: U64
    until_ms: U64


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What one address has at stake.

    Attributes:
        bonded: oldest first.
        nodes: how many nodes it stands for.
        answers_until_ms: expiry of the last enclave key it answers for; 0 where there is none.
    """

    bonded: tuple[Tranche, ...] = ()
    unbonding: tuple[Withdrawal, ...] = ()
    nodes: U64 = 0
    answers_until_ms: U64 = 0

    @property
    def bonded_mist(self) -> int:
        """Everything bonded."""
        return sum(tranche.amount_mist for tranche in self.bonded)

    @property
    def unbonding_mist(self) -> int:
        """Everything on its way out."""
        return sum(withdrawal.amount_mist for withdrawal in self.unbonding)

    def bonded_since(self, snapshot_ms: int) -> int:
        """What counts in a vote that began at this time."""
        return sum(tranche.amount_mist for tranche in self.bonded if tranche.since_ms < snapshot_ms)

    def free_mist(self, now_ms: int) -> int:
        """What can be withdrawn at this time."""
        return sum(withdrawal.amount_mist for withdrawal in self.unbonding if withdrawal.until_ms <= now_ms)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the framework: its entries are objects of their own, found by key."""

    address: ObjectId
    size: U64


class StakePool(msgspec.Struct, frozen=True, kw_only=True):
    """The stake of one cluster: `funds` holds all of it, bonded and unbonding."""

    address: ObjectId
    version: U64
    registry: ObjectId
    simulated: Bool
    parameters: Parameters
    accounts: Table
    funds: U64
    bonded_mist: U64
    treasury: U64


class Roster(msgspec.Struct, frozen=True, kw_only=True):
    """The names of a cluster's nodes, and the number of the join token that they may open."""

    address: ObjectId
    version: U64
    registry: ObjectId
    simulated: Bool
    names: Table
    join_generation: U64

    @property
    def join_token_id(self) -> bytes:
        """Seal id of the valid join token, without the package's prefix."""
        return bytes.fromhex(self.address[2:]) + self.join_generation.to_bytes(8, "little")


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One node: `operator` stands for it with stake, `identity` is the address of the key on the machine.

    Attributes:
        state: 1 active, 2 draining.
    """

    address: ObjectId
    version: U64
    registry: ObjectId
    simulated: Bool
    name: Bytes
    operator: ObjectId
    identity: ObjectId
    state: U8
    registered_ms: U64
    heartbeat_ms: U64

    @property
    def draining(self) -> bool:
        """Whether it has been taken out of service."""
        return self.state == 2


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold for a key to be released; zero or empty: no such condition (`rules::Rules`).

    Attributes:
        required_stake_mist: of the reader, or of the reading node's operator.
        allowed_nodes: object ids of the only nodes that may read, at most 64.
        not_before_ms, not_after_ms: from the first on, and before the second.
        usage_limit: how many tickets are sold in one generation.
        ticket_price_mist: goes to the policy's owner.
        ticket_ttl_ms: at most an hour; goes with a usage limit.
    """

    required_stake_mist: U64 = 0
    allowed_nodes: tuple[ObjectId, ...] = ()
    not_before_ms: U64 = 0
    not_after_ms: U64 = 0
    usage_limit: U64 = 0
    ticket_price_mist: U64 = 0
    ticket_ttl_ms: U64 = 0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A Seal policy: generations `oldest_generation` to `generation` open, the last one is sealed for."""

    address: ObjectId
    version: U64
    registry: ObjectId
    simulated: Bool
    owner: ObjectId
    rules: Rules
    generation: U64
    oldest_generation: U64
    tickets_sold: U64

    @property
    def namespace(self) -> bytes:
        """What the Seal ids of the current generation start with, after the package's prefix: 40 bytes."""
        return bytes.fromhex(self.address[2:]) + self.generation.to_bytes(8, "little")


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """The right to one release of one key, for one holder in one session."""

    address: ObjectId
    version: U64
    policy: ObjectId
    sealed_id: Bytes
    session: Bytes
    holder: ObjectId
    staker: ObjectId
    expires_ms: U64


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What an accepted proposal does, as Move keeps it: which fields count depends on `kind`.

    Attributes:
        kind: 1 change the parameters, 2 change the limits, 3 allow a measurement, 4 retire one, 5 change the policy
            that enclaves attest, 6 spend from the treasury.
    """

    kind: U8
    numbers: tuple[U64, ...]
    digests: tuple[Bytes, ...]
    recipient: ObjectId


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal and the votes so far: stake counts that was bonded before `created_ms`."""

    address: ObjectId
    version: U64
    registry: ObjectId
    simulated: Bool
    proposer: ObjectId
    action: Action
    created_ms: U64
    voting_until_ms: U64
    executable_from_ms: U64
    executable_until_ms: U64
    quorum_mist: U64
    for_mist: U64
    against_mist: U64
    executed: Bool
    votes: Table

    @property
    def accepted(self) -> bool:
        """Whether the votes so far are enough."""
        return self.for_mist + self.against_mist >= self.quorum_mist and self.for_mist > self.against_mist
