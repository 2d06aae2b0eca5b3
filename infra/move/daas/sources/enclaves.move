/// Enclaves that may sign for a cluster: registered with a fresh attestation document, until they expire or are
/// revoked.
module daas::enclaves;

use daas::intent;
use daas::registry::{AdminCap, Registry, RevokerCap};
use daas::stake::StakePool;
use daas::version;
use sui::clock::Clock;
use sui::dynamic_field;
use sui::ed25519;
use sui::event;
use sui::nitro_attestation::NitroAttestationDocument;

/// The enclave object was written by another version of this package.
const EWrongVersion: u64 = 0;
/// This registry takes attestation documents of real hardware only.
const ENotSimulated: u64 = 1;
/// This registry is simulated: documents of real hardware have no place in it.
const ESimulated: u64 = 2;
/// The document is older than the registry allows.
const EDocumentTooOld: u64 = 3;
/// The document's time lies ahead of the chain's clock.
const EDocumentFromFuture: u64 = 4;
/// The document has no nonce, or not the one this registry gave out last.
const EWrongNonce: u64 = 5;
/// The document's user data is not h(chain || registry || policy).
const EWrongBinding: u64 = 6;
/// The document has no public key, or not one of 32 bytes.
const EKeyLength: u64 = 7;
/// PCR0, PCR1 or PCR2 is missing from the document, or there twice.
const EMissingPcr: u64 = 8;
/// The PCRs are not in the registry's allowed set.
const EMeasurementNotAllowed: u64 = 9;
/// A document digest has 32 bytes.
const EDigestLength: u64 = 10;
/// The enclave is registered for another registry.
const EWrongRegistry: u64 = 11;
/// The enclave has been revoked.
const ERevoked: u64 = 12;
/// The registration has expired: the enclave must attest again.
const EExpired: u64 = 13;
/// The enclave's image is allowed no more.
const EMeasurementRetired: u64 = 14;
/// An Ed25519 signature has 64 bytes.
const ESignatureLength: u64 = 15;
/// The signature is not this enclave's over these bytes.
const EBadSignature: u64 = 16;
/// The object already has this package's version: there is nothing to migrate.
const EAlreadyMigrated: u64 = 17;
/// Only the operator who registered the enclave may do this.
const ENotOperator: u64 = 18;
/// These two signatures have been reported already.
const EAlreadyReported: u64 = 19;

const KEY_LENGTH: u64 = 32;
const DIGEST_LENGTH: u64 = 32;
const SIGNATURE_LENGTH: u64 = 64;

/// One registration of one enclave key.
public struct Enclave has key {
    id: UID,
    version: u64,
    registry: ID,
    /// Ed25519, 32 bytes.
    public_key: vector<u8>,
    measurement_version: u64,
    registered_ms: u64,
    expires_ms: u64,
    revoked: bool,
    simulated: bool,
    /// Who registered it, and answers for what it signs.
    operator: address,
    /// blake2b-256 of the document where only the registrar saw it (simulated); empty where the chain checked it.
    document_digest: vector<u8>,
}

public struct EnclaveRegistered has copy, drop {
    registry: ID,
    enclave: ID,
    public_key: vector<u8>,
    measurement_version: u64,
    registered_ms: u64,
    expires_ms: u64,
    operator: address,
    document_digest: vector<u8>,
    simulated: bool,
}

public struct EnclaveRevoked has copy, drop {
    registry: ID,
    enclave: ID,
    public_key: vector<u8>,
    simulated: bool,
}

/// Marks on an enclave, as a dynamic field, a pair of contradicting payloads that its operator has been slashed for.
public struct Reported has copy, drop, store { pair: vector<u8> }

public struct EnclaveMigrated has copy, drop { enclave: ID, from: u64, to: u64, simulated: bool }

