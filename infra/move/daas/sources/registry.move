/// The shared object of one cluster: what its enclaves must measure, the nonce they attest for, the head of the chain
/// of decisions, and the capabilities that govern it until stake does.
module daas::registry;

use daas::measurements::{Self, Measurement, Measurements};
use daas::version;
use std::bcs;
use sui::event;
use sui::hash;

/// The object was written by another version of this package: migrate it, or call the package that wrote it.
const EWrongVersion: u64 = 0;
/// The object already has this package's version: there is nothing to migrate.
const EAlreadyMigrated: u64 = 1;
/// A digest (chain, policy) must have 32 bytes.
const EDigestLength: u64 = 2;
/// A time limit is zero, or longer than a year.
const EInvalidLimit: u64 = 3;
/// The cluster has been handed over to its stakers: only a proposal they accept can change this.
const EGoverned: u64 = 4;
/// The cluster has not been handed over: what its stakers accept is advice to the holder of the AdminCap.
const ENotGoverned: u64 = 5;

const DIGEST_LENGTH: u64 = 32;
/// 366 days: far above any sane setting, and no sum with a clock value can overflow.
const MAX_LIMIT_MS: u64 = 31_622_400_000;

/// Creates registries and changes their measurements, limits, policy and stake parameters until they are handed over.
public struct AdminCap has key, store { id: UID }

/// Revokes enclaves, and nothing else: it can lie on a machine that watches for misbehaviour.
public struct RevokerCap has key, store { id: UID }

/// Time limits, all in milliseconds.
public struct Limits has copy, drop, store {
    /// How long a registration lasts.
    registration_ttl_ms: u64,
    /// How old an attestation document may be when it is registered.
    document_age_ms: u64,
    /// How long after its signing time a batch may be anchored. Generous: a batch that is made again after an outage of
    /// the relay has the same signing time, and the chain of decisions can't go around it.
    batch_age_ms: u64,
    /// How far a signing time may lie ahead of the chain's clock.
    future_skew_ms: u64,
}

/// The shared object of one cluster.
public struct Registry has key {
    id: UID,
    version: u64,
    /// Fixed at creation: enclaves of this cluster are stand-ins without hardware behind them.
    simulated: bool,
    /// Whether the AdminCap has given up its say over this cluster. Never goes back to false.
    governed: bool,
    /// Genesis checkpoint digest of the chain this object lives on.
    chain: vector<u8>,
    /// Digest of the policy that enclaves must attest to run.
    policy: vector<u8>,
    measurements: Measurements,
    limits: Limits,
    /// What the next attestation document must carry; rotates with each registration.
    nonce: vector<u8>,
    /// Number of the newest anchored batch; 0 before the first.
    sequence: u64,
    /// Payload digest of the newest anchored batch; 32 zero bytes before the first.
    head: vector<u8>,
    /// Last log entry folded by the newest anchored batch; 0 before the first.
    log_sequence: u64,
    /// The cluster's StakePool.
    pool: address,
    /// The cluster's Roster of nodes.
    roster: address,
}

public struct RegistryCreated has copy, drop {
    registry: ID,
    simulated: bool,
    chain: vector<u8>,
    policy: vector<u8>,
    nonce: vector<u8>,
    pool: address,
    roster: address,
}

/// A measurement was allowed (`allowed`) or is allowed no more.
public struct MeasurementsChanged has copy, drop {
    registry: ID,
    version: u64,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
    allowed: bool,
    simulated: bool,
}

public struct LimitsChanged has copy, drop {
    registry: ID,
    registration_ttl_ms: u64,
    document_age_ms: u64,
    batch_age_ms: u64,
    future_skew_ms: u64,
    simulated: bool,
}

public struct PolicyChanged has copy, drop { registry: ID, policy: vector<u8>, simulated: bool }

public struct NonceRotated has copy, drop { registry: ID, nonce: vector<u8>, simulated: bool }

/// From now on only proposals change the cluster's settings.
public struct HandedOver has copy, drop { registry: ID, simulated: bool }

public struct RegistryMigrated has copy, drop { registry: ID, from: u64, to: u64, simulated: bool }

fun init(ctx: &mut TxContext) {
    transfer::transfer(AdminCap { id: object::new(ctx) }, ctx.sender());
    transfer::transfer(RevokerCap { id: object::new(ctx) }, ctx.sender());
}

