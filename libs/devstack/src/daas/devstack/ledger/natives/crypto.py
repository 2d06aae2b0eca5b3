"""`sui::hash`, `std::hash`, `sui::ed25519`, with the costs that the gas schedule gives them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

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


def _hash_cost(data: Any, block_bytes: int) -> int:
    return 2 * len(data) + 2 * -(-len(data) // block_bytes)


@sui_hash.function("public fun blake2b256(&vector<u8>): vector<u8>", cost=10)
def _blake2b256(execution: Execution, _types: Types, data: Ref) -> bytearray:
    execution.meter.charge(_hash_cost(data.get(), 128))
    return bytearray(hashlib.blake2b(data.get(), digest_size=32).digest())


@std_hash.function("public fun sha2_256(vector<u8>): vector<u8>")
def _sha2_256(_execution: Execution, _types: Types, data: bytearray) -> bytearray:
    return bytearray(hashlib.sha256(data).digest())


@std_hash.function("public fun sha3_256(vector<u8>): vector<u8>")
def _sha3_256(_execution: Execution, _types: Types, data: bytearray) -> bytearray:
    return bytearray(hashlib.sha3_256(data).digest())


@ed25519.function("public fun ed25519_verify(&vector<u8>, &vector<u8>, &vector<u8>): bool", cost=1_802)
def _ed25519_verify(execution: Execution, _types: Types, signature: Ref, public_key: Ref, message: Ref) -> bool:
    execution.meter.charge(_hash_cost(message.get(), 128))
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes(public_key.get()))
        key.verify(bytes(signature.get()), bytes(message.get()))
    except (InvalidSignature, ValueError):
        return False
    return True
