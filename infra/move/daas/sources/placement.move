/// The chain of placement batches: each is accepted once, in order, signed by an enclave that is current now.
module daas::placement;

use daas::enclaves::Enclave;
use daas::intent;
use daas::registry::Registry;
use daas::stake::StakePool;
use std::bcs;
use sui::bcs::{Self as reader};
use sui::clock::Clock;
use sui::event;
use sui::hash;

/// The batch was signed for another registry.
const EWrongRegistry: u64 = 0;
/// The batch was signed for another chain.
const EWrongChain: u64 = 1;
/// A batch with this number is anchored already: this one is redundant, or a fork.
const ESequenceTaken: u64 = 2;
/// Batches before this one are not anchored yet.
const ESequenceAhead: u64 = 3;
/// The batch does not follow the newest anchored one.
const EWrongPredecessor: u64 = 4;
/// The log must move on from one batch to the next.
const ELogNotAhead: u64 = 5;
/// A digest or root has 32 bytes.
const EDigestLength: u64 = 6;
/// The signing time is longer ago than the registry allows.
const EBatchTooOld: u64 = 7;
/// The signing time lies ahead of the chain's clock.
const EBatchFromFuture: u64 = 8;
/// The payload has bytes after its last field.
const ETrailingBytes: u64 = 9;
/// The two payloads have different numbers: an enclave signs many.
const EDifferentSequences: u64 = 10;
/// The two payloads are one and the same: signing it twice is no contradiction.
const ESamePayload: u64 = 11;

const DIGEST_LENGTH: u64 = 32;

/// What the enclave signs, in this order of fields.
public struct PlacementBatch has copy, drop {
    chain: vector<u8>,
    registry: address,
    sequence: u64,
    previous: vector<u8>,
    log_sequence: u64,
    log_root: vector<u8>,
    policy: vector<u8>,
    state_root: vector<u8>,
    decisions: vector<u8>,
    count: u32,
    expires_ms: u64,
}

public struct Anchored has copy, drop {
    registry: ID,
    sequence: u64,
    payload_digest: vector<u8>,
    previous: vector<u8>,
    log_sequence: u64,
    log_root: vector<u8>,
    policy: vector<u8>,
    state_root: vector<u8>,
    decisions: vector<u8>,
    count: u32,
    expires_ms: u64,
    enclave: ID,
    public_key: vector<u8>,
    timestamp_ms: u64,
    simulated: bool,
}

/// One key has signed two different batches with one number.
public struct EquivocationReported has copy, drop {
    registry: ID,
    enclave: ID,
    public_key: vector<u8>,
    operator: address,
    reporter: address,
    sequence: u64,
    first_digest: vector<u8>,
    second_digest: vector<u8>,
    slashed_mist: u64,
    simulated: bool,
}

/// Anchors the next batch. Several calls in one transaction anchor several batches in order, all or none.
public fun anchor(
    registry: &mut Registry,
    enclave: &Enclave,
    chain: vector<u8>,
    registry_address: address,
    sequence: u64,
    previous: vector<u8>,
    log_sequence: u64,
    log_root: vector<u8>,
    policy: vector<u8>,
    state_root: vector<u8>,
    decisions: vector<u8>,
    count: u32,
    expires_ms: u64,
    timestamp_ms: u64,
    signature: vector<u8>,
    clock: &Clock,
) {
    registry.assert_version();
    assert!(registry_address == object::id_address(registry), EWrongRegistry);
    assert!(chain == registry.chain(), EWrongChain);
    assert!(sequence > registry.sequence(), ESequenceTaken);
    assert!(sequence == registry.sequence() + 1, ESequenceAhead);
    assert!(previous == registry.head(), EWrongPredecessor);
    assert!(log_sequence > registry.log_sequence(), ELogNotAhead);
    assert!(log_root.length() == DIGEST_LENGTH, EDigestLength);
    assert!(policy.length() == DIGEST_LENGTH, EDigestLength);
    assert!(state_root.length() == DIGEST_LENGTH, EDigestLength);
    assert!(decisions.length() == DIGEST_LENGTH, EDigestLength);
    let now_ms = clock.timestamp_ms();
    assert!(timestamp_ms <= now_ms + registry.future_skew_ms(), EBatchFromFuture);
    assert!(now_ms <= timestamp_ms + registry.batch_age_ms(), EBatchTooOld);
    enclave.assert_current(registry, clock);
    let payload = bcs::to_bytes(&PlacementBatch {
        chain,
        registry: registry_address,
        sequence,
        previous,
        log_sequence,
        log_root,
        policy,
        state_root,
        decisions,
        count,
        expires_ms,
    });
    enclave.assert_signed(intent::placement(), timestamp_ms, payload, &signature);
    let payload_digest = hash::blake2b256(&payload);
    registry.advance(payload_digest, log_sequence);
    event::emit(Anchored {
        registry: object::id(registry),
        sequence,
        payload_digest,
        previous,
        log_sequence,
        log_root,
        policy,
        state_root,
        decisions,
        count,
        expires_ms,
        enclave: object::id(enclave),
        public_key: enclave.public_key(),
        timestamp_ms,
        simulated: registry.is_simulated(),
    });
}