/// Allows one more enclave image; enclaves of the others stay current.
public fun allow_measurement(
    _: &AdminCap,
    registry: &mut Registry,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
) {
    assert_not_governed(registry);
    add_measurement(registry, pcr0, pcr1, pcr2);
}

/// Takes an image from the allowed set: its enclaves can anchor nothing from now on.
public fun retire_measurement(_: &AdminCap, registry: &mut Registry, version: u64) {
    assert_not_governed(registry);
    remove_measurement(registry, version);
}

/// Changes the time limits; registrations that exist keep their expiry.
public fun set_limits(
    _: &AdminCap,
    registry: &mut Registry,
    registration_ttl_ms: u64,
    document_age_ms: u64,
    batch_age_ms: u64,
    future_skew_ms: u64,
) {
    assert_not_governed(registry);
    change_limits(registry, limits(registration_ttl_ms, document_age_ms, batch_age_ms, future_skew_ms));
}

/// Changes the policy that enclaves registered from now on must have attested.
public fun set_policy(_: &AdminCap, registry: &mut Registry, policy: vector<u8>) {
    assert_not_governed(registry);
    change_policy(registry, policy);
}

/// Gives up the AdminCap's say over this cluster's settings, for good.
public fun hand_over(_: &AdminCap, registry: &mut Registry) {
    assert_not_governed(registry);
    registry.governed = true;
    event::emit(HandedOver { registry: object::id(registry), simulated: registry.simulated });
}

/// Brings a registry written by an older version of this package up to this one.
public fun migrate(_: &AdminCap, registry: &mut Registry) {
    let from = registry.version;
    assert!(from < version::current(), EAlreadyMigrated);
    registry.version = version::current();
    event::emit(RegistryMigrated {
        registry: object::id(registry),
        from,
        to: registry.version,
        simulated: registry.simulated,
    });
}

/// Time limits. Aborts where one is zero or longer than a year.
public fun limits(
    registration_ttl_ms: u64,
    document_age_ms: u64,
    batch_age_ms: u64,
    future_skew_ms: u64,
): Limits {
    assert_limit(registration_ttl_ms);
    assert_limit(document_age_ms);
    assert_limit(batch_age_ms);
    assert_limit(future_skew_ms);
    Limits { registration_ttl_ms, document_age_ms, batch_age_ms, future_skew_ms }
}

public fun is_simulated(registry: &Registry): bool { registry.simulated }

public fun is_governed(registry: &Registry): bool { registry.governed }

public fun chain(registry: &Registry): vector<u8> { registry.chain }

public fun policy(registry: &Registry): vector<u8> { registry.policy }

public fun nonce(registry: &Registry): vector<u8> { registry.nonce }

public fun sequence(registry: &Registry): u64 { registry.sequence }

public fun head(registry: &Registry): vector<u8> { registry.head }

public fun log_sequence(registry: &Registry): u64 { registry.log_sequence }

public fun registration_ttl_ms(registry: &Registry): u64 { registry.limits.registration_ttl_ms }

public fun document_age_ms(registry: &Registry): u64 { registry.limits.document_age_ms }

public fun batch_age_ms(registry: &Registry): u64 { registry.limits.batch_age_ms }

public fun future_skew_ms(registry: &Registry): u64 { registry.limits.future_skew_ms }

/// What an attestation document for this registry must carry as user data: h(chain || registry || policy).
public fun attested_binding(registry: &Registry): vector<u8> {
    let mut binding = registry.chain;
    binding.append(bcs::to_bytes(&object::id_address(registry)));
    binding.append(registry.policy);
    hash::blake2b256(&binding)
}

/// The number of the allowed measurement with exactly these PCRs; 0 when there is none.
public fun measurement_of(
    registry: &Registry,
    pcr0: &vector<u8>,
    pcr1: &vector<u8>,
    pcr2: &vector<u8>,
): u64 {
    registry.measurements.number_of(pcr0, pcr1, pcr2)
}

/// Whether the measurement with this number is allowed now.
public fun is_allowed(registry: &Registry, version: u64): bool { registry.measurements.contains(version) }

