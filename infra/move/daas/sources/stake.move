/// What operators and voters put at risk: deposit, unbonding, withdrawal, slashing, and what of it counts in a vote.
///
/// Stake is kept in tranches with the time since when they are bound. A vote counts what was bound before the proposal
/// was made and still is, so that stake can't be borrowed for it: neither in one transaction, since getting stake back
/// takes the unbonding time, nor from one address to the next, since a new deposit is too young.
module daas::stake;

use daas::accounts::{Self, Account};
use daas::parameters::{Self, Parameters};
use daas::registry::{AdminCap, Registry};
use daas::version;
use sui::balance::{Self, Balance};
use sui::clock::Clock;
use sui::coin::{Self, Coin};
use sui::event;
use sui::sui::SUI;
use sui::table::{Self, Table};

/// The object was written by another version of this package.
const EWrongVersion: u64 = 0;
/// The object already has this package's version: there is nothing to migrate.
const EAlreadyMigrated: u64 = 1;
/// The pool belongs to another registry.
const EWrongRegistry: u64 = 2;
/// A deposit or withdrawal is over nothing.
const EZeroAmount: u64 = 3;
/// The address has less stake than this takes.
const ENotEnoughStake: u64 = 4;
/// The rest would not cover the nodes of this address: deregister them first.
const EStakeInUse: u64 = 5;
/// No withdrawal of this address has waited long enough.
const ENothingToWithdraw: u64 = 6;
/// The treasury holds less than this.
const ETreasuryTooSmall: u64 = 7;
/// Only a simulated cluster may ask no stake of its operators.
const EStakeRequired: u64 = 8;

const DEPOSITED: u8 = 1;
const WITHDRAWAL_REQUESTED: u8 = 2;
const WITHDRAWN: u8 = 3;
const SLASHED: u8 = 4;

/// The stake of one cluster.
public struct StakePool has key {
    id: UID,
    version: u64,
    registry: ID,
    simulated: bool,
    parameters: Parameters,
    accounts: Table<address, Account>,
    /// All stake, bonded and unbonding.
    funds: Balance<SUI>,
    /// The bonded part of `funds`.
    bonded_mist: u64,
    treasury: Balance<SUI>,
}

/// What an account holds after a change. `reason`: 1 deposited, 2 withdrawal requested, 3 withdrawn, 4 slashed.
public struct StakeChanged has copy, drop {
    registry: ID,
    account: address,
    reason: u8,
    amount_mist: u64,
    bonded_mist: u64,
    unbonding_mist: u64,
    simulated: bool,
}

public struct Slashed has copy, drop {
    registry: ID,
    account: address,
    reporter: address,
    amount_mist: u64,
    reporter_mist: u64,
    treasury_mist: u64,
    simulated: bool,
}

public struct ParametersChanged has copy, drop { registry: ID, parameters: Parameters, simulated: bool }

/// Money came to the treasury other than by slashing.
public struct TreasuryFunded has copy, drop { registry: ID, giver: address, amount_mist: u64, simulated: bool }

public struct TreasurySpent has copy, drop { registry: ID, recipient: address, amount_mist: u64, simulated: bool }

public struct PoolMigrated has copy, drop { registry: ID, from: u64, to: u64, simulated: bool }

/// Binds a coin as the sender's stake.
public fun deposit(pool: &mut StakePool, coin: Coin<SUI>, clock: &Clock, ctx: &TxContext) {
    assert_version(pool);
    let amount_mist = coin.value();
    assert!(amount_mist > 0, EZeroAmount);
    let owner = ctx.sender();
    pool.funds.join(coin.into_balance());
    pool.bonded_mist = pool.bonded_mist + amount_mist;
    account_mut(pool, owner).bind(amount_mist, clock.timestamp_ms());
    emit_change(pool, owner, DEPOSITED, amount_mist);
}

/// Starts the unbonding of some of the sender's stake. It can still be slashed until it is withdrawn.
public fun request_withdraw(pool: &mut StakePool, amount_mist: u64, clock: &Clock, ctx: &TxContext) {
    assert_version(pool);
    assert!(amount_mist > 0, EZeroAmount);
    let owner = ctx.sender();
    let bonded_mist = bonded(pool, owner);
    assert!(amount_mist <= bonded_mist, ENotEnoughStake);
    let node_minimum_mist = pool.parameters.node_minimum_mist();
    let unbonding_ms = pool.parameters.unbonding_ms();
    pool.bonded_mist = pool.bonded_mist - amount_mist;
    let account = &mut pool.accounts[owner];
    assert!(covers(bonded_mist - amount_mist, account.nodes(), node_minimum_mist), EStakeInUse);
    account.request(amount_mist, clock.timestamp_ms(), unbonding_ms);
    emit_change(pool, owner, WITHDRAWAL_REQUESTED, amount_mist);
}

