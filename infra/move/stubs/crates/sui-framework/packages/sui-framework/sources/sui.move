// Interfaces of the Sui framework functions that the package `daas` calls: signatures only, enough for the compiler to
// emit the same bytecode as with the real framework. Bodies abort: nothing here is ever executed or published.

module sui::object {
    public struct ID has copy, drop, store { bytes: address }

    public struct UID has store { id: ID }

    public fun new(_ctx: &mut TxContext): UID { abort 0 }

    public fun delete(_id: UID) { abort 0 }

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

    public fun public_transfer<T: key + store>(_obj: T, _recipient: address) { abort 0 }

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

module sui::sui {
    public struct SUI has drop {}
}

module sui::balance {
    public struct Balance<phantom T> has store { value: u64 }

    public fun value<T>(_self: &Balance<T>): u64 { abort 0 }

    public fun zero<T>(): Balance<T> { abort 0 }

    public fun join<T>(_self: &mut Balance<T>, _balance: Balance<T>): u64 { abort 0 }

    public fun split<T>(_self: &mut Balance<T>, _value: u64): Balance<T> { abort 0 }
}

module sui::coin {
    use sui::balance::Balance;

    public struct Coin<phantom T> has key, store { id: UID, balance: Balance<T> }

    public fun value<T>(_self: &Coin<T>): u64 { abort 0 }

    public fun from_balance<T>(_balance: Balance<T>, _ctx: &mut TxContext): Coin<T> { abort 0 }

    public fun into_balance<T>(_coin: Coin<T>): Balance<T> { abort 0 }

    public fun destroy_zero<T>(_c: Coin<T>) { abort 0 }
}

module sui::table {
    public struct Table<phantom K: copy + drop + store, phantom V: store> has key, store { id: UID, size: u64 }

    public fun new<K: copy + drop + store, V: store>(_ctx: &mut TxContext): Table<K, V> { abort 0 }

    public fun add<K: copy + drop + store, V: store>(_table: &mut Table<K, V>, _k: K, _v: V) { abort 0 }

    #[syntax(index)]
    public fun borrow<K: copy + drop + store, V: store>(_table: &Table<K, V>, _k: K): &V { abort 0 }

    #[syntax(index)]
    public fun borrow_mut<K: copy + drop + store, V: store>(_table: &mut Table<K, V>, _k: K): &mut V { abort 0 }

    public fun remove<K: copy + drop + store, V: store>(_table: &mut Table<K, V>, _k: K): V { abort 0 }

    public fun contains<K: copy + drop + store, V: store>(_table: &Table<K, V>, _k: K): bool { abort 0 }
}

module sui::dynamic_field {
    public fun add<Name: copy + drop + store, Value: store>(_object: &mut UID, _name: Name, _value: Value) { abort 0 }

    public fun exists_<Name: copy + drop + store>(_object: &UID, _name: Name): bool { abort 0 }
}

module sui::bcs {
    public struct BCS has copy, drop, store { bytes: vector<u8> }

    public fun new(_bytes: vector<u8>): BCS { abort 0 }

    public fun into_remainder_bytes(_bcs: BCS): vector<u8> { abort 0 }

    public fun peel_address(_bcs: &mut BCS): address { abort 0 }

    public fun peel_u32(_bcs: &mut BCS): u32 { abort 0 }

    public fun peel_u64(_bcs: &mut BCS): u64 { abort 0 }

    public fun peel_vec_u8(_bcs: &mut BCS): vector<u8> { abort 0 }
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
