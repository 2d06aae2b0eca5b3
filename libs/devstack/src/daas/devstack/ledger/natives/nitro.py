"""`sui::nitro_attestation`: documents verified for real, up to the Amazon root, at the ledger's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from daas.common.errors import ConfigurationError
from daas.devstack.ledger.natives.registry import AbortError, Ref
from daas.devstack.ledger.natives.structs import framework_module
from daas.devstack.ledger.natives.vectors import some
from daas.devstack.ledger.type_tags import Type

if TYPE_CHECKING:
    from daas.devstack.ledger.execution import Execution

Types = tuple[Type, ...]
PARSE_ERROR: Final = 1
VERIFY_ERROR: Final = 2
# Kept in the document even when all zero; every other register only when it is not.
REQUIRED_PCRS: Final = frozenset({0, 1, 2, 3, 4, 8})
# Internal units: 53 and 1 a byte to parse, 49,632 and 52,369 a certificate to verify, x50.
_PARSE_UNITS: Final = 53 * 50
_PARSE_UNITS_PER_BYTE: Final = 50
_VERIFY_UNITS: Final = 49_632 * 50
_CERTIFICATE_UNITS: Final = 52_369 * 50
_ALWAYS_MS: Final = 1 << 62  # the framework compares only certificates with the clock, never the document's own time

nitro = framework_module("sui::nitro_attestation")


@nitro.function("entry fun load_nitro_attestation(vector<u8>, &Clock): NitroAttestationDocument")
def _load_nitro_attestation(execution: Execution, _types: Types, document: bytearray, clock: Ref) -> Any:
    # Imported at first use: the certificate machinery costs memory that most ledgers never need.
    from daas.attestation import (  # noqa: PLC0415
        UNCHECKED,
        AttestationError,
        AttestationPolicy,
        Measurement,
        parse_document,
        verify,
    )

    execution.meter.charge(_PARSE_UNITS + _PARSE_UNITS_PER_BYTE * len(document))
    try:
        parsed = parse_document(bytes(document))
    except AttestationError:
        raise AbortError(PARSE_ERROR) from None
    execution.meter.charge(_VERIFY_UNITS + _CERTIFICATE_UNITS * len(parsed.cabundle))
    try:
        # What is allowed is the Move package's decision: here the document's own registers are, and debug mode. A
        # document in which only some of PCR0 to PCR2 are zero is refused, though Sui would take it.
        own = () if parsed.debug else (Measurement(*(parsed.pcrs.get(index, b"") for index in range(3))),)
        policy = AttestationPolicy(
            measurements=own,
            nonce=UNCHECKED,
            user_data=UNCHECKED,
            public_key_length_bytes=UNCHECKED,
            allow_debug=True,
            age_ms_max=_ALWAYS_MS,
            clock_skew_ms=_ALWAYS_MS,
        )
        verify(bytes(document), policy, clock.get()[1])
    except (AttestationError, ConfigurationError):
        raise AbortError(VERIFY_ERROR) from None
    pcrs = [
        [index, bytearray(value)]
        for index, value in sorted(parsed.pcrs.items())
        if index in REQUIRED_PCRS or any(value)
    ]
    return [
        bytearray(parsed.module_id.encode()),
        parsed.timestamp_ms,
        bytearray(parsed.digest.encode()),
        pcrs,
        *(
            [[]] if value is None else some("vector", bytearray(value))
            for value in (parsed.public_key, parsed.user_data, parsed.nonce)
        ),
    ]


def _field(name: str, index: int, result: str) -> None:
    @nitro.function(f"public fun {name}(&NitroAttestationDocument): {result}")
    def getter(_execution: Execution, _types: Types, document: Ref) -> Ref:
        return Ref(document.get(), index)


for _index, (_name, _result) in enumerate(
    (
        ("module_id", "&vector<u8>"),
        ("timestamp", "&u64"),
        ("digest", "&vector<u8>"),
        ("pcrs", "&vector<PCREntry>"),
        ("public_key", "&0x1::option::Option<vector<u8>>"),
        ("user_data", "&0x1::option::Option<vector<u8>>"),
        ("nonce", "&0x1::option::Option<vector<u8>>"),
    )
):
    _field(_name, _index, _result)


@nitro.function("public fun index(&PCREntry): u8")
def _pcr_index(_execution: Execution, _types: Types, entry: Ref) -> Any:
    return entry.get()[0]


@nitro.function("public fun value(&PCREntry): &vector<u8>")
def _pcr_value(_execution: Execution, _types: Types, entry: Ref) -> Ref:
    return Ref(entry.get(), 1)
