"""A stranger verifies true evidence, and finds what was changed in evidence that was tampered with."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from evidence_world import World, a_pod, small_world
from hypothesis import given, settings
from hypothesis import strategies as st

from daas.attestation import AWS_ROOT_SHA256
from daas.common.decision import INTENT_PLACEMENT, header_bcs, intent_message, payload_digest
from daas.common.errors import ConfigurationError, DecodeError, Refused, Unavailable
from daas.common.fairness import FairnessClaim
from daas.common.messages import Header, PlacementDecided, encode
from daas.devstack.nsm import development_measurement
from daas.evidence import (
    AnchorSource,
    Case,
    EvidenceBundle,
    LedgerTransaction,
    Outcome,
    RawEntry,
    Report,
    Snapshot,
    decode_bundle,
    encode_bundle,
    encode_file,
)
from daas.evidence.checks import PodName
from daas.evidence.explain import explain_pod, require
from daas.evidence.recorded import record_of
from daas.evidence.trust import Trust
from daas.evidence.verify import CHECK_NAMES, verify_file

WORLD = small_world()
POD = PodName("default", "web-3-1")
replace = msgspec.structs.replace


def verified(
    data: bytes | Case,
    *,
    trust: Trust = WORLD.trust,
    source: AnchorSource | None = WORLD.ledger,
    pod: PodName | None = POD,
    sequence: int | None = 3,
    offline: bool = False,
) -> Report:
    file = data if isinstance(data, bytes) else encode_file(data)
    now_ms = WORLD.now_ms + 60_000
    return asyncio.run(
        verify_file(file, trust, source=source, now_ms=now_ms, pod=pod, sequence=sequence, offline=offline)
    )


def changed(**fields: object) -> Case:
    """The case with other fields in its last bundle."""
    case = WORLD.case(3)
    return replace(case, bundle=replace(case.bundle, **fields))


def redecided(change: Callable[[PlacementDecided], PlacementDecided], *, sign: bool = False) -> Case:
    """The case with another decided message; with `sign`, hashed and signed as if the enclave had said so."""
    decided = change(WORLD.bundles[3].decision())
    if sign:
        digest = payload_digest(decided.header).hex()
        message = intent_message(INTENT_PLACEMENT, decided.timestamp_ms, header_bcs(decided.header))
        decided = replace(decided, payload_digest=digest, signature=WORLD.key.sign(message).hex())
        assert decided.fairness is not None
        decided = WORLD.with_fairness(decided, decided.fairness)
        anchored = replace(WORLD.bundles[3].anchored, payload_digest=digest)
        return changed(decided=encode(decided), anchored=anchored)
    return changed(decided=encode(decided))


def with_header(**fields: object) -> Callable[[PlacementDecided], PlacementDecided]:
    return lambda decided: replace(decided, header=replace(decided.header, **fields))


def test_every_check_passes_on_the_true_evidence_of_a_pod() -> None:
    report = verified(WORLD.case(3))
    assert report.ok, report
    assert tuple(check.name for check in report.checks) == CHECK_NAMES
    assert all(check.compared for check in report.checks)
    assert report.simulated is True
    inclusion = next(check for check in report.checks if check.name == "inclusion")
    assert inclusion.figures["node"] in {"node-0", "node-1", "node-2"}


@pytest.mark.parametrize(("sequence", "start"), [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2)])
def test_a_batch_replays_from_the_beginning_and_from_any_snapshot_before_it(sequence: int, start: int) -> None:
    report = verified(WORLD.case(sequence, start=start), pod=None, sequence=sequence)
    assert report.ok, report
    replayed = report.checks[-1]
    assert replayed.figures == {
        "start": start,
        "batches": sequence - start,
        "entries": sum(len(WORLD.bundles[n].log) for n in range(start + 1, sequence + 1)),
    }


def test_a_pod_that_fits_nowhere_is_proved_to_fit_nowhere() -> None:
    report = verified(WORLD.case(3), pod=PodName("default", "huge-3"))
    assert report.ok, report
    assert next(c for c in report.checks if c.name == "inclusion").figures["node"] is None


def test_without_a_ledger_its_checks_are_not_made_and_count_as_failed() -> None:
    report = verified(WORLD.case(3), source=None)
    assert not report.ok
    assert report.failed == ("registration", "anchor")
    assert {c.compared for c in report.checks if c.name in report.failed} == {"not checked: no ledger given"}


def recorded(sequence: int = 3) -> Case:
    """A case with what the ledger says about it."""
    case = WORLD.case(sequence)
    return replace(case, record=asyncio.run(record_of(case, WORLD.ledger, WORLD.trust.policy)))


def test_a_files_record_of_the_ledger_is_told_and_never_counts_as_the_ledger() -> None:
    offline = verified(recorded(), source=None, offline=True)
    assert offline.ok, offline
    told = {check.name: check for check in offline.checks}
    for name in ("registration", "anchor"):
        assert told[name].outcome is Outcome.UNCHECKED
        assert "as the file records it, transaction" in told[name].compared
    assert not verified(recorded(), source=None).ok
    assert verified(recorded()).ok


def test_a_record_that_contradicts_the_file_fails_offline_too() -> None:
    case = recorded()
    assert case.record is not None
    *others, anchoring = case.record.transactions
    event = replace(anchoring.anchored[0], state_root="11" * 32)
    changes = (
        ("anchor", replace(case.record, transactions=(*others, replace(anchoring, anchored=(event,))))),
        ("anchor", replace(case.record, transactions=tuple(others))),
        ("registration", replace(case.record, transactions=(anchoring,))),
        ("anchor", replace(case.record, chain="22" * 32)),
        ("evidence", replace(case.record, policy=case.record.policy | {"weight_node_affinity": 7})),
    )
    for name, record in changes:
        report = verified(replace(case, record=record), source=None, offline=True)
        assert name in {check.name for check in report.checks if check.outcome is Outcome.FAILED}, (name, report)


def test_whoever_asks_for_offline_gets_all_other_checks() -> None:
    report = verified(WORLD.case(3), source=None, offline=True)
    assert report.ok
    assert [c.name for c in report.checks if c.outcome is Outcome.UNCHECKED] == ["registration", "anchor"]


CASE = WORLD.case(3)
BUNDLE = CASE.bundle
MIDDLE = CASE.segments[1]
TICK = RawEntry(sequence=MIDDLE.log[-1].sequence, data=b"{}")


def with_fairness(change: Callable[[FairnessClaim], FairnessClaim]) -> Callable[[PlacementDecided], PlacementDecided]:
    def alter(decided: PlacementDecided) -> PlacementDecided:
        assert decided.fairness is not None
        return replace(decided, fairness=change(decided.fairness))

    return alter


TAMPERED: dict[str, tuple[Case, set[str]]] = {
    "a log entry with another byte": (
        changed(log=(*BUNDLE.log[:-1], replace(BUNDLE.log[-1], data=BUNDLE.log[-1].data.replace(b"web", b"wob")))),
        {"hash chain", "replay"},
    ),
    "a log entry left out": (changed(log=BUNDLE.log[1:]), {"hash chain", "replay"}),
    "a log entry too many": (
        changed(log=(*BUNDLE.log, RawEntry(sequence=BUNDLE.log[-1].sequence + 1, data=b"{}"))),
        {"hash chain", "replay"},
    ),
    "log entries in another order": (changed(log=tuple(reversed(BUNDLE.log))), {"hash chain", "replay"}),
    "a pod sent to another node": (
        redecided(
            lambda d: replace(
                d, leaves=tuple(replace(x, node="node-9" if x.name == "web-3-1" else x.node) for x in d.leaves)
            )
        ),
        {"leaves", "inclusion"},
    ),
    "a leaf left out": (redecided(lambda d: replace(d, leaves=d.leaves[1:])), {"leaves", "fairness", "inclusion"}),
    "leaves in another order": (redecided(lambda d: replace(d, leaves=d.leaves[::-1])), {"leaves", "inclusion"}),
    "another signature": (redecided(lambda d: replace(d, signature="00" * 64)), {"signature"}),
    "another signing time": (
        redecided(lambda d: replace(d, timestamp_ms=d.timestamp_ms + 1)),
        {"signature", "fairness", "anchor", "replay"},
    ),
    "another payload digest": (
        redecided(lambda d: replace(d, payload_digest="00" * 32)),
        {"header digest"},
    ),
    "another expiry": (
        redecided(with_header(expires_ms=1)),
        {"evidence", "header digest", "signature", "fairness", "anchor", "replay"},
    ),
    "a batch that the ledger never took, signed by the true key": (
        redecided(with_header(expires_ms=1), sign=True),
        {"anchor", "replay"},
    ),
    "another state root, signed by the true key": (
        redecided(with_header(state_root="11" * 32), sign=True),
        {"anchor", "replay"},
    ),
    "another policy, signed by the true key": (
        redecided(with_header(policy="11" * 32), sign=True),
        {"binding", "anchor", "replay"},
    ),
    "another predecessor, signed by the true key": (
        redecided(with_header(previous="11" * 32), sign=True),
        {"hash chain", "anchor", "replay"},
    ),
    "another number, signed by the true key": (
        redecided(with_header(sequence=4), sign=True),
        {"evidence", "hash chain", "anchor", "replay"},
    ),
    "another registry, signed by the true key": (
        redecided(with_header(registry="0x" + "11" * 32), sign=True),
        {"evidence", "hash chain", "anchor", "replay"},
    ),
    "a predecessor's header with another log root": (
        changed(previous=replace(BUNDLE.previous, log_root="22" * 32) if BUNDLE.previous else None),
        {"hash chain"},
    ),
    "no predecessor": (changed(previous=None), {"hash chain"}),
    "a batch on the way left out": (replace(CASE, segments=CASE.segments[:1]), {"hash chain", "replay"}),
    "a batch on the way with another log": (
        replace(CASE, segments=(CASE.segments[0], replace(MIDDLE, log=(*MIDDLE.log[:-1], TICK)))),
        {"hash chain", "replay"},
    ),
    "a batch on the way with another header": (
        replace(CASE, segments=(CASE.segments[0], replace(MIDDLE, header=replace(MIDDLE.header, expires_ms=1)))),
        {"hash chain", "replay"},
    ),
    "a batch on the way signed at another time": (
        replace(CASE, segments=(CASE.segments[0], replace(MIDDLE, timestamp_ms=MIDDLE.timestamp_ms + 1))),
        {"replay"},
    ),
    "the beginning left out": (
        replace(CASE, start=CASE.segments[0].header, segments=CASE.segments[1:]),
        {"replay"},
    ),
    "a beginning that is none": (replace(CASE, start=MIDDLE.header), {"hash chain"}),
    "a snapshot held against another batch": (
        replace(WORLD.case(3, start=1), start=replace(CASE.segments[0].header, state_root="11" * 32)),
        {"hash chain", "replay"},
    ),
    "a snapshot of another batch": (
        replace(WORLD.case(3, start=1), snapshot=Snapshot(sequence=1, data=WORLD.snapshots[2])),
        {"replay"},
    ),
    "a snapshot with another byte": (
        replace(
            WORLD.case(3, start=1),
            snapshot=Snapshot(sequence=1, data=WORLD.snapshots[1].replace(b"node-1", b"node-7")),
        ),
        {"replay"},
    ),
    "another document byte": (
        changed(document=BUNDLE.document[:-1] + bytes([BUNDLE.document[-1] ^ 1])),
        {"attestation", "registration"},
    ),
    "no document": (
        changed(document=b""),
        {"attestation", "measurements", "binding", "registration"},
    ),
    "another transaction": (
        changed(anchored=replace(BUNDLE.anchored, tx_digest="Anchored2")),
        {"anchor"},
    ),
    "a transaction that does not exist": (
        changed(anchored=replace(BUNDLE.anchored, tx_digest="Nowhere")),
        {"anchor"},
    ),
    "another checkpoint": (changed(anchored=replace(BUNDLE.anchored, checkpoint=77)), {"anchor"}),
    "an anchor of another key": (
        changed(anchored=replace(BUNDLE.anchored, public_key="00" * 32)),
        {"evidence"},
    ),
    "an anchor after the registration ended": (
        changed(anchored=replace(BUNDLE.anchored, timestamp_ms=BUNDLE.registered.expires_ms)),
        {"registration"},
    ),
    "a registration of another key": (
        changed(registered=replace(BUNDLE.registered, public_key="00" * 32)),
        {"registration"},
    ),
    "a registration in another transaction": (
        changed(registered=replace(BUNDLE.registered, tx_digest="Anchored1")),
        {"registration"},
    ),
    "a registration that never ends": (
        changed(registered=replace(BUNDLE.registered, expires_ms=2**62)),
        {"registration"},
    ),
    "a decision that hides that it is simulated": (
        redecided(lambda d: replace(d, simulated=False)),
        {"simulation mark"},
    ),
    "an anchor that hides that it is simulated": (
        changed(anchored=replace(BUNDLE.anchored, simulated=False)),
        {"simulation mark"},
    ),
    "a registration that hides that it is simulated": (
        changed(registered=replace(BUNDLE.registered, simulated=False)),
        {"simulation mark", "registration"},
    ),
    "no fairness certificate": (redecided(lambda d: replace(d, fairness=None)), {"fairness"}),
    "a fairness certificate with another ticket": (
        redecided(with_fairness(lambda f: replace(f, grants=(f.grants[1], f.grants[0], *f.grants[2:])))),
        {"fairness", "replay"},
    ),
    "a fairness certificate with other holdings, signed by the true key": (
        redecided(
            with_fairness(lambda f: replace(f, tenants=tuple(replace(t, used=()) for t in f.tenants))), sign=True
        ),
        {"replay"},
    ),
    "an unfair order under a certificate of the true key": (
        redecided(with_fairness(lambda f: replace(f, grants=f.grants[::-1])), sign=True),
        {"fairness", "replay"},
    ),
    "another cluster": (changed(cluster="other"), {"evidence"}),
    "a decided message that is none": (
        changed(decided=b"{}"),
        set(CHECK_NAMES) - {"measurements"},
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_found_by_the_checks_that_look_at_it(what: str) -> None:
    case, expected = TAMPERED[what]
    report = verified(case)
    assert not report.ok
    assert set(report.failed) == expected, [c for c in report.checks if not c.passed]


def test_evidence_that_was_altered_and_hashed_again_still_fails_for_what_it_says() -> None:
    case, _ = TAMPERED["a pod sent to another node"]
    sentence = next(c.compared for c in verified(case).checks if c.name == "leaves")
    assert "the leaves hash to" in sentence


def test_evidence_of_another_batch_or_without_the_pod_is_refused() -> None:
    assert verified(WORLD.case(2)).failed == ("evidence", "inclusion")
    assert verified(WORLD.case(3), pod=PodName("default", "web-3-1", uid="other")).failed == ("inclusion",)


def test_a_verifier_who_pins_something_else_accepts_nothing() -> None:
    trust = WORLD.trust
    for field, value, expected in (
        ("chain", bytes(32), {"evidence", "binding", "anchor", "replay"}),
        ("registry", bytes(32), {"evidence", "binding", "registration", "anchor", "replay"}),
        ("attestation_root", bytes(32), {"attestation"}),
        ("measurements", (development_measurement(["other"]),), {"measurements"}),
        ("cluster", "prod", {"evidence"}),
        ("attestation_root", AWS_ROOT_SHA256, {"attestation", "simulation mark", "anchor"}),
    ):
        fields = {name: getattr(trust, name) for name in Trust.__dataclass_fields__} | {field: value}
        assert set(verified(WORLD.case(3), trust=Trust(**fields)).failed) == expected, field


def test_a_document_made_for_another_key_vouches_for_nobody_else() -> None:
    other = World()
    other.key = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x02")
    other.authority = WORLD.authority
    other.attest()
    report = verified(changed(document=other.document))
    assert {"attestation", "registration"} <= set(report.failed)


def test_a_ledger_that_says_something_else_or_nothing_refuses_the_batch() -> None:
    true = WORLD.ledger.transactions["Anchored3"]
    event = true.anchored[0]

    class Other:
        def __init__(self, answer: LedgerTransaction) -> None:
            self.answer = answer

        async def chain(self) -> str:
            return await WORLD.ledger.chain()

        async def transaction(self, digest: str) -> LedgerTransaction:
            return self.answer if digest == "Anchored3" else await WORLD.ledger.transaction(digest)

    class Away(Other):
        async def transaction(self, digest: str) -> LedgerTransaction:
            raise Unavailable("the ledger does not answer", reason="ledger-unreachable")

    for name in event.__struct_fields__:
        value = getattr(event, name)
        other = (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int) else "0x" + "33" * 32
        answer = replace(true, anchored=(replace(event, **{name: other}),))
        report = verified(WORLD.case(3), source=Other(answer))
        # Which of a key's registrations signed is the ledger's business: the key is the same.
        assert report.failed == (() if name == "enclave" else ("anchor",)), name
    assert verified(WORLD.case(3), source=Other(replace(true, succeeded=False))).failed == ("anchor",)
    assert verified(WORLD.case(3), source=Other(replace(true, anchored=()))).failed == ("anchor",)
    assert verified(WORLD.case(3), source=Other(replace(true, digest="X"))).failed == ("anchor",)
    assert verified(WORLD.case(3), source=Away(true)).failed == ("registration", "anchor")


def test_two_batches_anchored_in_one_transaction_are_told_apart() -> None:
    two, three = (WORLD.ledger.transactions[f"Anchored{n}"].anchored[0] for n in (2, 3))
    ledger = type(WORLD.ledger)(WORLD.ledger.chain_digest, dict(WORLD.ledger.transactions))
    ledger.transactions["Anchored3"] = replace(ledger.transactions["Anchored3"], anchored=(two, three))
    assert verified(WORLD.case(3), source=ledger).ok


FILE = encode_file(WORLD.case(3, start=1))


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, len(FILE) - 1), change=st.integers(1, 255))
def test_any_byte_of_the_file_that_is_changed_makes_a_named_check_fail(position: int, change: int) -> None:
    data = bytearray(FILE)
    data[position] ^= change
    report = verified(bytes(data))
    assert not report.ok
    assert "evidence" in report.failed


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_evidence_fail_every_check(data: bytes) -> None:
    report = verified(data)
    assert report.failed == CHECK_NAMES
    assert report.sequence is None


def test_white_space_between_the_fields_is_not_the_same_file() -> None:
    report = verified(FILE.replace(b',"version":1', b', "version":1', 1))
    assert report.failed == ("evidence",)


def test_a_trust_that_pins_nothing_can_not_be_made() -> None:
    fields = {name: getattr(WORLD.trust, name) for name in Trust.__dataclass_fields__}
    with pytest.raises(ConfigurationError, match="trust-no-measurement"):
        Trust(**fields | {"measurements": ()})
    with pytest.raises(ConfigurationError, match="trust-length"):
        Trust(**fields | {"chain": b""})


def test_bundles_have_one_encoding_of_each_value() -> None:
    data = encode_bundle(BUNDLE)
    assert decode_bundle(data) == BUNDLE
    for other in (data + b" ", data.replace(b'"version":1,', b'"version":1,"more":0,'), data[:-1], b"\xff"):
        with pytest.raises(DecodeError):
            decode_bundle(other)


def test_the_world_of_these_tests_knows_a_second_life_of_a_name() -> None:
    world = small_world(1)
    assert world.entry(a_pod("late", uid="second")) is not None
    assert isinstance(world.headers[2], Header)
    assert isinstance(world.bundles[2], EvidenceBundle)


def test_why_a_pod_stands_where_it_stands_is_told_from_the_evidence() -> None:
    explained = asyncio.run(
        explain_pod(
            WORLD.case(3),
            PodName("default", "web-3-1"),
            WORLD.trust,
            source=None,
            now_ms=WORLD.now_ms + 60_000,
            offline=True,
        )
    )
    found = require(explained)
    assert (found.nodes, found.feasible) == (3, 3)
    assert found.best[0].total == found.score
    assert found.node in {scored.node for scored in found.best if scored.total == found.score}
    assert all(scored.total == sum(scored.parts.values()) for scored in found.best)
    assert found.turn is not None
    assert (found.turn.namespace, found.turn.due) == ("default", 5)
    assert 0 < found.turn.share_ppm < 1_000_000


def test_what_keeps_a_pod_waiting_is_counted_by_filter() -> None:
    case, pod = WORLD.case(3, start=1), PodName("default", "huge-3")
    explained = asyncio.run(
        explain_pod(case, pod, WORLD.trust, source=None, now_ms=WORLD.now_ms + 60_000, offline=True)
    )
    found = require(explained)
    assert (found.node, found.feasible, found.best) == (None, 0, ())
    assert found.refused == {"insufficient-cpu": 3}
    assert found.reasons == ("insufficient-cpu",)


def test_nothing_is_explained_from_evidence_that_does_not_hold() -> None:
    case = replace(CASE, segments=CASE.segments[:1])
    explained = asyncio.run(
        explain_pod(case, PodName("default", "web-3-1"), WORLD.trust, source=None, now_ms=WORLD.now_ms, offline=True)
    )
    assert explained.explanation is None
    with pytest.raises(Refused, match="replay"):
        require(explained)
