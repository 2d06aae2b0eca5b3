"""`sui::hash`, `std::hash`, `sui::ed25519`, with the costs that the gas schedule gives them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.devstack.ledger.natives.registry import Ref
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]

sui_hash = framework_module("sui::hash")
std_hash = framework_module("std::hash")
ed25519 = framework_module("sui::ed25519")


@sui_hash.function("public fun blake2b256(&vector<u8>): vector<u8>")
def _blake2b256(execution: Execution, _types: Types, data: Ref) -> bytearray:
    execution.meter.charge(len(data.get()) * 0.002)
    return bytearray(hashlib.blake2b(data.get(), digest_size=32).digest())


@std_hash.function("public fun sha2_256(vector<u8>): vector<u8>")
def _sha2_256(_execution: Execution, _types: Types, data: bytearray) -> bytearray:
    return bytearray(hashlib.sha256(data).digest())


@std_hash.function("public fun sha3_256(vector<u8>): vector<u8>")
def _sha3_256(_execution: Execution, _types: Types, data: bytearray) -> bytearray:
    return bytearray(hashlib.sha3_256(data).digest())


@ed25519.function("public fun ed25519_verify(&vector<u8>, &vector<u8>, &vector<u8>): bool", cost=1.8)
def _ed25519_verify(_execution: Execution, _types: Types, signature: Ref, public_key: Ref, message: Ref) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes(public_key.get()))
        key.verify(bytes(signature.get()), bytes(message.get()))
    except (InvalidSignature, ValueError):
        return False
    return True