/// Registers the key in a Nitro attestation document that the framework has verified up to the AWS root
/// (`sui::nitro_attestation::load_nitro_attestation`, the command before this one in the same transaction). The sender
/// is its operator, whose stake answers for what the key signs.
public fun register(
    registry: &mut Registry,
    pool: &mut StakePool,
    document: NitroAttestationDocument,
    clock: &Clock,
    ctx: &mut TxContext,
) {
    registry.assert_version();
    assert!(!registry.is_simulated(), ESimulated);
    let now_ms = clock.timestamp_ms();
    let document_ms = *document.timestamp();
    assert!(document_ms <= now_ms + registry.future_skew_ms(), EDocumentFromFuture);
    assert!(now_ms <= document_ms + registry.document_age_ms(), EDocumentTooOld);
    assert!(document.nonce().is_some(), EWrongNonce);
    assert!(*document.nonce().borrow() == registry.nonce(), EWrongNonce);
    assert!(document.user_data().is_some(), EWrongBinding);
    assert!(*document.user_data().borrow() == registry.attested_binding(), EWrongBinding);
    assert!(document.public_key().is_some(), EKeyLength);
    let public_key = *document.public_key().borrow();
    let pcr0 = pcr(&document, 0);
    let pcr1 = pcr(&document, 1);
    let pcr2 = pcr(&document, 2);
    admit(registry, pool, public_key, &pcr0, &pcr1, &pcr2, vector[], now_ms, ctx);
}

/// Registers a stand-in's key, on the word of whoever holds the AdminCap that its document was checked: no hardware
/// vouches for it, so it exists only where the registry was created simulated. The nonce is checked as in `register`,
/// so that one document makes at most one registration.
public fun register_simulated(
    _: &AdminCap,
    registry: &mut Registry,
    pool: &mut StakePool,
    public_key: vector<u8>,
    pcr0: vector<u8>,
    pcr1: vector<u8>,
    pcr2: vector<u8>,
    nonce: vector<u8>,
    document_digest: vector<u8>,
    clock: &Clock,
    ctx: &mut TxContext,
) {
    registry.assert_version();
    assert!(registry.is_simulated(), ENotSimulated);
    assert!(nonce == registry.nonce(), EWrongNonce);
    assert!(document_digest.length() == DIGEST_LENGTH, EDigestLength);
    admit(registry, pool, public_key, &pcr0, &pcr1, &pcr2, document_digest, clock.timestamp_ms(), ctx);
}

/// Ends a registration for good. A second call changes nothing.
public fun revoke(_: &RevokerCap, enclave: &mut Enclave) {
    assert!(enclave.version == version::current(), EWrongVersion);
    end(enclave);
}

/// Ends a registration at the wish of the operator who answers for it.
public fun retire(enclave: &mut Enclave, ctx: &TxContext) {
    assert!(enclave.version == version::current(), EWrongVersion);
    assert!(ctx.sender() == enclave.operator, ENotOperator);
    end(enclave);
}

/// Brings a registration written by an older version of this package up to this one.
public fun migrate(_: &AdminCap, enclave: &mut Enclave) {
    let from = enclave.version;
    assert!(from < version::current(), EAlreadyMigrated);
    enclave.version = version::current();
    event::emit(EnclaveMigrated {
        enclave: object::id(enclave),
        from,
        to: enclave.version,
        simulated: enclave.simulated,
    });
}

/// Aborts unless the enclave may sign for this registry at the chain's present time. Called at every use: a
/// registration that was good once says nothing about now.
public fun assert_current(enclave: &Enclave, registry: &Registry, clock: &Clock) {
    assert!(enclave.version == version::current(), EWrongVersion);
    assert!(enclave.registry == object::id(registry), EWrongRegistry);
    assert!(!enclave.revoked, ERevoked);
    assert!(clock.timestamp_ms() < enclave.expires_ms, EExpired);
    assert!(registry.is_allowed(enclave.measurement_version), EMeasurementRetired);
}

