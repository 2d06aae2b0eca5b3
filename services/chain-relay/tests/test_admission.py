"""What the relay checks before it spends gas: whatever is altered in a decision is refused with a reason."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from daas.common import decision, merkle
from daas.common.errors import DecodeError, Refused
from daas.common.messages import DecidedLeaf, Header, PlacementDecided, decode, encode
from daas.relay.admission import Admission
from daas.relay.outbox import KeyRecord, Outbox

NOW_MS = 1_795_000_000_000
CHAIN = merkle.digest(b"chain")
REGISTRY = "0x" + "22" * 32
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC_KEY = KEY.public_key().public_bytes_raw().hex()
RECORD = KeyRecord(
    enclave="0x" + "33" * 32,
    public_key=PUBLIC_KEY,
    measurement_version=1,
    registered_ms=NOW_MS - 1_000,
    expires_ms=NOW_MS + 1_000,
)


LEAVES = tuple(
    DecidedLeaf(
        pod_uid=f"uid-{n}",
        namespace="default",
        name=f"pod-{n}",
        resource_version=str(n),
        node=None if n == 2 else f"node-{n}",
        score=n,
        reasons=n,
    )
    for n in range(3)
)


def signed(key: Ed25519PrivateKey = KEY, leaves: tuple[DecidedLeaf, ...] = LEAVES, **changed: Any) -> PlacementDecided:
    """A decision that is consistent and well signed."""
    fields: dict[str, Any] = {
        "chain": CHAIN.hex(),
        "registry": REGISTRY,
        "sequence": 7,
        "previous": "44" * 32,
        "log_sequence": 9,
        "log_root": "55" * 32,
        "policy": "66" * 32,
        "state_root": "77" * 32,
        "decisions": merkle.root([decision.leaf_bcs(leaf) for leaf in leaves]).hex(),
        "count": len(leaves),
        "expires_ms": NOW_MS + 30_000,
    }
    header = Header(**(fields | changed))
    message = decision.intent_message(1, NOW_MS, decision.header_bcs(header))
    return PlacementDecided(
        header=header,
        payload_digest=decision.payload_digest(header).hex(),
        timestamp_ms=NOW_MS,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(message).hex(),
        simulated=True,
        leaves=leaves,
    )


@pytest.fixture(scope="module")
def outbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outbox]:
    with Outbox(tmp_path_factory.mktemp("outbox") / "outbox.sqlite") as opened:
        opened.registered(RECORD)
        yield opened


@pytest.fixture(scope="module")
def admission(outbox: Outbox) -> Admission:
    made = Admission(REGISTRY, outbox)
    made.learn(CHAIN, simulated=True)
    return made


def reason(admission: Admission, decided: PlacementDecided, now_ms: int = NOW_MS) -> str:
    with pytest.raises(Refused) as refused:
        admission.check(decided, now_ms)
    return refused.value.reason


def test_what_a_registered_enclave_signed_is_admitted_with_its_registration(admission: Admission) -> None:
    assert admission.check(signed(), NOW_MS) == RECORD


@settings(deadline=None)
@given(data=st.data())
def test_no_byte_of_a_header_can_be_altered(admission: Admission, data: st.DataObject) -> None:
    decided = signed()
    name = data.draw(st.sampled_from(Header.__struct_fields__))
    value = getattr(decided.header, name)
    if isinstance(value, int):
        limit = 2**32 if name == "count" else 2**63
        other: Any = data.draw(st.integers(0, limit - 1).filter(lambda n: n != value))
    else:
        prefix = value[:2] if value.startswith("0x") else ""
        other = prefix + data.draw(st.binary(min_size=32, max_size=32)).hex()
    header = msgspec.structs.replace(decided.header, **{name: other})
    if header == decided.header:
        return
    altered = msgspec.structs.replace(decided, header=header)
    assert reason(admission, altered) == "payload-digest"
    # Whoever alters it can make the digest fit, but not the signature.
    fitting = msgspec.structs.replace(altered, payload_digest=decision.payload_digest(header).hex())
    assert reason(admission, fitting) in {
        "bad-signature",
        "wrong-chain",
        "wrong-registry",
        "leaf-count",
        "decisions-root",
    }


@settings(deadline=None)
@given(data=st.data())
def test_no_leaf_can_be_altered_added_dropped_or_moved(admission: Admission, data: st.DataObject) -> None:
    decided = signed()
    how = data.draw(st.sampled_from(["alter", "add", "drop", "swap"]))
    leaves = list(decided.leaves)
    if how == "alter":
        index = data.draw(st.integers(0, 2))
        name = data.draw(st.sampled_from(DecidedLeaf.__struct_fields__))
        value = getattr(leaves[index], name)
        other = (
            data.draw(st.integers(0, 2**63 - 1))
            if isinstance(value, int)
            else data.draw(st.text(min_size=1, max_size=20).filter(str.isprintable))
        )
        leaves[index] = msgspec.structs.replace(leaves[index], **{name: other})
    elif how == "add":
        leaves.append(leaves[data.draw(st.integers(0, 2))])
    elif how == "drop":
        del leaves[data.draw(st.integers(0, 2))]
    else:
        leaves.reverse()
    if tuple(leaves) == decided.leaves:
        return
    altered = msgspec.structs.replace(decided, leaves=tuple(leaves))
    assert reason(admission, altered) in {"leaf-count", "decisions-root"}


@settings(deadline=None)
@given(bit=st.integers(0, 511))
def test_no_bit_of_a_signature_can_be_altered(admission: Admission, bit: int) -> None:
    decided = signed()
    raw = bytearray.fromhex(decided.signature)
    raw[bit // 8] ^= 1 << bit % 8
    assert reason(admission, msgspec.structs.replace(decided, signature=raw.hex())) == "bad-signature"


@settings(deadline=None)
@given(timestamp_ms=st.integers(0, 2**63 - 1).filter(lambda n: n != NOW_MS))
def test_the_signed_time_cannot_be_altered(admission: Admission, timestamp_ms: int) -> None:
    assert reason(admission, msgspec.structs.replace(signed(), timestamp_ms=timestamp_ms)) == "bad-signature"


@settings(deadline=None)
@given(raw=st.binary(min_size=32, max_size=32))
def test_another_key_in_the_message_is_refused_whatever_its_bytes(admission: Admission, raw: bytes) -> None:
    if raw.hex() != PUBLIC_KEY:
        assert reason(admission, msgspec.structs.replace(signed(), public_key=raw.hex())) == "bad-signature"


@settings(deadline=None)
@given(data=st.data())
def test_no_byte_of_the_message_itself_can_be_altered_and_still_mean_something_else(
    admission: Admission, data: st.DataObject
) -> None:
    original = signed()
    raw = bytearray(encode(original))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] = data.draw(st.integers(0, 255))
    try:
        decided = decode(bytes(raw), PlacementDecided)
    except DecodeError:
        return
    if decided != original:
        with pytest.raises(Refused):
            admission.check(decided, NOW_MS)


def test_a_well_signed_batch_for_another_chain_or_registry_is_refused(admission: Admission) -> None:
    assert reason(admission, signed(chain="99" * 32)) == "wrong-chain"
    assert reason(admission, signed(registry="0x" + "99" * 32)) == "wrong-registry"


def test_a_real_registry_takes_nothing_simulated_and_a_simulated_one_nothing_real(outbox: Outbox) -> None:
    real = Admission(REGISTRY, outbox)
    real.learn(CHAIN, simulated=False)
    assert reason(real, signed()) == "simulated-mismatch"
    simulated = Admission(REGISTRY, outbox)
    simulated.learn(CHAIN, simulated=True)
    assert reason(simulated, msgspec.structs.replace(signed(), simulated=False)) == "simulated-mismatch"


def test_a_key_that_nobody_registered_is_refused(admission: Admission) -> None:
    assert reason(admission, signed(Ed25519PrivateKey.generate())) == "unregistered-key"


def test_a_registration_ends_with_its_time(admission: Admission) -> None:
    assert admission.check(signed(), RECORD.expires_ms - 1) == RECORD
    assert reason(admission, signed(), RECORD.expires_ms) == "expired"


@pytest.mark.parametrize("why", ["revoked", "measurement-retired", "expired"])
def test_a_registration_that_is_over_is_refused_with_what_ended_it(tmp_path: Path, why: str) -> None:
    with Outbox(tmp_path / "outbox.sqlite") as outbox:
        outbox.registered(RECORD)
        outbox.end(RECORD.enclave, why)
        admission = Admission(REGISTRY, outbox)
        admission.learn(CHAIN, simulated=True)
        assert reason(admission, signed()) == why
        # Registered once more, the key may sign again, under the new registration.
        again = replace(RECORD, enclave="0x" + "44" * 32, registered_ms=NOW_MS)
        outbox.registered(again)
        assert admission.check(signed(), NOW_MS) == again
