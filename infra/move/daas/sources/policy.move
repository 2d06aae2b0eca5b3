/// Who may open what was sealed: policies that Seal key servers evaluate by simulating the `seal_approve` functions.
///
/// What is sealed under a policy has an id that starts with the policy's address and its generation (u64,
/// little-endian); what follows is the caller's. A limit counts releases of keys: each needs a ticket, for one id, one holder and one
/// session, and no more tickets are sold than the limit says. A released key can't be taken back, so that revocation is
/// rotation: new generation, new ids, encrypted again; then the old generations are retired.
module daas::policy;

use daas::nodes::Node;
use daas::registry::{AdminCap, Registry};
use daas::rules::Rules;
use daas::stake::StakePool;
use daas::version;
use std::bcs;
use sui::clock::Clock;
use sui::coin::Coin;
use sui::event;
use sui::sui::SUI;

/// The object was written by another version of this package.
const EWrongVersion: u64 = 0;
/// The object already has this package's version: there is nothing to migrate.
const EAlreadyMigrated: u64 = 1;
/// The objects belong to different registries.
const EWrongRegistry: u64 = 2;
/// Only the policy's owner may do this.
const ENotOwner: u64 = 3;
/// The id does not belong to this policy.
const EWrongId: u64 = 4;
/// The id's generation has been retired, or does not exist yet.
const EWrongGeneration: u64 = 5;
/// This policy has a usage limit: a ticket is needed.
const ETicketRequired: u64 = 6;
/// This policy has no usage limit: there are no tickets for it.
const ENoTickets: u64 = 7;
/// As many tickets as the usage limit allows have been bought.
const ELimitReached: u64 = 8;
/// A ticket costs exactly what the policy says.
const EWrongPayment: u64 = 9;
/// A session key has 32 bytes.
const ESessionLength: u64 = 10;
/// The id is longer than a ticket can hold.
const EIdTooLong: u64 = 11;
/// The ticket is for another policy, id, session or holder.
const EWrongTicket: u64 = 12;
/// The ticket has expired.
const ETicketExpired: u64 = 13;
/// The id is of the current generation: the owner's way is for what is being rotated out.
const ENotRotatedOut: u64 = 14;

const MAX_ID_LENGTH: u64 = 256;
/// Address and generation.
const NAMESPACE_LENGTH: u64 = 40;
const SESSION_LENGTH: u64 = 32;

public struct Policy has key {
    id: UID,
    version: u64,
    registry: ID,
    simulated: bool,
    owner: address,
    rules: Rules,
    /// What is sealed now belongs to this generation.
    generation: u64,
    /// The oldest generation that still opens.
    oldest_generation: u64,
    /// Tickets sold in this generation.
    tickets_sold: u64,
}

/// The right to one release of one key: for one holder, in one session, for a short time.
public struct Ticket has key {
    id: UID,
    version: u64,
    policy: ID,
    /// The id of what it opens, without the package's prefix.
    sealed_id: vector<u8>,
    /// Public key of the session, 32 bytes. Key servers of this project check that it is the requester's; others know
    /// the holder only.
    session: vector<u8>,
    holder: address,
    /// Whose stake counted.
    staker: address,
    expires_ms: u64,
}

public struct SealPolicyCreated has copy, drop {
    registry: ID,
    policy: ID,
    owner: address,
    rules: Rules,
    simulated: bool,
}

public struct SealPolicyChanged has copy, drop { registry: ID, policy: ID, rules: Rules, simulated: bool }

public struct SealPolicyTransferred has copy, drop {
    registry: ID,
    policy: ID,
    previous_owner: address,
    owner: address,
    simulated: bool,
}

/// A policy's generations changed: `generation` is sealed for now, `oldest_generation` to `generation` open.
public struct SealPolicyRotated has copy, drop {
    registry: ID,
    policy: ID,
    generation: u64,
    oldest_generation: u64,
    simulated: bool,
}

public struct TicketBought has copy, drop {
    registry: ID,
    policy: ID,
    ticket: ID,
    holder: address,
    session: vector<u8>,
    generation: u64,
    /// Number of this ticket in its generation, from 1.
    number: u64,
    usage_limit: u64,
    expires_ms: u64,
    simulated: bool,
}

public struct SealPolicyMigrated has copy, drop { registry: ID, policy: ID, from: u64, to: u64, simulated: bool }

/// Makes and shares a policy that the sender owns.
public fun create(registry: &Registry, rules: Rules, ctx: &mut TxContext) {
    registry.assert_version();
    let policy = Policy {
        id: object::new(ctx),
        version: version::current(),
        registry: object::id(registry),
        simulated: registry.is_simulated(),
        owner: ctx.sender(),
        rules,
        generation: 1,
        oldest_generation: 1,
        tickets_sold: 0,
    };
    event::emit(SealPolicyCreated {
        registry: policy.registry,
        policy: object::id(&policy),
        owner: policy.owner,
        rules,
        simulated: policy.simulated,
    });
    transfer::share_object(policy);
}

