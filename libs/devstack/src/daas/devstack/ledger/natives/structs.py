"""Layouts of the framework structs, declared before any function names them."""

from daas.devstack.ledger.natives.registry import FrameworkModule


def framework_module(path: str) -> FrameworkModule:
    """Where functions of a framework module are declared, with the names of all framework structs known."""
    return FrameworkModule(path)


FrameworkModule("std::option").struct("Option<T> has copy, drop, store { vec: vector<T> }")
FrameworkModule("std::ascii").struct("String has copy, drop, store { bytes: vector<u8> }", short="AsciiString")
FrameworkModule("std::string").struct("String has copy, drop, store { bytes: vector<u8> }")
FrameworkModule("std::type_name").struct("TypeName has copy, drop, store { name: AsciiString }")
FrameworkModule("sui::tx_context").struct(
    "TxContext has drop { sender: address; tx_hash: vector<u8>; epoch: u64; epoch_timestamp_ms: u64; ids_created: u64 }"
)
FrameworkModule("sui::object").struct("ID has copy, drop, store { bytes: address }")
FrameworkModule("sui::object").struct("UID has store { id: ID }")
FrameworkModule("sui::balance").struct("Balance<phantom T> has store { value: u64 }")
FrameworkModule("sui::balance").struct("Supply<phantom T> has store { value: u64 }")
FrameworkModule("sui::clock").struct("Clock has key { id: UID; timestamp_ms: u64 }")
FrameworkModule("sui::package").struct("UpgradeCap has key, store { id: UID; package: ID; version: u64; policy: u8 }")
FrameworkModule("sui::package").struct("UpgradeTicket { cap: ID; package: ID; policy: u8; digest: vector<u8> }")
FrameworkModule("sui::package").struct("UpgradeReceipt { cap: ID; package: ID }")
FrameworkModule("sui::transfer").struct("Receiving<phantom T> has drop { id: ID; version: u64 }")
FrameworkModule("sui::funds_accumulator").struct("Withdrawal<phantom T> has drop { owner: address; limit: u256 }")
FrameworkModule("sui::accumulator").struct("Key<phantom T> has copy, drop, store { address: address }")
FrameworkModule("sui::bcs").struct("BCS has copy, drop, store { bytes: vector<u8> }")
FrameworkModule("sui::sui").struct("SUI has drop { dummy_field: bool }")
FrameworkModule("sui::coin").struct("Coin<phantom T> has key, store { id: UID; balance: Balance<T> }")
FrameworkModule("sui::dynamic_field").struct("Field<K, V> has key { id: UID; name: K; value: V }")
FrameworkModule("sui::dynamic_object_field").struct("Wrapper<K> has copy, drop, store { name: K }")
FrameworkModule("sui::table").struct("Table<phantom K, phantom V> has key, store { id: UID; size: u64 }")
FrameworkModule("sui::object_table").struct("ObjectTable<phantom K, phantom V> has key, store { id: UID; size: u64 }")
FrameworkModule("sui::object_bag").struct("ObjectBag has key, store { id: UID; size: u64 }")
FrameworkModule("sui::bag").struct("Bag has key, store { id: UID; size: u64 }")
FrameworkModule("sui::vec_map").struct("Entry<K, V> has copy, drop, store { key: K; value: V }")
FrameworkModule("sui::vec_map").struct("VecMap<K, V> has copy, drop, store { contents: vector<Entry<K, V>> }")
FrameworkModule("sui::vec_set").struct("VecSet<K> has copy, drop, store { contents: vector<K> }")
FrameworkModule("sui::nitro_attestation").struct("PCREntry has drop { index: u8; value: vector<u8> }")
FrameworkModule("sui::nitro_attestation").struct(
    "NitroAttestationDocument has drop { module_id: vector<u8>; timestamp: u64; digest: vector<u8>;"
    " pcrs: vector<PCREntry>; public_key: 0x1::option::Option<vector<u8>>;"
    " user_data: 0x1::option::Option<vector<u8>>; nonce: 0x1::option::Option<vector<u8>> }"
)
