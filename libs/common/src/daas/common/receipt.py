"""The enclave's receipt for the log, byte for byte: what is under its signature."""

from daas.common import bcs
from daas.common.decision import INTENT_RECEIPT, intent_message
from daas.common.messages import PlacementReceived


def receipt_bcs(
    *, chain: bytes, registry: bytes, log_sequence: int, log_root: bytes, sequence: int, head: bytes
) -> bytes:
    """BCS of Receipt {chain vector<u8>, registry address, log_sequence u64, log_root vector<u8>, sequence u64, head
    vector<u8>}; all byte strings have 32 bytes.
    """
    return b"".join(
        (
            bcs.bytes_(chain),
            bcs.address(registry),
            bcs.u64(log_sequence),
            bcs.bytes_(log_root),
            bcs.u64(sequence),
            bcs.bytes_(head),
        )
    )


def signed_message(receipt: PlacementReceived) -> bytes:
    """The bytes under the signature of a receipt."""
    payload = receipt_bcs(
        chain=bytes.fromhex(receipt.chain),
        registry=bytes.fromhex(receipt.registry[2:]),
        log_sequence=receipt.log_sequence,
        log_root=bytes.fromhex(receipt.log_root),
        sequence=receipt.sequence,
        head=bytes.fromhex(receipt.head),
    )
    return intent_message(INTENT_RECEIPT, receipt.timestamp_ms, payload)
