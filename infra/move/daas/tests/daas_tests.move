/// The package on the real Move virtual machine: the flows in which balances, tables, shared and deleted objects meet.
/// What every single function refuses is tested on the committed bytecode, from Python.
#[test_only]
module daas::daas_tests;

use daas::cluster;
use daas::enclaves::{Self, Enclave};
use daas::governance::{Self, Proposal};
use daas::nodes::{Self, Node, Roster};
use daas::parameters::{Self, Parameters};
use daas::placement;
use daas::policy::{Self, Policy, Ticket};
use daas::registry::{Self, AdminCap, Registry, RevokerCap};
use daas::rules;
use daas::stake::{Self, StakePool};
use std::bcs;
use sui::clock::{Self, Clock};
use sui::coin::{Self, Coin};
use sui::sui::SUI;
use sui::test_scenario::{Self as scenario, Scenario};

const OPERATOR: address = @0x5;
const REPORTER: address = @0x6;
const MACHINE: address = @0xA;
const NOW_MS: u64 = 1_732_260_000_000;
const DAY_MS: u64 = 86_400_000;
const DIGEST: vector<u8> = x"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";
const SIGNATURE: vector<u8> =
    x"00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
const PCR: vector<u8> =
    x"010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101";

fun numbers(operator_minimum_mist: u64): Parameters {
    parameters::new(operator_minimum_mist, 100, 10, 10 * DAY_MS, 5_000, 1_000, 3_000, 5 * DAY_MS, 2 * DAY_MS)
}

/// A simulated cluster, made by the operator.
fun begin(operator_minimum_mist: u64): (Scenario, Clock) {
    let mut test = scenario::begin(OPERATOR);
    registry::init_for_testing(test.ctx());
    let mut clock = clock::create_for_testing(test.ctx());
    clock.set_for_testing(NOW_MS);
    test.next_tx(OPERATOR);
    let cap = test.take_from_sender<AdminCap>();
    let limits = numbers(operator_minimum_mist);
    let pcr = PCR;
    cluster::create(
        &cap, true, DIGEST, DIGEST, pcr, pcr, pcr, 3_600_000, 300_000, 86_400_000, 60_000, limits, test.ctx(),
    );
    test.return_to_sender(cap);
    test.next_tx(OPERATOR);
    (test, clock)
}

fun end(test: Scenario, clock: Clock) {
    clock.destroy_for_testing();
    test.end();
}

fun deposit(test: &mut Scenario, clock: &Clock, owner: address, amount_mist: u64) {
    test.next_tx(owner);
    let mut pool = test.take_shared<StakePool>();
    let coin = coin::mint_for_testing<SUI>(amount_mist, test.ctx());
    pool.deposit(coin, clock, test.ctx());
    scenario::return_shared(pool);
    test.next_tx(owner);
}

fun register(test: &mut Scenario, clock: &Clock) {
    test.next_tx(OPERATOR);
    let cap = test.take_from_sender<AdminCap>();
    let mut registry = test.take_shared<Registry>();
    let mut pool = test.take_shared<StakePool>();
    let nonce = registry.nonce();
    let pcr = PCR;
    enclaves::register_simulated(
        &cap, &mut registry, &mut pool, DIGEST, pcr, pcr, pcr, nonce, DIGEST, clock, test.ctx(),
    );
    test.return_to_sender(cap);
    scenario::return_shared(registry);
    scenario::return_shared(pool);
    test.next_tx(OPERATOR);
}

#[test]
fun stake_is_given_back_after_its_time() {
    let (mut test, mut clock) = begin(1_000);
    deposit(&mut test, &clock, OPERATOR, 700);
    let mut pool = test.take_shared<StakePool>();
    assert!(pool.bonded_since(OPERATOR, NOW_MS) == 0);
    assert!(pool.bonded_since(OPERATOR, NOW_MS + 1) == 700);
    pool.request_withdraw(300, &clock, test.ctx());
    assert!(pool.bonded(OPERATOR) == 400 && pool.unbonding(OPERATOR) == 300 && pool.total_bonded() == 400);
    clock.increment_for_testing(10 * DAY_MS);
    let coin = pool.withdraw(&clock, test.ctx());
    assert!(coin.burn_for_testing() == 300);
    pool.request_withdraw(400, &clock, test.ctx());
    clock.increment_for_testing(10 * DAY_MS);
    assert!(pool.withdraw(&clock, test.ctx()).burn_for_testing() == 400);
    assert!(pool.bonded(OPERATOR) == 0);
    scenario::return_shared(pool);
    end(test, clock);
}

