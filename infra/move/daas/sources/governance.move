/// How stakers decide about their cluster: a proposal, a vote weighted by stake, a waiting time, and its execution.
///
/// A vote counts what was bonded before the proposal was made and still is (see `stake`), once per address.
module daas::governance;

use daas::measurements;
use daas::parameters::{Self, Parameters};
use daas::registry::{Self, AdminCap, Limits, Registry};
use daas::stake::StakePool;
use daas::version;
use sui::clock::Clock;
use sui::event;
use sui::table::{Self, Table};

/// The object was written by another version of this package.
const EWrongVersion: u64 = 0;
/// The object already has this package's version: there is nothing to migrate.
const EAlreadyMigrated: u64 = 1;
/// The objects belong to different registries.
const EWrongRegistry: u64 = 2;
/// The vote on this proposal has ended.
const EVoteEnded: u64 = 3;
/// The address has voted on this proposal.
const EAlreadyVoted: u64 = 4;
/// The address had nothing bonded before the proposal was made, or has withdrawn it since.
const ENoWeight: u64 = 5;
/// The vote, or the waiting time after it, is not over.
const ETooEarly: u64 = 6;
/// The proposal was not executed in time: what it says may no longer be what its voters meant.
const EExpired: u64 = 7;
/// Less stake voted than the quorum, or no more for than against.
const ENotAccepted: u64 = 8;
/// The proposal has been executed.
const EAlreadyExecuted: u64 = 9;
/// A policy digest has 32 bytes.
const EDigestLength: u64 = 10;
/// Nothing is to be spent.
const EZeroAmount: u64 = 11;

const DIGEST_LENGTH: u64 = 32;
/// How long an accepted proposal can be executed after its waiting time: 14 days.
const WINDOW_TO_EXECUTE_MS: u64 = 1_209_600_000;

const CHANGE_PARAMETERS: u8 = 1;
const CHANGE_LIMITS: u8 = 2;
const ALLOW_MEASUREMENT: u8 = 3;
const RETIRE_MEASUREMENT: u8 = 4;
const CHANGE_POLICY: u8 = 5;
const SPEND_TREASURY: u8 = 6;

/// What an accepted proposal does; which fields count, and in which order, depends on `kind`.
public struct Action has copy, drop, store {
    /// 1 change the stake parameters, 2 change the limits, 3 allow a measurement, 4 retire one, 5 change the policy
    /// that enclaves attest, 6 spend from the treasury.
    kind: u8,
    /// 1: the fields of Parameters. 2: the fields of Limits. 4: the number of the measurement. 6: the amount in MIST.
    numbers: vector<u64>,
    /// 3: PCR0, PCR1, PCR2. 5: the digest.
    digests: vector<vector<u8>>,
    /// 6: who gets it.
    recipient: address,
}

/// One proposal.
public struct Proposal has key {
    id: UID,
    version: u64,
    registry: ID,
    simulated: bool,
    proposer: address,
    action: Action,
    /// When it was made: stake counts that was bonded before.
    created_ms: u64,
    voting_until_ms: u64,
    executable_from_ms: u64,
    executable_until_ms: u64,
    quorum_mist: u64,
    for_mist: u64,
    against_mist: u64,
    executed: bool,
    /// What each address voted with.
    votes: Table<address, u64>,
}

public struct ProposalCreated has copy, drop {
    registry: ID,
    proposal: ID,
    proposer: address,
    action: Action,
    created_ms: u64,
    voting_until_ms: u64,
    executable_from_ms: u64,
    executable_until_ms: u64,
    quorum_mist: u64,
    simulated: bool,
}

public struct Voted has copy, drop {
    registry: ID,
    proposal: ID,
    voter: address,
    approve: bool,
    weight_mist: u64,
    for_mist: u64,
    against_mist: u64,
    simulated: bool,
}

public struct ProposalExecuted has copy, drop { registry: ID, proposal: ID, kind: u8, simulated: bool }

public struct ProposalMigrated has copy, drop { registry: ID, proposal: ID, from: u64, to: u64, simulated: bool }

/// Other stake parameters.
public fun change_parameters(parameters: Parameters): Action {
    action(CHANGE_PARAMETERS, parameters.numbers(), vector[], @0x0)
}

/// Other time limits.
public fun change_limits(
    registration_ttl_ms: u64,
    document_age_ms: u64,
    batch_age_ms: u64,
    future_skew_ms: u64,
): Action {
    let numbers = vector[registration_ttl_ms, document_age_ms, batch_age_ms, future_skew_ms];
    limits_of(&numbers);
    action(CHANGE_LIMITS, numbers, vector[], @0x0)
}

/// One more enclave image. Aborts already here on PCRs that no enclave out of debug mode has.
public fun allow_measurement(pcr0: vector<u8>, pcr1: vector<u8>, pcr2: vector<u8>): Action {
    measurements::measurement(0, pcr0, pcr1, pcr2);
    action(ALLOW_MEASUREMENT, vector[], vector[pcr0, pcr1, pcr2], @0x0)
}

/// One enclave image less.
public fun retire_measurement(version: u64): Action {
    action(RETIRE_MEASUREMENT, vector[version], vector[], @0x0)
}

/// Another policy for enclaves to attest.
public fun change_policy(policy: vector<u8>): Action {
    assert!(policy.length() == DIGEST_LENGTH, EDigestLength);
    action(CHANGE_POLICY, vector[], vector[policy], @0x0)
}

/// Money from the treasury for somebody.
public fun spend_treasury(amount_mist: u64, recipient: address): Action {
    assert!(amount_mist > 0, EZeroAmount);
    action(SPEND_TREASURY, vector[amount_mist], vector[], recipient)
}