/// Aborts unless `signature` is the enclave's over BCS of IntentMessage{intent, timestamp_ms, payload}.
public fun assert_signed(
    enclave: &Enclave,
    intent: u8,
    timestamp_ms: u64,
    payload: vector<u8>,
    signature: &vector<u8>,
) {
    assert!(signature.length() == SIGNATURE_LENGTH, ESignatureLength);
    let message = intent::message(intent, timestamp_ms, payload);
    assert!(ed25519::ed25519_verify(signature, &enclave.public_key, &message), EBadSignature);
}

public fun public_key(enclave: &Enclave): vector<u8> { enclave.public_key }

public fun operator(enclave: &Enclave): address { enclave.operator }

public fun expires_ms(enclave: &Enclave): u64 { enclave.expires_ms }

public fun is_revoked(enclave: &Enclave): bool { enclave.revoked }

public fun is_simulated(enclave: &Enclave): bool { enclave.simulated }

/// Aborts unless the enclave was registered for this registry, now or in the past: what its key signed counts for ever.
public(package) fun assert_of(enclave: &Enclave, registry: &Registry) {
    assert!(enclave.version == version::current(), EWrongVersion);
    assert!(enclave.registry == object::id(registry), EWrongRegistry);
}

/// Notes that this pair of payloads has been reported, once, and ends the registration.
public(package) fun convict(enclave: &mut Enclave, pair: vector<u8>) {
    let mark = Reported { pair };
    assert!(!dynamic_field::exists_(&enclave.id, mark), EAlreadyReported);
    dynamic_field::add(&mut enclave.id, mark, true);
    end(enclave);
}

fun end(enclave: &mut Enclave) {
    if (enclave.revoked) return;
    enclave.revoked = true;
    event::emit(EnclaveRevoked {
        registry: enclave.registry,
        enclave: object::id(enclave),
        public_key: enclave.public_key,
        simulated: enclave.simulated,
    });
}

fun admit(
    registry: &mut Registry,
    pool: &mut StakePool,
    public_key: vector<u8>,
    pcr0: &vector<u8>,
    pcr1: &vector<u8>,
    pcr2: &vector<u8>,
    document_digest: vector<u8>,
    now_ms: u64,
    ctx: &mut TxContext,
) {
    assert!(public_key.length() == KEY_LENGTH, EKeyLength);
    let measurement_version = registry.measurement_of(pcr0, pcr1, pcr2);
    assert!(measurement_version != 0, EMeasurementNotAllowed);
    pool.assert_of(registry);
    let expires_ms = now_ms + registry.registration_ttl_ms();
    pool.answer_for_key(ctx.sender(), expires_ms);
    registry.rotate_nonce(&public_key);
    let enclave = Enclave {
        id: object::new(ctx),
        version: version::current(),
        registry: object::id(registry),
        public_key,
        measurement_version,
        registered_ms: now_ms,
        expires_ms,
        revoked: false,
        simulated: registry.is_simulated(),
        operator: ctx.sender(),
        document_digest,
    };
    event::emit(EnclaveRegistered {
        registry: enclave.registry,
        enclave: object::id(&enclave),
        public_key,
        measurement_version,
        registered_ms: now_ms,
        expires_ms,
        operator: enclave.operator,
        document_digest,
        simulated: enclave.simulated,
    });
    transfer::share_object(enclave);
}

/// The PCR with this index, wherever it stands in the list: the list's order and length have changed before.
fun pcr(document: &NitroAttestationDocument, index: u8): vector<u8> {
    let entries = document.pcrs();
    let mut found = vector[];
    let mut i = 0;
    while (i < entries.length()) {
        let entry = &entries[i];
        if (entry.index() == index) {
            assert!(found.length() == 0, EMissingPcr);
            found = *entry.value();
        };
        i = i + 1;
    };
    assert!(found.length() > 0, EMissingPcr);
    found
}
