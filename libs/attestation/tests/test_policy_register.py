"""PCR16: what a policy puts there, and what an enclave does that finds something else."""

import hashlib
import time

import pytest

from daas.attestation import POLICY_REGISTER, NsmClient, commit_policy, parse_document, policy_register
from daas.common.errors import ConfigurationError
from daas.devstack.nsm import DevelopmentAuthority, SoftwareNsm, create_root, development_measurement

DIGEST = bytes(range(32))


class Direct:
    """Carries requests to a software NSM in this process."""

    simulated = True

    def __init__(self, nsm: SoftwareNsm) -> None:
        self.nsm = nsm

    def exchange(self, request: bytes) -> bytes:
        return self.nsm.process(request)

    def close(self) -> None:
        """Nothing is open."""


def an_nsm() -> NsmClient:
    now_ms = time.time_ns() // 1_000_000
    authority = DevelopmentAuthority(create_root(now_ms))
    return NsmClient(Direct(SoftwareNsm(authority, development_measurement(), lambda: now_ms)))


def test_the_register_is_one_extension_by_the_digest() -> None:
    assert policy_register(DIGEST) == hashlib.sha384(bytes(48) + DIGEST).digest()
    with pytest.raises(ConfigurationError, match="32 bytes"):
        policy_register(DIGEST[:31])


def test_a_committed_policy_is_locked_and_in_every_document() -> None:
    nsm = an_nsm()
    assert POLICY_REGISTER not in parse_document(nsm.attestation()).pcrs
    register = commit_policy(nsm, DIGEST)
    assert register == policy_register(DIGEST)
    assert nsm.describe_pcr(POLICY_REGISTER).locked
    assert parse_document(nsm.attestation()).pcrs[POLICY_REGISTER] == register


def test_a_process_that_starts_again_in_the_same_enclave_finds_its_policy() -> None:
    nsm = an_nsm()
    assert commit_policy(nsm, DIGEST) == commit_policy(nsm, DIGEST)


def test_another_policy_in_the_same_enclave_is_refused() -> None:
    nsm = an_nsm()
    commit_policy(nsm, DIGEST)
    with pytest.raises(ConfigurationError) as refused:
        commit_policy(nsm, bytes(32))
    assert refused.value.reason == "policy-register"


@pytest.mark.parametrize("lock", [False, True])
def test_a_register_that_somebody_extended_before_is_refused(*, lock: bool) -> None:
    nsm = an_nsm()
    nsm.extend_pcr(POLICY_REGISTER, b"before")
    if lock:
        nsm.lock_pcr(POLICY_REGISTER)
    with pytest.raises(ConfigurationError):
        commit_policy(nsm, DIGEST)
    assert nsm.describe_pcr(POLICY_REGISTER).locked is lock, "what can't be put right is left as it is"
