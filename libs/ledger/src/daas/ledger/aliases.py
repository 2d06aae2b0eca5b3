"""Where Sui keeps that other keys may sign for an account (`sui::address_alias`, sui-framework).

Each account with aliases has an object whose id is derived from the shared state object 0xa and the account: existence
is what a key server asks for. Derivation: `sui::derived_object`, which is that of a dynamic field whose name is wrapped
into `DerivedObjectKey`.
"""

from hashlib import blake2b
from typing import Final

from daas.common import bcs
from daas.ledger.address import FRAMEWORK_ADDRESS, format_address, parse_address

#: The shared object of all aliases.
ALIAS_STATE: Final = "0xa"
#: Sui's HashingIntentScope::ChildObjectId.
_CHILD_OBJECT: Final = b"\xf0"
_STRUCT_TAG: Final = 7


def struct_tag(address: str, module: str, name: str, *type_arguments: bytes) -> bytes:
    """BCS of the TypeTag of a struct; type arguments are BCS of TypeTags."""
    head = bcs.uleb128(_STRUCT_TAG) + parse_address(address) + bcs.string(module) + bcs.string(name)
    return head + bcs.uleb128(len(type_arguments)) + b"".join(type_arguments)


def derived_object_id(parent: str, key_type: bytes, key: bytes) -> str:
    """The id of the object that `parent` has derived for a key.

    Args:
        parent: object id.
        key_type: BCS of the key's TypeTag.
        key: BCS of the key.
    """
    wrapper = struct_tag(FRAMEWORK_ADDRESS, "derived_object", "DerivedObjectKey", key_type)
    preimage = _CHILD_OBJECT + parse_address(parent) + bcs.u64(len(key)) + key + wrapper
    return format_address(blake2b(preimage, digest_size=32).digest())


def aliases_id(address: bytes) -> str:
    """The id that the `AddressAliases` of an account (32 bytes) has where there is one."""
    key_type = struct_tag(FRAMEWORK_ADDRESS, "address_alias", "AliasKey")
    return derived_object_id(ALIAS_STATE, key_type, bcs.address(address))