#[test, expected_failure(abort_code = daas::stake::ENothingToWithdraw)]
fun stake_is_not_given_back_a_millisecond_early() {
    let (mut test, mut clock) = begin(1_000);
    deposit(&mut test, &clock, OPERATOR, 700);
    let mut pool = test.take_shared<StakePool>();
    pool.request_withdraw(300, &clock, test.ctx());
    clock.increment_for_testing(10 * DAY_MS - 1);
    pool.withdraw(&clock, test.ctx()).burn_for_testing();
    abort 0
}

#[test, expected_failure(abort_code = daas::stake::ENotEnoughStake)]
fun an_operator_below_the_minimum_registers_nothing() {
    let (mut test, clock) = begin(1_000);
    deposit(&mut test, &clock, OPERATOR, 999);
    register(&mut test, &clock);
    abort 0
}

#[test]
fun a_key_is_revoked_and_its_stake_answers_for_it() {
    let (mut test, mut clock) = begin(1_000);
    deposit(&mut test, &clock, OPERATOR, 1_000);
    register(&mut test, &clock);
    let registry = test.take_shared<Registry>();
    let mut pool = test.take_shared<StakePool>();
    let mut enclave = test.take_shared<Enclave>();
    let cap = test.take_from_sender<RevokerCap>();
    enclave.assert_current(&registry, &clock);
    enclaves::revoke(&cap, &mut enclave);
    assert!(enclave.is_revoked());
    pool.request_withdraw(1_000, &clock, test.ctx());
    // The key would have lived for an hour: the unbonding time begins after it.
    clock.increment_for_testing(3_600_000 + 10 * DAY_MS);
    assert!(pool.withdraw(&clock, test.ctx()).burn_for_testing() == 1_000);
    test.return_to_sender(cap);
    scenario::return_shared(registry);
    scenario::return_shared(pool);
    scenario::return_shared(enclave);
    end(test, clock);
}

/// BCS of a batch for this registry.
fun payload(registry: &Registry, sequence: u64, count: u32): vector<u8> {
    let digest = DIGEST;
    let mut bytes = bcs::to_bytes(&digest);
    bytes.append(bcs::to_bytes(&object::id_address(registry)));
    bytes.append(bcs::to_bytes(&sequence));
    bytes.append(bcs::to_bytes(&digest));
    bytes.append(bcs::to_bytes(&9u64));
    let mut roots = 0;
    while (roots < 4) {
        bytes.append(bcs::to_bytes(&digest));
        roots = roots + 1;
    };
    bytes.append(bcs::to_bytes(&count));
    bytes.append(bcs::to_bytes(&NOW_MS));
    bytes
}

fun report(first_sequence: u64, second_sequence: u64, second_count: u32) {
    let (mut test, clock) = begin(0);
    register(&mut test, &clock);
    let registry = test.take_shared<Registry>();
    let mut pool = test.take_shared<StakePool>();
    let mut enclave = test.take_shared<Enclave>();
    let first = payload(&registry, first_sequence, 3);
    let second = payload(&registry, second_sequence, second_count);
    placement::report_equivocation(
        &registry, &mut pool, &mut enclave, NOW_MS, first, SIGNATURE, NOW_MS, second, SIGNATURE, test.ctx(),
    );
    clock.destroy_for_testing();
    abort 0
}

#[test, expected_failure(abort_code = daas::placement::ESamePayload)]
fun one_payload_is_no_contradiction() { report(1, 1, 3) }

