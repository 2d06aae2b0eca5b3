"""PCR16: the register into which an enclave puts its policy at boot and which it then locks.

The code is measured in PCR0-2; what the code was told to do is not. A locked PCR16 is in every document of the enclave
from then on, so that a verifier reads the policy from the hypervisor's word and not only from the enclave's own.
"""

import hashlib
from typing import Final, Protocol

from daas.attestation.document import PCR_BYTES
from daas.attestation.nsm import PcrState
from daas.common.errors import ConfigurationError

#: The first register that is not locked at boot.
POLICY_REGISTER: Final = 16
POLICY_DIGEST_BYTES: Final = 32
_ZERO: Final = bytes(PCR_BYTES)


class Registers(Protocol):
    """The part of an NSM client that this needs."""

    def describe_pcr(self, index: int) -> PcrState:
        """The value of a register and whether it is locked."""

    def extend_pcr(self, index: int, data: bytes) -> bytes:
        """Sets a register to SHA384(old || data)."""

    def lock_pcr(self, index: int) -> None:
        """Makes a register read-only."""


def policy_register(digest: bytes) -> bytes:
    """PCR16 of an enclave with this policy: SHA384(48 zero bytes || digest), 48 bytes.

    Raises:
        ConfigurationError: `policy-digest-length`.
    """
    if len(digest) != POLICY_DIGEST_BYTES:
        raise ConfigurationError(
            f"a policy digest has {POLICY_DIGEST_BYTES} bytes, not {len(digest)}", reason="policy-digest-length"
        )
    return hashlib.sha384(_ZERO + digest).digest()


def commit_policy(nsm: Registers, digest: bytes) -> bytes:
    """Extends PCR16 with the policy's digest and locks it; returns the register.

    A process that starts again in the same enclave finds it locked: right if it is the same policy.

    Raises:
        ConfigurationError: `policy-register` when it holds something else, locked or not: this enclave has been told
            two policies, and no document of it could say which one it follows.
    """
    expected = policy_register(digest)
    state = nsm.describe_pcr(POLICY_REGISTER)
    if not state.locked and state.data == _ZERO:
        nsm.extend_pcr(POLICY_REGISTER, digest)
        nsm.lock_pcr(POLICY_REGISTER)
        state = nsm.describe_pcr(POLICY_REGISTER)
    if not state.locked or state.data != expected:
        raise ConfigurationError(
            f"PCR{POLICY_REGISTER} is {state.data.hex()} ({'' if state.locked else 'not '}locked), "
            f"this policy makes {expected.hex()}",
            reason="policy-register",
        )
    return expected