/// Hands out what the sender asked for and has waited for.
public fun withdraw(pool: &mut StakePool, clock: &Clock, ctx: &mut TxContext): Coin<SUI> {
    assert_version(pool);
    let owner = ctx.sender();
    assert!(pool.accounts.contains(owner), ENothingToWithdraw);
    let amount_mist = pool.accounts.borrow_mut(owner).take_free(clock.timestamp_ms());
    assert!(amount_mist > 0, ENothingToWithdraw);
    emit_change(pool, owner, WITHDRAWN, amount_mist);
    forget_if_empty(pool, owner);
    coin::from_balance(pool.funds.split(amount_mist), ctx)
}

/// Adds to what the stakers can spend together.
public fun fund_treasury(pool: &mut StakePool, coin: Coin<SUI>, ctx: &TxContext) {
    assert_version(pool);
    let amount_mist = coin.value();
    assert!(amount_mist > 0, EZeroAmount);
    pool.treasury.join(coin.into_balance());
    event::emit(TreasuryFunded {
        registry: pool.registry,
        giver: ctx.sender(),
        amount_mist,
        simulated: pool.simulated,
    });
}

/// Changes the parameters of a cluster that has not been handed over. Withdrawals that wait keep their time.
public fun set_parameters(_: &AdminCap, registry: &Registry, pool: &mut StakePool, parameters: Parameters) {
    registry.assert_not_governed();
    assert_of(pool, registry);
    change_parameters(pool, parameters);
}

/// Brings a pool written by an older version of this package up to this one.
public fun migrate(_: &AdminCap, pool: &mut StakePool) {
    let from = pool.version;
    assert!(from < version::current(), EAlreadyMigrated);
    pool.version = version::current();
    event::emit(PoolMigrated { registry: pool.registry, from, to: pool.version, simulated: pool.simulated });
}

/// What an address has bonded now.
public fun bonded(pool: &StakePool, owner: address): u64 {
    if (!pool.accounts.contains(owner)) return 0;
    pool.accounts[owner].bonded()
}

/// What is on its way out of an address's stake, slashable until it is withdrawn.
public fun unbonding(pool: &StakePool, owner: address): u64 {
    if (!pool.accounts.contains(owner)) return 0;
    pool.accounts[owner].unbonding()
}

/// What of an address's stake has been bonded since before a time: its weight in a vote that began then.
public fun bonded_since(pool: &StakePool, owner: address, snapshot_ms: u64): u64 {
    if (!pool.accounts.contains(owner)) return 0;
    pool.accounts[owner].bonded_since(snapshot_ms)
}

/// Nodes that an address's stake stands for.
public fun nodes_of(pool: &StakePool, owner: address): u64 {
    if (!pool.accounts.contains(owner)) return 0;
    pool.accounts[owner].nodes()
}

public fun total_bonded(pool: &StakePool): u64 { pool.bonded_mist }

public fun treasury_value(pool: &StakePool): u64 { pool.treasury.value() }

public fun parameters(pool: &StakePool): Parameters { pool.parameters }

public fun registry(pool: &StakePool): ID { pool.registry }

public fun is_simulated(pool: &StakePool): bool { pool.simulated }

/// Makes and shares the pool of a new registry; its id.
public(package) fun create(registry: &Registry, parameters: Parameters, ctx: &mut TxContext): address {
    let pool = StakePool {
        id: object::new(ctx),
        version: version::current(),
        registry: object::id(registry),
        simulated: registry.is_simulated(),
        parameters,
        accounts: table::new(ctx),
        funds: balance::zero(),
        bonded_mist: 0,
        treasury: balance::zero(),
    };
    assert_fit(&pool, &parameters);
    let pool_address = object::id_address(&pool);
    transfer::share_object(pool);
    pool_address
}

public(package) fun assert_version(pool: &StakePool) {
    assert!(pool.version == version::current(), EWrongVersion);
}

public(package) fun assert_of(pool: &StakePool, registry: &Registry) {
    assert_version(pool);
    assert!(pool.registry == object::id(registry), EWrongRegistry);
}

/// Aborts unless an address has at least this much bonded.
public(package) fun assert_bonded(pool: &StakePool, owner: address, minimum_mist: u64) {
    assert_version(pool);
    assert!(bonded(pool, owner) >= minimum_mist, ENotEnoughStake);
}

