/// The chain of placement batches: each is accepted once, in order, signed by an enclave that is current now.
module daas::placement;

use daas::enclaves::Enclave;
use daas::intent;
use daas::registry::Registry;
use std::bcs;
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