/// Puts an action to the vote. The sender needs the minimum of stake that the parameters name.
public fun propose(registry: &Registry, pool: &StakePool, action: Action, clock: &Clock, ctx: &mut TxContext) {
    registry.assert_version();
    pool.assert_of(registry);
    let parameters = pool.parameters();
    pool.assert_bonded(ctx.sender(), parameters.proposal_minimum_mist());
    let created_ms = clock.timestamp_ms();
    let voting_until_ms = created_ms + parameters.voting_ms();
    let executable_from_ms = voting_until_ms + parameters.timelock_ms();
    let proposal = Proposal {
        id: object::new(ctx),
        version: version::current(),
        registry: object::id(registry),
        simulated: registry.is_simulated(),
        proposer: ctx.sender(),
        action,
        created_ms,
        voting_until_ms,
        executable_from_ms,
        executable_until_ms: executable_from_ms + WINDOW_TO_EXECUTE_MS,
        quorum_mist: parameters::share(pool.total_bonded(), parameters.quorum_bps()),
        for_mist: 0,
        against_mist: 0,
        executed: false,
        votes: table::new(ctx),
    };
    event::emit(ProposalCreated {
        registry: proposal.registry,
        proposal: object::id(&proposal),
        proposer: proposal.proposer,
        action,
        created_ms,
        voting_until_ms,
        executable_from_ms,
        executable_until_ms: proposal.executable_until_ms,
        quorum_mist: proposal.quorum_mist,
        simulated: proposal.simulated,
    });
    transfer::share_object(proposal);
}

/// Votes with all the stake that the sender had bonded before the proposal was made and still has. Final.
public fun vote(proposal: &mut Proposal, pool: &StakePool, approve: bool, clock: &Clock, ctx: &TxContext) {
    assert_of(proposal, pool);
    assert!(clock.timestamp_ms() < proposal.voting_until_ms, EVoteEnded);
    let voter = ctx.sender();
    assert!(!proposal.votes.contains(voter), EAlreadyVoted);
    let weight_mist = pool.bonded_since(voter, proposal.created_ms);
    assert!(weight_mist > 0, ENoWeight);
    proposal.votes.add(voter, weight_mist);
    if (approve) proposal.for_mist = proposal.for_mist + weight_mist
    else proposal.against_mist = proposal.against_mist + weight_mist;
    event::emit(Voted {
        registry: proposal.registry,
        proposal: object::id(proposal),
        voter,
        approve,
        weight_mist,
        for_mist: proposal.for_mist,
        against_mist: proposal.against_mist,
        simulated: proposal.simulated,
    });
}

/// Does what an accepted proposal says, after its waiting time, once, in a cluster that has been handed over. Anybody
/// may call it.
public fun execute(
    proposal: &mut Proposal,
    registry: &mut Registry,
    pool: &mut StakePool,
    clock: &Clock,
    ctx: &mut TxContext,
) {
    assert_of(proposal, pool);
    registry.assert_governed();
    pool.assert_of(registry);
    assert!(!proposal.executed, EAlreadyExecuted);
    let now_ms = clock.timestamp_ms();
    assert!(now_ms >= proposal.executable_from_ms, ETooEarly);
    assert!(now_ms < proposal.executable_until_ms, EExpired);
    assert!(is_accepted(proposal), ENotAccepted);
    proposal.executed = true;
    let action = &proposal.action;
    if (action.kind == CHANGE_PARAMETERS) {
        pool.change_parameters(parameters::from_numbers(&action.numbers))
    } else if (action.kind == CHANGE_LIMITS) {
        registry.change_limits(limits_of(&action.numbers))
    } else if (action.kind == ALLOW_MEASUREMENT) {
        registry.add_measurement(action.digests[0], action.digests[1], action.digests[2])
    } else if (action.kind == RETIRE_MEASUREMENT) {
        registry.remove_measurement(action.numbers[0])
    } else if (action.kind == CHANGE_POLICY) {
        registry.change_policy(action.digests[0])
    } else {
        pool.spend_treasury(action.numbers[0], action.recipient, ctx)
    };
    event::emit(ProposalExecuted {
        registry: proposal.registry,
        proposal: object::id(proposal),
        kind: action.kind,
        simulated: proposal.simulated,
    });
}

/// Brings a proposal written by an older version of this package up to this one.
public fun migrate(_: &AdminCap, proposal: &mut Proposal) {
    let from = proposal.version;
    assert!(from < version::current(), EAlreadyMigrated);
    proposal.version = version::current();
    event::emit(ProposalMigrated {
        registry: proposal.registry,
        proposal: object::id(proposal),
        from,
        to: proposal.version,
        simulated: proposal.simulated,
    });
}

/// Whether the votes so far are enough.
public fun is_accepted(proposal: &Proposal): bool {
    let voted_mist = (proposal.for_mist as u128) + (proposal.against_mist as u128);
    voted_mist >= (proposal.quorum_mist as u128) && proposal.for_mist > proposal.against_mist
}

fun action(kind: u8, numbers: vector<u64>, digests: vector<vector<u8>>, recipient: address): Action {
    Action { kind, numbers, digests, recipient }
}

fun limits_of(numbers: &vector<u64>): Limits {
    registry::limits(numbers[0], numbers[1], numbers[2], numbers[3])
}

fun assert_of(proposal: &Proposal, pool: &StakePool) {
    assert!(proposal.version == version::current(), EWrongVersion);
    pool.assert_version();
    assert!(proposal.registry == pool.registry(), EWrongRegistry);
}
