"""What a verifier asks of the ledger, as a protocol: any client of the chain can answer it."""

from typing import Protocol

import msgspec


class AnchoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`placement::Anchored` as the ledger has it. Digests and keys are lower-case hex, ids `0x` and 64 digits."""

    registry: str
    sequence: int
    payload_digest: str
    previous: str
    log_sequence: int
    log_root: str
    policy: str
    state_root: str
    decisions: str
    count: int
    expires_ms: int
    enclave: str
    public_key: str
    timestamp_ms: int
    simulated: bool


class RegisteredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`enclaves::EnclaveRegistered` as the ledger has it. `document_digest` is empty where the chain itself verified
    the document.
    """

    registry: str
    enclave: str
    public_key: str
    measurement_version: int
    registered_ms: int
    expires_ms: int
    document_digest: str
    simulated: bool


class LedgerTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction with the events of our package (and of no other) that it emitted.

    Attributes:
        digest: base58.
        succeeded: whether its effects say success.
        checkpoint: where it is final; None where the node has not said.
        nonces: the nonces of `registry::NonceRotated`, with the registry, in order.
    """

    digest: str
    succeeded: bool
    checkpoint: int | None
    anchored: tuple[AnchoredEvent, ...] = ()
    registered: tuple[RegisteredEvent, ...] = ()
    nonces: tuple[tuple[str, str], ...] = ()


class AnchorSource(Protocol):
    """A client of the chain."""

    async def chain(self) -> str:
        """The genesis digest of the chain that answers, 32 bytes hex."""
        ...

    async def transaction(self, digest: str) -> LedgerTransaction:
        """A transaction by its digest.

        Raises:
            NotFound: the ledger has no such transaction.
            Unavailable: the ledger does not answer.
        """
        ...
