"""The Move package daas as typed Python calls over pysui."""

from daas.ledger.client import Ledger
from daas.ledger.errors import (
    ExecutionError,
    LedgerError,
    MoveAbortError,
    NoGas,
    NoSuchObject,
    RpcError,
    RpcRefused,
    RpcUnavailable,
    StaleObject,
)
from daas.ledger.event import Event
from daas.ledger.events import Anchored, EnclaveRegistered, EnclaveRevoked, NonceRotated, RegistryCreated
from daas.ledger.models import (
    Effects,
    Enclave,
    Limits,
    Measurement,
    Publication,
    Registry,
    SignedBatch,
    SignedTransaction,
)
from daas.ledger.package import MovePackage, committed_package
from daas.ledger.signer import Signer

__all__ = [
    "Anchored",
    "Effects",
    "Enclave",
    "EnclaveRegistered",
    "EnclaveRevoked",
    "Event",
    "ExecutionError",
    "Ledger",
    "LedgerError",
    "Limits",
    "Measurement",
    "MoveAbortError",
    "MovePackage",
    "NoGas",
    "NoSuchObject",
    "NonceRotated",
    "Publication",
    "Registry",
    "RegistryCreated",
    "RpcError",
    "RpcRefused",
    "RpcUnavailable",
    "SignedBatch",
    "SignedTransaction",
    "Signer",
    "StaleObject",
    "committed_package",
]