/// Takes two signed payloads that contradict each other: the same key, registry and number, but not the same batch.
/// Ends the key's registration and slashes its operator, once for each pair in whatever order; the sender gets the
/// reporter's share. A key that has expired or was revoked is answered for as long as there is stake.
public fun report_equivocation(
    registry: &Registry,
    pool: &mut StakePool,
    enclave: &mut Enclave,
    first_timestamp_ms: u64,
    first_payload: vector<u8>,
    first_signature: vector<u8>,
    second_timestamp_ms: u64,
    second_payload: vector<u8>,
    second_signature: vector<u8>,
    ctx: &mut TxContext,
) {
    registry.assert_version();
    pool.assert_of(registry);
    enclave.assert_of(registry);
    let sequence = sequence_of(registry, first_payload);
    assert!(sequence == sequence_of(registry, second_payload), EDifferentSequences);
    let first_digest = hash::blake2b256(&first_payload);
    let second_digest = hash::blake2b256(&second_payload);
    assert!(first_digest != second_digest, ESamePayload);
    enclave.assert_signed(intent::placement(), first_timestamp_ms, first_payload, &first_signature);
    enclave.assert_signed(intent::placement(), second_timestamp_ms, second_payload, &second_signature);
    enclave.convict(pair_digest(&first_digest, &second_digest));
    let slash_bps = pool.parameters().slash_bps();
    let slashed_mist = pool.slash(enclave.operator(), slash_bps, ctx.sender(), ctx);
    event::emit(EquivocationReported {
        registry: object::id(registry),
        enclave: object::id(enclave),
        public_key: enclave.public_key(),
        operator: enclave.operator(),
        reporter: ctx.sender(),
        sequence,
        first_digest,
        second_digest,
        slashed_mist,
        simulated: registry.is_simulated(),
    });
}

/// Whether `leaf` stands at `index` of the `count` leaves under `root`: a leaf hashes as h(0x00 || leaf), a node as
/// h(0x01 || left || right), and the last node of an odd level is promoted, which takes nothing from `path`.
/// False for any malformed argument.
public fun verify_inclusion(
    root: vector<u8>,
    leaf: vector<u8>,
    index: u64,
    count: u64,
    path: vector<vector<u8>>,
): bool {
    if (index >= count || root.length() != DIGEST_LENGTH) return false;
    let mut prefixed = vector[0u8];
    prefixed.append(leaf);
    let mut current = hash::blake2b256(&prefixed);
    let mut position = index;
    let mut width = count;
    let mut used = 0;
    while (width > 1) {
        let is_right = position % 2 == 1;
        if (is_right || position + 1 < width) {
            if (used == path.length()) return false;
            let sibling = path[used];
            if (sibling.length() != DIGEST_LENGTH) return false;
            used = used + 1;
            let mut node = vector[1u8];
            if (is_right) {
                node.append(sibling);
                node.append(current);
            } else {
                node.append(current);
                node.append(sibling);
            };
            current = hash::blake2b256(&node);
        };
        position = position / 2;
        width = width / 2 + width % 2;
    };
    used == path.length() && current == root
}

/// The number of a batch that was signed for this registry, from the BCS of a PlacementBatch.
fun sequence_of(registry: &Registry, payload: vector<u8>): u64 {
    let mut fields = reader::new(payload);
    assert!(fields.peel_vec_u8() == registry.chain(), EWrongChain);
    assert!(fields.peel_address() == object::id_address(registry), EWrongRegistry);
    let sequence = fields.peel_u64();
    fields.peel_vec_u8();
    fields.peel_u64();
    fields.peel_vec_u8();
    fields.peel_vec_u8();
    fields.peel_vec_u8();
    fields.peel_vec_u8();
    fields.peel_u32();
    fields.peel_u64();
    assert!(fields.into_remainder_bytes().length() == 0, ETrailingBytes);
    sequence
}

/// The same for both orders: the smaller digest stands first.
fun pair_digest(first: &vector<u8>, second: &vector<u8>): vector<u8> {
    let mut i = 0;
    while (i < DIGEST_LENGTH && first[i] == second[i]) i = i + 1;
    let first_is_smaller = i < DIGEST_LENGTH && first[i] < second[i];
    let mut pair = if (first_is_smaller) *first else *second;
    pair.append(if (first_is_smaller) *second else *first);
    hash::blake2b256(&pair)
}
