"""Strict verifier for AWS Nitro attestation documents, and an NSM client.

Verify:  `verify(document, AttestationPolicy(measurements={...}, nonce=..., user_data=..., ...), now_ms)`
Attest:  `with NsmClient.open("/dev/nsm") as nsm: nsm.attestation(nonce=..., public_key=...)`
"""

from daas.attestation.certificates import ChainCache
from daas.attestation.document import AttestationDocument, parse_document
from daas.attestation.errors import AttestationError, Reason
from daas.attestation.nsm import NSM_DEVICE, NsmClient, NsmDescription, PcrState
from daas.attestation.nsm_errors import NsmError, NsmErrorCode, NsmProtocolError, NsmRefused, NsmUnavailable
from daas.attestation.policy import (
    AWS_ROOT_SHA256,
    UNCHECKED,
    AttestationPolicy,
    Measurement,
    TimeMode,
    Unchecked,
)
from daas.attestation.registers import POLICY_REGISTER, commit_policy, policy_register
from daas.attestation.verifier import Attestation, verify

__all__ = [
    "AWS_ROOT_SHA256",
    "NSM_DEVICE",
    "POLICY_REGISTER",
    "UNCHECKED",
    "Attestation",
    "AttestationDocument",
    "AttestationError",
    "AttestationPolicy",
    "ChainCache",
    "Measurement",
    "NsmClient",
    "NsmDescription",
    "NsmError",
    "NsmErrorCode",
    "NsmProtocolError",
    "NsmRefused",
    "NsmUnavailable",
    "PcrState",
    "Reason",
    "TimeMode",
    "Unchecked",
    "commit_policy",
    "parse_document",
    "policy_register",
    "verify",
]
