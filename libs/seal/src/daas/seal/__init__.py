"""Seal in Python: identity-based threshold encryption whose access rules live on Sui.

Encrypt with `Encryptor` or `SealClient`, decrypt with `decrypt` or `SealClient`, run a key server with
`daas.seal.server`. Nothing here talks to the ledger.
"""

from daas.seal.address import format_address, parse_address
from daas.seal.client import ClientSettings, KeyServer, SealClient, SyncSealClient
from daas.seal.decrypt import decrypt, decrypt_key
from daas.seal.encrypt import Dem, Encrypted, Encryptor, ServerKey, encrypt
from daas.seal.encrypted_object import EncryptedObject
from daas.seal.errors import (
    DecryptionFailed,
    InvalidSignature,
    KeyServerRefused,
    KeyServerUnavailable,
    MalformedAnswer,
    MalformedObject,
    MalformedPoint,
    NotEnoughKeys,
    SessionExpired,
    ThresholdUnreachable,
)
from daas.seal.ibe import MasterKey, full_id, verify_possession, verify_user_secret_key, verify_user_secret_keys
from daas.seal.key_server import KeyServerData, KeyServerObject
from daas.seal.ptb import ApproveCall, InvalidPtb, Owned, Pure, Shared, build_ptb, parse_ptb
from daas.seal.session import Certificate, SessionKey
from daas.seal.signatures import Ed25519Signer, PersonalMessageSigner

__all__ = [
    "ApproveCall",
    "Certificate",
    "ClientSettings",
    "DecryptionFailed",
    "Dem",
    "Ed25519Signer",
    "Encrypted",
    "EncryptedObject",
    "Encryptor",
    "InvalidPtb",
    "InvalidSignature",
    "KeyServer",
    "KeyServerData",
    "KeyServerObject",
    "KeyServerRefused",
    "KeyServerUnavailable",
    "MalformedAnswer",
    "MalformedObject",
    "MalformedPoint",
    "MasterKey",
    "NotEnoughKeys",
    "Owned",
    "PersonalMessageSigner",
    "Pure",
    "SealClient",
    "ServerKey",
    "SessionExpired",
    "SessionKey",
    "Shared",
    "SyncSealClient",
    "ThresholdUnreachable",
    "build_ptb",
    "decrypt",
    "decrypt_key",
    "encrypt",
    "format_address",
    "full_id",
    "parse_address",
    "parse_ptb",
    "verify_possession",
    "verify_user_secret_key",
    "verify_user_secret_keys",
]
