/// The shared object of one cluster: what its enclaves must measure, the nonce they attest for, the head of the chain of
/// decisions, and the capabilities that govern it.
module daas::registry;

use std::bcs;
use sui::event;
use sui::hash;

/// The object was written by another version of this package: migrate it, or call the package that wrote it.
const EWrongVersion: u64 = 0;
/// The object already has this package's version: there is nothing to migrate.
const EAlreadyMigrated: u64 = 1;
/// A digest (chain, policy) must have 32 bytes.
const EDigestLength: u64 = 2;
/// A PCR is SHA-384: 48 bytes.
const EPcrLength: u64 = 3;
/// An all-zero PCR0, PCR1 or PCR2 means an enclave in debug mode, whose memory the host can read.
const EZeroPcr: u64 = 4;
/// The allowed set is bounded, because it lives inside the object.
const ETooManyMeasurements: u64 = 5;
/// These PCRs are in the allowed set already.
const EMeasurementExists: u64 = 6;
/// No allowed measurement has this version number.
const EUnknownMeasurement: u64 = 7;
/// A time limit is zero, or longer than a year.
const EInvalidLimit: u64 = 8;

/// Version of the layout of shared objects that this package writes.
const VERSION: u64 = 1;
const DIGEST_LENGTH: u64 = 32;
const PCR_LENGTH: u64 = 48;
/// Room for a rolling upgrade on several platforms; keeps the object small.
const MAX_MEASUREMENTS: u64 = 8;
/// 366 days: far above any sane setting, and no sum with a clock value can overflow.
const MAX_LIMIT_MS: u64 = 31_622_400_000;

/// Creates registries and changes their measurements, limits and policy.
public struct AdminCap has key, store { id: UID }

/// Revokes enclaves, and nothing else: it can lie on a machine that watches for misbehaviour.
public struct RevokerCap has key, store { id: UID }

/// One enclave image that may be registered. `version` is its number, never used twice in a registry.
public struct Measurement has copy, drop, store {
    version: u64,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
}

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
    /// Genesis checkpoint digest of the chain this object lives on.
    chain: vector<u8>,
    /// Digest of the policy that enclaves must attest to run.
    policy: vector<u8>,
    measurements: vector<Measurement>,
    next_measurement: u64,
    limits: Limits,
    /// What the next attestation document must carry; rotates with each registration.
    nonce: vector<u8>,
    /// Number of the newest anchored batch; 0 before the first.
    sequence: u64,
    /// Payload digest of the newest anchored batch; 32 zero bytes before the first.
    head: vector<u8>,
    /// Last log entry folded by the newest anchored batch; 0 before the first.
    log_sequence: u64,
}

public struct RegistryCreated has copy, drop {
    registry: ID,
    simulated: bool,
    chain: vector<u8>,
    policy: vector<u8>,
    nonce: vector<u8>,
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

public struct RegistryMigrated has copy, drop { registry: ID, from: u64, to: u64, simulated: bool }

fun init(ctx: &mut TxContext) {
    transfer::transfer(AdminCap { id: object::new(ctx) }, ctx.sender());
    transfer::transfer(RevokerCap { id: object::new(ctx) }, ctx.sender());
}

/// Creates and shares the registry of a cluster with one allowed measurement.
public fun create(
    _: &AdminCap,
    simulated: bool,
    chain: vector<u8>,
    policy: vector<u8>,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
    registration_ttl_ms: u64,
    document_age_ms: u64,
    batch_age_ms: u64,
    future_skew_ms: u64,
    ctx: &mut TxContext,
) {
    assert!(chain.length() == DIGEST_LENGTH, EDigestLength);
    assert!(policy.length() == DIGEST_LENGTH, EDigestLength);
    let id = object::new(ctx);
    let mut registry = Registry {
        id,
        version: VERSION,
        simulated,
        chain,
        policy,
        measurements: vector[],
        next_measurement: 1,
        limits: limits(registration_ttl_ms, document_age_ms, batch_age_ms, future_skew_ms),
        nonce: vector[],
        sequence: 0,
        head: x"0000000000000000000000000000000000000000000000000000000000000000",
        log_sequence: 0,
    };
    // The object id is derived from the digest of this very transaction: nobody could have attested for it before.
    let mut seed = bcs::to_bytes(&object::id_address(&registry));
    seed.append(registry.chain);
    registry.nonce = hash::blake2b256(&seed);
    event::emit(RegistryCreated {
        registry: object::id(&registry),
        simulated,
        chain: registry.chain,
        policy: registry.policy,
        nonce: registry.nonce,
    });
    add_measurement(&mut registry, pcr0, pcr1, pcr2);
    transfer::share_object(registry);
}

/// Allows one more enclave image; enclaves of the others stay current.
public fun allow_measurement(
    _: &AdminCap,
    registry: &mut Registry,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
) {
    assert_version(registry);
    add_measurement(registry, pcr0, pcr1, pcr2);
}

/// Takes an image from the allowed set: its enclaves can anchor nothing from now on.
public fun retire_measurement(_: &AdminCap, registry: &mut Registry, version: u64) {
    assert_version(registry);
    let index = measurement_index(registry, version);
    let last = registry.measurements.length() - 1;
    registry.measurements.swap(index, last);
    let measurement = registry.measurements.pop_back();
    emit_measurement(registry, &measurement, false);
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
    assert_version(registry);
    registry.limits = limits(registration_ttl_ms, document_age_ms, batch_age_ms, future_skew_ms);
    event::emit(LimitsChanged {
        registry: object::id(registry),
        registration_ttl_ms,
        document_age_ms,
        batch_age_ms,
        future_skew_ms,
        simulated: registry.simulated,
    });
}

/// Changes the policy that enclaves registered from now on must have attested.
public fun set_policy(_: &AdminCap, registry: &mut Registry, policy: vector<u8>) {
    assert_version(registry);
    assert!(policy.length() == DIGEST_LENGTH, EDigestLength);
    registry.policy = policy;
    event::emit(PolicyChanged { registry: object::id(registry), policy, simulated: registry.simulated });
}

/// Brings a registry written by an older version of this package up to this one.
public fun migrate(_: &AdminCap, registry: &mut Registry) {
    let from = registry.version;
    assert!(from < VERSION, EAlreadyMigrated);
    registry.version = VERSION;
    event::emit(RegistryMigrated {
        registry: object::id(registry),
        from,
        to: VERSION,
        simulated: registry.simulated,
    });
}

public fun is_simulated(registry: &Registry): bool { registry.simulated }

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
    let mut i = 0;
    while (i < registry.measurements.length()) {
        let measurement = &registry.measurements[i];
        if (&measurement.pcr0 == pcr0 && &measurement.pcr1 == pcr1 && &measurement.pcr2 == pcr2) {
            return measurement.version
        };
        i = i + 1;
    };
    0
}