/// Changes the rules. Keys that have been released stay released; tickets that were sold count against the new limit.
public fun set_rules(policy: &mut Policy, rules: Rules, ctx: &TxContext) {
    assert_owner(policy, ctx);
    policy.rules = rules;
    event::emit(SealPolicyChanged {
        registry: policy.registry,
        policy: object::id(policy),
        rules,
        simulated: policy.simulated,
    });
}

/// Gives the policy to another owner.
public fun transfer_ownership(policy: &mut Policy, to: address, ctx: &TxContext) {
    assert_owner(policy, ctx);
    let previous_owner = policy.owner;
    policy.owner = to;
    event::emit(SealPolicyTransferred {
        registry: policy.registry,
        policy: object::id(policy),
        previous_owner,
        owner: to,
        simulated: policy.simulated,
    });
}

/// Begins a new generation with its own count of tickets. The older ones open until they are retired.
public fun rotate(policy: &mut Policy, ctx: &TxContext) {
    assert_owner(policy, ctx);
    policy.generation = policy.generation + 1;
    policy.tickets_sold = 0;
    emit_rotation(policy);
}

/// Closes all generations but the current one: no key of theirs is released any more.
public fun retire_generations(policy: &mut Policy, ctx: &TxContext) {
    assert_owner(policy, ctx);
    policy.oldest_generation = policy.generation;
    emit_rotation(policy);
}

/// Buys the sender a ticket for one id, on the sender's own stake.
public fun buy_ticket(
    policy: &mut Policy,
    pool: &StakePool,
    sealed_id: vector<u8>,
    session: vector<u8>,
    payment: Coin<SUI>,
    clock: &Clock,
    ctx: &mut TxContext,
) {
    policy.rules.assert_open_to_all();
    sell(policy, pool, sealed_id, session, payment, ctx.sender(), clock, ctx);
}

/// Buys a node a ticket for one id, on its operator's stake; the sender must be the node.
public fun buy_ticket_as_node(
    policy: &mut Policy,
    pool: &StakePool,
    node: &Node,
    sealed_id: vector<u8>,
    session: vector<u8>,
    payment: Coin<SUI>,
    clock: &Clock,
    ctx: &mut TxContext,
) {
    assert_node(policy, pool, node, ctx);
    sell(policy, pool, sealed_id, session, payment, node.operator(), clock, ctx);
}

/// Throws a ticket away; what its storage cost comes back.
public fun discard(ticket: Ticket) {
    let Ticket { id, .. } = ticket;
    object::delete(id);
}

/// For Seal key servers: the sender may open `id` by its own stake.
entry fun seal_approve(id: vector<u8>, policy: &Policy, pool: &StakePool, clock: &Clock, ctx: &TxContext) {
    assert_rules(policy, pool, ctx.sender(), clock);
    assert_id(policy, &id);
    policy.rules.assert_open_to_all();
    assert!(policy.rules.usage_limit() == 0, ETicketRequired);
}

/// For Seal key servers: the sender is a node that may open `id`, by its operator's stake.
entry fun seal_approve_node(
    id: vector<u8>,
    policy: &Policy,
    pool: &StakePool,
    node: &Node,
    clock: &Clock,
    ctx: &TxContext,
) {
    assert_node(policy, pool, node, ctx);
    assert_rules(policy, pool, node.operator(), clock);
    assert_id(policy, &id);
    assert!(policy.rules.usage_limit() == 0, ETicketRequired);
}

/// For Seal key servers: the sender holds a ticket for `id` in this session.
entry fun seal_approve_ticket(
    id: vector<u8>,
    session: vector<u8>,
    policy: &Policy,
    pool: &StakePool,
    ticket: &Ticket,
    clock: &Clock,
    ctx: &TxContext,
) {
    assert!(ticket.version == version::current(), EWrongVersion);
    assert_rules(policy, pool, ticket.staker, clock);
    assert_id(policy, &id);
    assert!(ticket.policy == object::id(policy), EWrongTicket);
    assert!(ticket.sealed_id == id && ticket.session == session, EWrongTicket);
    assert!(ticket.holder == ctx.sender(), EWrongTicket);
    assert!(clock.timestamp_ms() < ticket.expires_ms, ETicketExpired);
}

/// For Seal key servers: the owner opens what is being rotated out, to encrypt it again under the new generation.
entry fun seal_approve_rotation(id: vector<u8>, policy: &Policy, ctx: &TxContext) {
    assert_owner(policy, ctx);
    assert!(assert_id(policy, &id) < policy.generation, ENotRotatedOut);
}