#[test, expected_failure(abort_code = daas::placement::EDifferentSequences)]
fun two_numbers_are_no_contradiction() { report(1, 2, 3) }

#[test, expected_failure(abort_code = daas::enclaves::EBadSignature)]
fun two_payloads_without_signatures_are_no_proof() { report(1, 1, 4) }

#[test]
fun a_node_comes_and_goes() {
    let (mut test, clock) = begin(0);
    deposit(&mut test, &clock, OPERATOR, 100);
    let mut roster = test.take_shared<Roster>();
    let mut pool = test.take_shared<StakePool>();
    nodes::register(&mut roster, &mut pool, b"worker-1", MACHINE, &clock, test.ctx());
    test.next_tx(MACHINE);
    let mut node = test.take_shared<Node>();
    node.heartbeat(&pool, &clock, test.ctx());
    nodes::seal_approve_join(roster.join_token_id(), &roster, &pool, &node, test.ctx());
    test.next_tx(OPERATOR);
    node.drain(test.ctx());
    assert!(node.is_draining() && pool.nodes_of(OPERATOR) == 1);
    nodes::deregister(&mut roster, &mut pool, node, test.ctx());
    assert!(pool.nodes_of(OPERATOR) == 0);
    nodes::register(&mut roster, &mut pool, b"worker-1", MACHINE, &clock, test.ctx());
    scenario::return_shared(roster);
    scenario::return_shared(pool);
    end(test, clock);
}

#[test, expected_failure(abort_code = daas::stake::EStakeInUse)]
fun stake_under_a_node_stays() {
    let (mut test, clock) = begin(0);
    deposit(&mut test, &clock, OPERATOR, 100);
    let mut roster = test.take_shared<Roster>();
    let mut pool = test.take_shared<StakePool>();
    nodes::register(&mut roster, &mut pool, b"worker-1", MACHINE, &clock, test.ctx());
    pool.request_withdraw(1, &clock, test.ctx());
    abort 0
}

/// A policy with one ticket at 25 MIST, made by the operator.
fun limited(test: &mut Scenario): Policy {
    let registry = test.take_shared<Registry>();
    policy::create(&registry, rules::new(0, vector[], 0, 0, 1, 25, 60_000), test.ctx());
    scenario::return_shared(registry);
    test.next_tx(REPORTER);
    test.take_shared<Policy>()
}

#[test]
fun a_ticket_opens_what_it_was_bought_for() {
    let (mut test, clock) = begin(0);
    let mut policy = limited(&mut test);
    let pool = test.take_shared<StakePool>();
    let id = policy.namespace();
    policy.buy_ticket(&pool, id, DIGEST, coin::mint_for_testing<SUI>(25, test.ctx()), &clock, test.ctx());
    test.next_tx(REPORTER);
    let ticket = test.take_from_sender<Ticket>();
    policy::seal_approve_ticket(id, DIGEST, &policy, &pool, &ticket, &clock, test.ctx());
    policy::discard(ticket);
    test.next_tx(OPERATOR);
    let paid = test.take_from_sender<Coin<SUI>>();
    assert!(paid.burn_for_testing() == 25);
    policy.rotate(test.ctx());
    policy::seal_approve_rotation(id, &policy, test.ctx());
    assert!(policy.generation() == 2 && policy.tickets_sold() == 0 && policy.namespace() != id);
    scenario::return_shared(policy);
    scenario::return_shared(pool);
    end(test, clock);
}

#[test, expected_failure(abort_code = daas::policy::ELimitReached)]
fun a_limit_of_one_sells_one_ticket() {
    let (mut test, clock) = begin(0);
    let mut policy = limited(&mut test);
    let pool = test.take_shared<StakePool>();
    let id = policy.namespace();
    policy.buy_ticket(&pool, id, DIGEST, coin::mint_for_testing<SUI>(25, test.ctx()), &clock, test.ctx());
    policy.buy_ticket(&pool, id, DIGEST, coin::mint_for_testing<SUI>(25, test.ctx()), &clock, test.ctx());
    abort 0
}

