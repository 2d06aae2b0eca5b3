"""Clock and keys of the enclave without a bus: when the clock counts as right, and when a key is replaced."""

import pytest

from daas.attestation import NsmClient
from daas.common.bus import Bus, BusSettings
from daas.common.errors import Unavailable
from daas.common.messages import EnclaveRegistered
from daas.common.subjects import Service
from daas.devstack.nsm import DevelopmentAuthority, SoftwareNsm, create_root, development_measurement
from daas.enclave.clock import HypervisorClock
from daas.enclave.keys import Keys
from daas.enclave.registration import LEAF_MARGIN_MS, LEAF_PACE_MS, RENEW_AT, Registration

START_MS = 1_790_000_000_000
HOUR_MS = 3_600_000


class Machine:
    """An NSM in this process; both clocks are set by the test."""

    simulated = True

    def __init__(self) -> None:
        self.hypervisor_ms = self.wall_ms = START_MS
        authority = DevelopmentAuthority(create_root(START_MS))
        self.nsm = SoftwareNsm(authority, development_measurement(), lambda: self.hypervisor_ms)

    def exchange(self, request: bytes) -> bytes:
        return self.nsm.process(request)

    def close(self) -> None:
        """Nothing is open."""


def fact(public_key: str, *, life_ms: int = 24 * HOUR_MS) -> EnclaveRegistered:
    return EnclaveRegistered(
        public_key=public_key,
        enclave="0x" + "44" * 32,
        registry="0x" + "22" * 32,
        measurement_version=1,
        tx_digest="tx",
        registered_ms=START_MS,
        expires_ms=START_MS + life_ms,
        simulated=True,
    )


@pytest.mark.parametrize(
    ("ahead_ms", "agrees"), [(0, True), (2_000, True), (-2_000, True), (2_001, False), (-2_001, False)]
)
def test_the_clock_counts_within_the_bound_whichever_way_it_is_off(ahead_ms: int, *, agrees: bool) -> None:
    machine = Machine()
    clock = HypervisorClock(NsmClient(machine), 2_000, lambda: machine.wall_ms)
    with pytest.raises(Unavailable, match="not been compared"):
        clock.require()
    machine.hypervisor_ms += ahead_ms
    assert clock.compare() is agrees
    assert clock.drift_ms == ahead_ms
    assert clock.now_ms() == machine.hypervisor_ms, "time is the hypervisor's"
    if not agrees:
        with pytest.raises(Unavailable) as refused:
            clock.require()
        assert refused.value.reason == "clock-drift"


def a_registration(machine: Machine, keys: Keys) -> Registration:
    nsm = NsmClient(machine)
    bus = Bus(Service.ENCLAVE, BusSettings(cluster="test"))
    return Registration(bus, nsm, keys, bytes(32), HypervisorClock(nsm, 2_000, lambda: machine.wall_ms))


def registered(keys: Keys, *, leaf_ms: int, life_ms: int = 24 * HOUR_MS) -> None:
    assert keys.registered(fact(keys.make().public_key, life_ms=life_ms), START_MS + leaf_ms)


def test_a_key_is_replaced_before_its_registration_or_its_certificate_ends_whichever_comes_first() -> None:
    machine = Machine()
    keys = Keys(NsmClient(machine))
    registration = a_registration(machine, keys)
    assert registration.renew_ms == 0, "without a key at once"
    registered(keys, leaf_ms=3 * HOUR_MS)
    assert registration.renew_ms == START_MS + 3 * HOUR_MS - LEAF_MARGIN_MS
    registered(keys, leaf_ms=3 * HOUR_MS, life_ms=HOUR_MS)
    assert registration.renew_ms == START_MS + int(HOUR_MS * RENEW_AT)
    registered(keys, leaf_ms=LEAF_MARGIN_MS)
    assert registration.renew_ms == START_MS + LEAF_PACE_MS, "a leaf near its end does not make it attest all the time"


def test_the_old_key_signs_until_the_new_one_is_registered_and_a_registration_that_is_over_signs_nothing() -> None:
    machine = Machine()
    keys = Keys(NsmClient(machine))
    registration = a_registration(machine, keys)
    with pytest.raises(Unavailable, match="not accepted"):
        registration.require()
    registered(keys, leaf_ms=3 * HOUR_MS)
    old = registration.require()
    new = keys.make()
    assert registration.require() is old
    assert not keys.registered(fact("ab" * 32), START_MS), "somebody else's registration changes nothing"
    assert keys.registered(fact(new.public_key), START_MS + HOUR_MS)
    assert registration.require() is new
    assert keys.is_own(old.public_key)
    assert not keys.is_own("ab" * 32)
    machine.wall_ms += 24 * HOUR_MS
    with pytest.raises(Unavailable) as over:
        registration.require()
    assert over.value.reason == "registration-expired"


def test_two_keys_are_never_the_same_and_say_nothing_of_themselves() -> None:
    keys = Keys(NsmClient(Machine()))
    first, second = keys.make(), keys.make()
    assert first.public_key != second.public_key
    assert repr(first) == f"Identity({first.public_key})"