/// Whether the measurement with this number is allowed now.
public fun is_allowed(registry: &Registry, version: u64): bool {
    let mut i = 0;
    while (i < registry.measurements.length()) {
        if (registry.measurements[i].version == version) return true;
        i = i + 1;
    };
    false
}

public(package) fun current_version(): u64 { VERSION }

public(package) fun assert_version(registry: &Registry) {
    assert!(registry.version == VERSION, EWrongVersion);
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

fun limits(registration_ttl_ms: u64, document_age_ms: u64, batch_age_ms: u64, future_skew_ms: u64): Limits {
    assert_limit(registration_ttl_ms);
    assert_limit(document_age_ms);
    assert_limit(batch_age_ms);
    assert_limit(future_skew_ms);
    Limits { registration_ttl_ms, document_age_ms, batch_age_ms, future_skew_ms }
}

fun assert_limit(limit_ms: u64) {
    assert!(limit_ms > 0 && limit_ms <= MAX_LIMIT_MS, EInvalidLimit);
}

fun add_measurement(registry: &mut Registry, pcr0: vector<u8>, pcr1: vector<u8>, pcr2: vector<u8>) {
    assert_pcr(&pcr0);
    assert_pcr(&pcr1);
    assert_pcr(&pcr2);
    assert!(registry.measurements.length() < MAX_MEASUREMENTS, ETooManyMeasurements);
    assert!(measurement_of(registry, &pcr0, &pcr1, &pcr2) == 0, EMeasurementExists);
    let measurement = Measurement { version: registry.next_measurement, pcr0, pcr1, pcr2 };
    registry.next_measurement = registry.next_measurement + 1;
    registry.measurements.push_back(measurement);
    emit_measurement(registry, &measurement, true);
}

fun emit_measurement(registry: &Registry, measurement: &Measurement, allowed: bool) {
    event::emit(MeasurementsChanged {
        registry: object::id(registry),
        version: measurement.version,
        pcr0: measurement.pcr0,
        pcr1: measurement.pcr1,
        pcr2: measurement.pcr2,
        allowed,
        simulated: registry.simulated,
    });
}

fun assert_pcr(pcr: &vector<u8>) {
    assert!(pcr.length() == PCR_LENGTH, EPcrLength);
    let mut i = 0;
    while (i < PCR_LENGTH) {
        if (pcr[i] != 0) return;
        i = i + 1;
    };
    abort EZeroPcr
}

fun measurement_index(registry: &Registry, version: u64): u64 {
    let mut i = 0;
    while (i < registry.measurements.length()) {
        if (registry.measurements[i].version == version) return i;
        i = i + 1;
    };
    abort EUnknownMeasurement
}