/// A registry without its pool and roster, which need its id: `share` completes it.
public(package) fun new(
    simulated: bool,
    chain: vector<u8>,
    policy: vector<u8>,
    limits: Limits,
    ctx: &mut TxContext,
): Registry {
    assert!(chain.length() == DIGEST_LENGTH, EDigestLength);
    assert!(policy.length() == DIGEST_LENGTH, EDigestLength);
    let id = object::new(ctx);
    let mut registry = Registry {
        id,
        version: version::current(),
        simulated,
        governed: false,
        chain,
        policy,
        measurements: measurements::none(),
        limits,
        nonce: vector[],
        sequence: 0,
        head: x"0000000000000000000000000000000000000000000000000000000000000000",
        log_sequence: 0,
        pool: @0x0,
        roster: @0x0,
    };
    // The object id is derived from the digest of this very transaction: nobody could have attested for it before.
    let mut seed = bcs::to_bytes(&object::id_address(&registry));
    seed.append(registry.chain);
    registry.nonce = hash::blake2b256(&seed);
    registry
}

/// Completes a new registry with one allowed measurement and shares it.
public(package) fun share(
    mut registry: Registry,
    pool: address,
    roster: address,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
) {
    registry.pool = pool;
    registry.roster = roster;
    event::emit(RegistryCreated {
        registry: object::id(&registry),
        simulated: registry.simulated,
        chain: registry.chain,
        policy: registry.policy,
        nonce: registry.nonce,
        pool,
        roster,
    });
    add_measurement(&mut registry, pcr0, pcr1, pcr2);
    transfer::share_object(registry);
}

public(package) fun assert_version(registry: &Registry) {
    assert!(registry.version == version::current(), EWrongVersion);
}

/// Aborts where the AdminCap has no say any more.
public(package) fun assert_not_governed(registry: &Registry) {
    assert_version(registry);
    assert!(!registry.governed, EGoverned);
}

/// Aborts where the stakers have no say yet: a little stake in a young pool must not be worth a cluster.
public(package) fun assert_governed(registry: &Registry) {
    assert_version(registry);
    assert!(registry.governed, ENotGoverned);
}

public(package) fun add_measurement(registry: &mut Registry, pcr0: vector<u8>, pcr1: vector<u8>, pcr2: vector<u8>) {
    assert_version(registry);
    let measurement = registry.measurements.allow(pcr0, pcr1, pcr2);
    emit_measurement(registry, &measurement, true);
}

public(package) fun remove_measurement(registry: &mut Registry, version: u64) {
    assert_version(registry);
    let measurement = registry.measurements.retire(version);
    emit_measurement(registry, &measurement, false);
}

public(package) fun change_limits(registry: &mut Registry, limits: Limits) {
    assert_version(registry);
    registry.limits = limits;
    event::emit(LimitsChanged {
        registry: object::id(registry),
        registration_ttl_ms: limits.registration_ttl_ms,
        document_age_ms: limits.document_age_ms,
        batch_age_ms: limits.batch_age_ms,
        future_skew_ms: limits.future_skew_ms,
        simulated: registry.simulated,
    });
}

public(package) fun change_policy(registry: &mut Registry, policy: vector<u8>) {
    assert_version(registry);
    assert!(policy.length() == DIGEST_LENGTH, EDigestLength);
    registry.policy = policy;
    event::emit(PolicyChanged { registry: object::id(registry), policy, simulated: registry.simulated });
}

/// The next nonce is h(nonce || public key): known to nobody before this registration is final.
public(package) fun rotate_nonce(registry: &mut Registry, public_key: &vector<u8>) {
    let mut seed = registry.nonce;
    seed.append(*public_key);
    registry.nonce = hash::blake2b256(&seed);
    event::emit(NonceRotated {
        registry: object::id(registry),
        nonce: registry.nonce,
        simulated: registry.simulated,
    });
}

public(package) fun advance(registry: &mut Registry, head: vector<u8>, log_sequence: u64) {
    registry.sequence = registry.sequence + 1;
    registry.head = head;
    registry.log_sequence = log_sequence;
}

fun assert_limit(limit_ms: u64) {
    assert!(limit_ms > 0 && limit_ms <= MAX_LIMIT_MS, EInvalidLimit);
}

fun emit_measurement(registry: &Registry, measurement: &Measurement, allowed: bool) {
    event::emit(MeasurementsChanged {
        registry: object::id(registry),
        version: measurement.version(),
        pcr0: measurement.pcr0(),
        pcr1: measurement.pcr1(),
        pcr2: measurement.pcr2(),
        allowed,
        simulated: registry.simulated,
    });
}

#[test_only]
public fun init_for_testing(ctx: &mut TxContext) { init(ctx) }
