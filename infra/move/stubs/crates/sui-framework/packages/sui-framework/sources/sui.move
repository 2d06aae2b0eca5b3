// Interfaces of the Sui framework functions that the package `daas` calls: signatures only, enough for the compiler to
// emit the same bytecode as with the real framework. Bodies abort: nothing here is ever executed or published.

module sui::object {
    public struct ID has copy, drop, store { bytes: address }

    public struct UID has store { id: ID }

    public fun new(_ctx: &mut TxContext): UID { abort 0 }

    public fun id<T: key>(_obj: &T): ID { abort 0 }

    public fun id_address<T: key>(_obj: &T): address { abort 0 }
}

module sui::tx_context {
    public struct TxContext has drop {
        sender: address,
        tx_hash: vector<u8>,
        epoch: u64,
        epoch_timestamp_ms: u64,
        ids_created: u64,
    }

    public fun sender(_self: &TxContext): address { abort 0 }
}

module sui::transfer {
    public fun transfer<T: key>(_obj: T, _recipient: address) { abort 0 }

    public fun share_object<T: key>(_obj: T) { abort 0 }
}

module sui::clock {
    public struct Clock has key { id: UID, timestamp_ms: u64 }

    public fun timestamp_ms(_clock: &Clock): u64 { abort 0 }
}

module sui::event {
    native public fun emit<T: copy + drop>(event: T);
}

module sui::hash {
    native public fun blake2b256(data: &vector<u8>): vector<u8>;
}

module sui::ed25519 {
    native public fun ed25519_verify(signature: &vector<u8>, public_key: &vector<u8>, msg: &vector<u8>): bool;
}

module sui::nitro_attestation {
    public struct PCREntry has drop { index: u8, value: vector<u8> }

    public struct NitroAttestationDocument has drop {
        module_id: vector<u8>,
        timestamp: u64,
        digest: vector<u8>,
        pcrs: vector<PCREntry>,
        public_key: Option<vector<u8>>,
        user_data: Option<vector<u8>>,
        nonce: Option<vector<u8>>,
    }

    public fun timestamp(_attestation: &NitroAttestationDocument): &u64 { abort 0 }

    public fun pcrs(_attestation: &NitroAttestationDocument): &vector<PCREntry> { abort 0 }

    public fun public_key(_attestation: &NitroAttestationDocument): &Option<vector<u8>> { abort 0 }

    public fun user_data(_attestation: &NitroAttestationDocument): &Option<vector<u8>> { abort 0 }

    public fun nonce(_attestation: &NitroAttestationDocument): &Option<vector<u8>> { abort 0 }

    public fun index(_entry: &PCREntry): u8 { abort 0 }

    public fun value(_entry: &PCREntry): &vector<u8> { abort 0 }
}