/// Brings a policy written by an older version of this package up to this one.
public fun migrate(_: &AdminCap, policy: &mut Policy) {
    let from = policy.version;
    assert!(from < version::current(), EAlreadyMigrated);
    policy.version = version::current();
    event::emit(SealPolicyMigrated {
        registry: policy.registry,
        policy: object::id(policy),
        from,
        to: policy.version,
        simulated: policy.simulated,
    });
}

/// What the ids of this policy's current generation start with.
public fun namespace(policy: &Policy): vector<u8> {
    let mut prefix = bcs::to_bytes(&object::id_address(policy));
    prefix.append(bcs::to_bytes(&policy.generation));
    prefix
}

public fun owner(policy: &Policy): address { policy.owner }

public fun generation(policy: &Policy): u64 { policy.generation }

public fun tickets_sold(policy: &Policy): u64 { policy.tickets_sold }

fun sell(
    policy: &mut Policy,
    pool: &StakePool,
    sealed_id: vector<u8>,
    session: vector<u8>,
    payment: Coin<SUI>,
    staker: address,
    clock: &Clock,
    ctx: &mut TxContext,
) {
    assert_rules(policy, pool, staker, clock);
    assert!(sealed_id.length() <= MAX_ID_LENGTH, EIdTooLong);
    assert!(assert_id(policy, &sealed_id) == policy.generation, EWrongGeneration);
    assert!(session.length() == SESSION_LENGTH, ESessionLength);
    assert!(policy.rules.usage_limit() > 0, ENoTickets);
    assert!(policy.tickets_sold < policy.rules.usage_limit(), ELimitReached);
    assert!(payment.value() == policy.rules.ticket_price_mist(), EWrongPayment);
    if (payment.value() == 0) payment.destroy_zero() else transfer::public_transfer(payment, policy.owner);
    policy.tickets_sold = policy.tickets_sold + 1;
    let ticket = Ticket {
        id: object::new(ctx),
        version: version::current(),
        policy: object::id(policy),
        sealed_id,
        session,
        holder: ctx.sender(),
        staker,
        expires_ms: clock.timestamp_ms() + policy.rules.ticket_ttl_ms(),
    };
    event::emit(TicketBought {
        registry: policy.registry,
        policy: ticket.policy,
        ticket: object::id(&ticket),
        holder: ticket.holder,
        session,
        generation: policy.generation,
        number: policy.tickets_sold,
        usage_limit: policy.rules.usage_limit(),
        expires_ms: ticket.expires_ms,
        simulated: policy.simulated,
    });
    transfer::transfer(ticket, ctx.sender());
}

/// Aborts unless stake and time are as the rules ask.
fun assert_rules(policy: &Policy, pool: &StakePool, staker: address, clock: &Clock) {
    assert!(policy.version == version::current(), EWrongVersion);
    assert!(policy.registry == pool.registry(), EWrongRegistry);
    policy.rules.assert_time(clock.timestamp_ms());
    pool.assert_bonded(staker, policy.rules.required_stake_mist());
}

/// Aborts unless the sender is a node in service that the rules allow.
fun assert_node(policy: &Policy, pool: &StakePool, node: &Node, ctx: &TxContext) {
    node.assert_may_open(pool, ctx);
    policy.rules.assert_allows(object::id_address(node));
}

/// The generation of an id that this policy opens. Aborts on every other id.
fun assert_id(policy: &Policy, id: &vector<u8>): u64 {
    assert!(id.length() >= NAMESPACE_LENGTH, EWrongId);
    let prefix = bcs::to_bytes(&object::id_address(policy));
    let mut i = 0;
    while (i < prefix.length()) {
        assert!(id[i] == prefix[i], EWrongId);
        i = i + 1;
    };
    // The generation's eight bytes, most significant last.
    let mut generation = 0u64;
    let mut at = NAMESPACE_LENGTH;
    while (at > i) {
        at = at - 1;
        generation = generation << 8 | (id[at] as u64);
    };
    assert!(generation >= policy.oldest_generation && generation <= policy.generation, EWrongGeneration);
    generation
}

fun assert_owner(policy: &Policy, ctx: &TxContext) {
    assert!(policy.version == version::current(), EWrongVersion);
    assert!(ctx.sender() == policy.owner, ENotOwner);
}

fun emit_rotation(policy: &Policy) {
    event::emit(SealPolicyRotated {
        registry: policy.registry,
        policy: object::id(policy),
        generation: policy.generation,
        oldest_generation: policy.oldest_generation,
        simulated: policy.simulated,
    });
}