/// Binds an operator's stake to a key until it expires. Aborts where the stake is below the operators' minimum.
public(package) fun answer_for_key(pool: &mut StakePool, operator: address, expires_ms: u64) {
    assert_bonded(pool, operator, pool.parameters.operator_minimum_mist());
    if (!pool.accounts.contains(operator)) return;
    pool.accounts.borrow_mut(operator).answer_until(expires_ms);
}

/// Counts one more node on an operator's stake. Aborts where the stake does not cover it.
public(package) fun add_node(pool: &mut StakePool, operator: address) {
    assert_version(pool);
    let bonded_mist = bonded(pool, operator);
    let minimum_mist = pool.parameters.node_minimum_mist();
    let account = account_mut(pool, operator);
    account.add_node();
    assert!(covers(bonded_mist, account.nodes(), minimum_mist), ENotEnoughStake);
}

public(package) fun remove_node(pool: &mut StakePool, operator: address) {
    assert_version(pool);
    pool.accounts.borrow_mut(operator).remove_node();
    forget_if_empty(pool, operator);
}

/// Aborts unless an operator's stake still covers all its nodes: a slash or a raised minimum may have changed that.
public(package) fun assert_covers_nodes(pool: &StakePool, operator: address) {
    assert_version(pool);
    assert!(
        covers(bonded(pool, operator), nodes_of(pool, operator), pool.parameters.node_minimum_mist()),
        ENotEnoughStake,
    );
}

/// Takes `bps` of all an address has here, what is unbonding included: a share goes to the reporter, the rest to the
/// treasury. Returns how much it was.
public(package) fun slash(
    pool: &mut StakePool,
    offender: address,
    bps: u64,
    reporter: address,
    ctx: &mut TxContext,
): u64 {
    assert_version(pool);
    if (!pool.accounts.contains(offender)) return 0;
    let account = pool.accounts.borrow_mut(offender);
    let amount_mist = parameters::share(account.bonded() + account.unbonding(), bps);
    if (amount_mist == 0) return 0;
    let from_bonded_mist = account.slash(amount_mist);
    pool.bonded_mist = pool.bonded_mist - from_bonded_mist;
    let reporter_mist = parameters::share(amount_mist, pool.parameters.reporter_bps());
    if (reporter_mist > 0) {
        transfer::public_transfer(coin::from_balance(pool.funds.split(reporter_mist), ctx), reporter);
    };
    let treasury_mist = amount_mist - reporter_mist;
    let kept = pool.funds.split(treasury_mist);
    pool.treasury.join(kept);
    event::emit(Slashed {
        registry: pool.registry,
        account: offender,
        reporter,
        amount_mist,
        reporter_mist,
        treasury_mist,
        simulated: pool.simulated,
    });
    emit_change(pool, offender, SLASHED, amount_mist);
    forget_if_empty(pool, offender);
    amount_mist
}

public(package) fun change_parameters(pool: &mut StakePool, parameters: Parameters) {
    assert_version(pool);
    assert_fit(pool, &parameters);
    pool.parameters = parameters;
    event::emit(ParametersChanged { registry: pool.registry, parameters, simulated: pool.simulated });
}

public(package) fun spend_treasury(pool: &mut StakePool, amount_mist: u64, recipient: address, ctx: &mut TxContext) {
    assert_version(pool);
    assert!(amount_mist <= pool.treasury.value(), ETreasuryTooSmall);
    transfer::public_transfer(coin::from_balance(pool.treasury.split(amount_mist), ctx), recipient);
    event::emit(TreasurySpent { registry: pool.registry, recipient, amount_mist, simulated: pool.simulated });
}

fun assert_fit(pool: &StakePool, parameters: &Parameters) {
    assert!(pool.simulated || parameters.operator_minimum_mist() > 0, EStakeRequired);
}

fun account_mut(pool: &mut StakePool, owner: address): &mut Account {
    if (!pool.accounts.contains(owner)) {
        pool.accounts.add(owner, accounts::new());
    };
    pool.accounts.borrow_mut(owner)
}

/// An account that holds nothing and stands for nothing is deleted, and what its storage cost is given back.
fun forget_if_empty(pool: &mut StakePool, owner: address) {
    if (pool.accounts[owner].is_empty()) {
        pool.accounts.remove(owner);
    }
}

fun covers(bonded_mist: u64, nodes: u64, minimum_mist: u64): bool {
    (bonded_mist as u128) >= (nodes as u128) * (minimum_mist as u128)
}

fun emit_change(pool: &StakePool, owner: address, reason: u8, amount_mist: u64) {
    event::emit(StakeChanged {
        registry: pool.registry,
        account: owner,
        reason,
        amount_mist,
        bonded_mist: bonded(pool, owner),
        unbonding_mist: unbonding(pool, owner),
        simulated: pool.simulated,
    });
}
