"""The events of stake, nodes, Seal policies and governance, typed: fields in the order of the Move structs."""

from daas.ledger.cluster import Action, Parameters, Rules
from daas.ledger.event import Event
from daas.ledger.layout import U8, U64, Bool, Bytes, ObjectId


class StakeChanged(Event, frozen=True, kw_only=True):
    """What an account holds after a change. `reason`: 1 deposited, 2 withdrawal requested, 3 withdrawn, 4 slashed."""

    registry: ObjectId
    account: ObjectId
    reason: U8
    amount_mist: U64
    bonded_mist: U64
    unbonding_mist: U64
    simulated: Bool


class Slashed(Event, frozen=True, kw_only=True):
    """Stake was taken from an account: a share to the reporter, the rest to the treasury."""

    registry: ObjectId
    account: ObjectId
    reporter: ObjectId
    amount_mist: U64
    reporter_mist: U64
    treasury_mist: U64
    simulated: Bool


class ParametersChanged(Event, frozen=True, kw_only=True):
    """The cluster asks something else of stake now."""

    registry: ObjectId
    parameters: Parameters
    simulated: Bool


class TreasuryFunded(Event, frozen=True, kw_only=True):
    """Money came to the treasury other than by slashing."""

    registry: ObjectId
    giver: ObjectId
    amount_mist: U64
    simulated: Bool


class TreasurySpent(Event, frozen=True, kw_only=True):
    """An accepted proposal paid out of the treasury."""

    registry: ObjectId
    recipient: ObjectId
    amount_mist: U64
    simulated: Bool


class PoolMigrated(Event, frozen=True, kw_only=True):
    """A stake pool was brought up to a newer version of the package."""

    registry: ObjectId
    from_version: U64
    to_version: U64
    simulated: Bool


class NodeRegistered(Event, frozen=True, kw_only=True):
    """A node belongs to the cluster, on its operator's stake."""

    registry: ObjectId
    node: ObjectId
    name: Bytes
    operator: ObjectId
    identity: ObjectId
    registered_ms: U64
    simulated: Bool


class NodeHeartbeat(Event, frozen=True, kw_only=True):
    """A node says that it is alive."""

    registry: ObjectId
    node: ObjectId
    timestamp_ms: U64
    simulated: Bool


class NodeDraining(Event, frozen=True, kw_only=True):
    """A node was taken out of service."""

    registry: ObjectId
    node: ObjectId
    name: Bytes
    simulated: Bool


class NodeDeregistered(Event, frozen=True, kw_only=True):
    """A node has left; its name is free again."""

    registry: ObjectId
    node: ObjectId
    name: Bytes
    simulated: Bool


class JoinTokenRotated(Event, frozen=True, kw_only=True):
    """The join token of this generation is the valid one now."""

    registry: ObjectId
    generation: U64
    simulated: Bool


class RosterMigrated(Event, frozen=True, kw_only=True):
    """A roster was brought up to a newer version of the package."""

    registry: ObjectId
    from_version: U64
    to_version: U64
    simulated: Bool


class NodeMigrated(Event, frozen=True, kw_only=True):
    """A node was brought up to a newer version of the package."""

    registry: ObjectId
    node: ObjectId
    from_version: U64
    to_version: U64
    simulated: Bool


class SealPolicyCreated(Event, frozen=True, kw_only=True):
    """A Seal policy came to be."""

    registry: ObjectId
    policy: ObjectId
    owner: ObjectId
    rules: Rules
    simulated: Bool


class SealPolicyChanged(Event, frozen=True, kw_only=True):
    """A Seal policy has other rules now."""

    registry: ObjectId
    policy: ObjectId
    rules: Rules
    simulated: Bool


class SealPolicyTransferred(Event, frozen=True, kw_only=True):
    """A Seal policy has another owner now."""

    registry: ObjectId
    policy: ObjectId
    previous_owner: ObjectId
    owner: ObjectId
    simulated: Bool


class SealPolicyRotated(Event, frozen=True, kw_only=True):
    """Generations `oldest_generation` to `generation` open, and `generation` is sealed for."""

    registry: ObjectId
    policy: ObjectId
    generation: U64
    oldest_generation: U64
    simulated: Bool


class TicketBought(Event, frozen=True, kw_only=True):
    """Ticket `number` of `usage_limit` of this generation was bought."""

    registry: ObjectId
    policy: ObjectId
    ticket: ObjectId
    holder: ObjectId
    session: Bytes
    generation: U64
    number: U64
    usage_limit: U64
    expires_ms: U64
    simulated: Bool


class SealPolicyMigrated(Event, frozen=True, kw_only=True):
    """A Seal policy was brought up to a newer version of the package."""

    registry: ObjectId
    policy: ObjectId
    from_version: U64
    to_version: U64
    simulated: Bool


class ProposalCreated(Event, frozen=True, kw_only=True):
    """Something was put to the vote."""

    registry: ObjectId
    proposal: ObjectId
    proposer: ObjectId
    action: Action
    created_ms: U64
    voting_until_ms: U64
    executable_from_ms: U64
    executable_until_ms: U64
    quorum_mist: U64
    simulated: Bool


class Voted(Event, frozen=True, kw_only=True):
    """An address voted; the sums are those after it."""

    registry: ObjectId
    proposal: ObjectId
    voter: ObjectId
    approve: Bool
    weight_mist: U64
    for_mist: U64
    against_mist: U64
    simulated: Bool


class ProposalExecuted(Event, frozen=True, kw_only=True):
    """An accepted proposal was carried out."""

    registry: ObjectId
    proposal: ObjectId
    kind: U8
    simulated: Bool


class ProposalMigrated(Event, frozen=True, kw_only=True):
    """A proposal was brought up to a newer version of the package."""

    registry: ObjectId
    proposal: ObjectId
    from_version: U64
    to_version: U64
    simulated: Bool


#: Class of each event, by module and name of its Move type.
TYPES: dict[tuple[str, str], type[Event]] = {
    ("stake", "StakeChanged"): StakeChanged,
    ("stake", "Slashed"): Slashed,
    ("stake", "ParametersChanged"): ParametersChanged,
    ("stake", "TreasuryFunded"): TreasuryFunded,
    ("stake", "TreasurySpent"): TreasurySpent,
    ("stake", "PoolMigrated"): PoolMigrated,
    ("nodes", "NodeRegistered"): NodeRegistered,
    ("nodes", "NodeHeartbeat"): NodeHeartbeat,
    ("nodes", "NodeDraining"): NodeDraining,
    ("nodes", "NodeDeregistered"): NodeDeregistered,
    ("nodes", "JoinTokenRotated"): JoinTokenRotated,
    ("nodes", "RosterMigrated"): RosterMigrated,
    ("nodes", "NodeMigrated"): NodeMigrated,
    ("policy", "SealPolicyCreated"): SealPolicyCreated,
    ("policy", "SealPolicyChanged"): SealPolicyChanged,
    ("policy", "SealPolicyTransferred"): SealPolicyTransferred,
    ("policy", "SealPolicyRotated"): SealPolicyRotated,
    ("policy", "TicketBought"): TicketBought,
    ("policy", "SealPolicyMigrated"): SealPolicyMigrated,
    ("governance", "ProposalCreated"): ProposalCreated,
    ("governance", "Voted"): Voted,
    ("governance", "ProposalExecuted"): ProposalExecuted,
    ("governance", "ProposalMigrated"): ProposalMigrated,
}