#[test, expected_failure(abort_code = daas::policy::EWrongGeneration)]
fun a_generation_to_come_opens_to_nobody() {
    let (mut test, clock) = begin(0);
    let policy = limited(&mut test);
    let pool = test.take_shared<StakePool>();
    let mut id = bcs::to_bytes(&object::id_address(&policy));
    id.append(bcs::to_bytes(&258u64));
    policy::seal_approve(id, &policy, &pool, &clock, test.ctx());
    abort 0
}

/// Proposes to spend 30 from the treasury of 50, to the reporter; the clock stands a day after the deposits.
fun proposed(): (Scenario, Clock, Proposal) {
    let (mut test, mut clock) = begin(0);
    deposit(&mut test, &clock, OPERATOR, 600);
    deposit(&mut test, &clock, REPORTER, 400);
    clock.increment_for_testing(DAY_MS);
    test.next_tx(OPERATOR);
    let cap = test.take_from_sender<AdminCap>();
    let mut registry = test.take_shared<Registry>();
    let mut pool = test.take_shared<StakePool>();
    registry::hand_over(&cap, &mut registry);
    pool.fund_treasury(coin::mint_for_testing<SUI>(50, test.ctx()), test.ctx());
    governance::propose(&registry, &pool, governance::spend_treasury(30, REPORTER), &clock, test.ctx());
    test.return_to_sender(cap);
    scenario::return_shared(registry);
    scenario::return_shared(pool);
    test.next_tx(OPERATOR);
    let proposal = test.take_shared<Proposal>();
    (test, clock, proposal)
}

#[test]
fun stakers_spend_what_is_theirs() {
    let (mut test, mut clock, mut proposal) = proposed();
    let mut registry = test.take_shared<Registry>();
    let mut pool = test.take_shared<StakePool>();
    proposal.vote(&pool, true, &clock, test.ctx());
    test.next_tx(REPORTER);
    proposal.vote(&pool, false, &clock, test.ctx());
    assert!(proposal.is_accepted());
    clock.increment_for_testing(7 * DAY_MS);
    proposal.execute(&mut registry, &mut pool, &clock, test.ctx());
    assert!(pool.treasury_value() == 20);
    test.next_tx(REPORTER);
    assert!(test.take_from_sender<Coin<SUI>>().burn_for_testing() == 30);
    scenario::return_shared(proposal);
    scenario::return_shared(registry);
    scenario::return_shared(pool);
    end(test, clock);
}

#[test, expected_failure(abort_code = daas::governance::ENoWeight)]
fun a_deposit_after_the_proposal_does_not_vote() {
    let (mut test, clock, mut proposal) = proposed();
    deposit(&mut test, &clock, MACHINE, 1_000);
    let pool = test.take_shared<StakePool>();
    proposal.vote(&pool, true, &clock, test.ctx());
    abort 0
}

#[test, expected_failure(abort_code = daas::governance::ETooEarly)]
fun a_proposal_waits() {
    let (mut test, mut clock, mut proposal) = proposed();
    let mut registry = test.take_shared<Registry>();
    let mut pool = test.take_shared<StakePool>();
    proposal.vote(&pool, true, &clock, test.ctx());
    clock.increment_for_testing(7 * DAY_MS - 1);
    proposal.execute(&mut registry, &mut pool, &clock, test.ctx());
    abort 0
}

#[test, expected_failure(abort_code = daas::registry::EGoverned)]
fun what_was_handed_over_is_not_the_admins_any_more() {
    let (test, _clock, _proposal) = proposed();
    let cap = test.take_from_sender<AdminCap>();
    let mut registry = test.take_shared<Registry>();
    registry::set_policy(&cap, &mut registry, DIGEST);
    abort 0
}

#[test]
fun shares_are_rounded_down() {
    assert!(parameters::share(18_446_744_073_709_551_615, 10_000) == 18_446_744_073_709_551_615);
    assert!(parameters::share(3, 3_333) == 0);
    assert!(stake_is_typed());
}

fun stake_is_typed(): bool { numbers(7).operator_minimum_mist() == 7 }
