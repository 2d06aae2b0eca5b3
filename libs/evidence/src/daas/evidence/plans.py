"""Plans over the whole cluster: the file in which one travels, and what a stranger checks of it, offline.

A file holds the plan's fact, the evidence of the last batch before it (whose attestation vouches for the key, and whose
replay leads to the state), and the log entries after that batch up to the plan. No solver is needed, and none loaded.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.common.errors import DecodeError, NotFound, Refused
from daas.common.messages import decode
from daas.common.plans import ALLOCATION, REBALANCE, Planned
from daas.evidence.anchors import AnchorSource
from daas.evidence.bundle import MAX_ENTRIES, MAX_FILE_BYTES, Case, Raw, RawEntry, describe, segment_of
from daas.evidence.checks import Examined
from daas.evidence.replay import Replay
from daas.evidence.report import Check, Report, failed, passed
from daas.evidence.store import EvidenceStore
from daas.evidence.trust import Trust
from daas.evidence.verify import Making, make_check, report_of
from daas.placement.allocation import Certificate, Moment, Objective, verify
from daas.placement.balance import PastMove, RebalancePolicy, Situation
from daas.placement.balance import RebalancePlan as Moves
from daas.placement.balance import verify as verify_moves
from daas.placement.balance.situation import committed_budgets

FORMAT: Final = "k3s-daas.io/plan"
#: Log entries of these numbers, both ends included.
EntriesBetween = Callable[[int, int], Awaitable[Sequence[RawEntry]]]
_PLAN_CHECKS: Final = ("plan signature", "plan basis", "plan certificate")


class PlanFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan with what it takes to check it.

    Attributes:
        planned: exact bytes of the fact.
        case: of the last batch before the plan.
        tail: log entries after that batch, up to the one that the plan names.
    """

    format: Literal["k3s-daas.io/plan"] = FORMAT
    version: Literal[1] = 1
    planned: Raw
    case: Case
    tail: Annotated[tuple[RawEntry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]


def encode_plan(file: PlanFile) -> bytes:
    """The bytes of a file."""
    return msgspec.json.encode(file)


def decode_plan(data: bytes) -> PlanFile:
    """The file.

    Raises:
        DecodeError: `evidence-malformed`.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DecodeError(f"a file of {len(data)} bytes", reason="evidence-malformed")
    try:
        return msgspec.json.decode(data, type=PlanFile)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"the plan file: {error}", reason="evidence-malformed") from None


async def collect_plan(
    store: EvidenceStore, kind: str, place: int | None = None, *, entries: EntriesBetween | None = None
) -> PlanFile:
    """An archived plan with its evidence: the newest of its kind, or that at a place in the PLAN stream.

    The log entries between the batch before the plan and the plan are archived with the batch after it.

    Args:
        store: the archive.
        kind: of the plan.
        place: in the PLAN stream.
        entries: where to get log entries from that no batch has followed yet; whoever gives them is not trusted.

    Raises:
        NotFound: `no-evidence`: there is no such plan, or the batch before it is not stored.
        NotFound: `no-plan-log`: no batch has followed the plan yet, and there are no `entries`.
    """
    places = await store.places(store.keys.plans(kind)) if place is None else (place,)
    if not places:
        raise NotFound(f"no plan of kind {kind} is stored", reason="no-evidence", field="kind")
    raw = await store.fact(store.keys.plan(kind, places[-1]))
    said = decode(raw, Planned).basis
    case = await store.case(said.sequence)
    first = case.bundle.decision().header.log_sequence + 1
    tail: tuple[RawEntry, ...] = ()
    if said.log_sequence >= first:
        try:
            following = (await store.bundle(said.sequence + 1)).log
        except NotFound:
            if entries is None:
                raise NotFound(
                    f"log entries {first} to {said.log_sequence} are archived with batch {said.sequence + 1}, "
                    "which is not stored yet",
                    reason="no-plan-log",
                ) from None
            following = tuple(await entries(first, said.log_sequence))
        tail = tuple(entry for entry in following if entry.sequence <= said.log_sequence)
    return PlanFile(planned=raw, case=case, tail=tail)


async def verify_plan(
    file: PlanFile, trust: Trust, *, source: AnchorSource | None, now_ms: int, offline: bool = False
) -> tuple[Report, Moment | None]:
    """All checks on the batch before the plan, then those on the plan itself; and the state it was made from."""
    planned = decode(file.planned, Planned)
    replaying: list[Replay] = []

    def replay() -> Check:
        made = Replay(trust, file.case.snapshot, file.case.start)
        for segment in file.case.segments:
            made.through(segment)
        decided = file.case.bundle.decision()
        made.through(segment_of(file.case.bundle), decided.leaves, decided.fairness)
        replaying.append(made)
        return made.result(made.sequence)

    examined = Examined(file.case, (), trust, now_ms, planned.basis.sequence)
    report = await report_of(examined, source, offline=offline, replaying=replay)

    def moment() -> Moment:
        if not replaying:
            raise Refused("the batch before the plan can't be replayed", reason="replay-order")
        return replaying[0].moment()

    def basis_now() -> Check:
        if not replaying:
            raise Refused("the batch before the plan can't be replayed", reason="replay-order")
        replaying[0].fold(file.tail)
        return basis(planned, replaying[0].moment(), trust)

    makings: tuple[Making, ...] = (
        partial(signature, planned, file.case.bundle.decision().public_key),
        basis_now,
        lambda: certificate(planned, moment()),
    )
    more = [await make_check(name, making) for name, making in zip(_PLAN_CHECKS, makings, strict=True)]
    subject = f"{planned.kind} plan at log entry {planned.basis.log_sequence}"
    whole = msgspec.structs.replace(report, subject=subject, checks=(*report.checks, *more))
    return whole, replaying[0].moment() if whole.ok else None


def signature(planned: Planned, attested_key: str) -> Check:
    """The attested key signed kind, basis and certificate digest."""
    name = "plan signature"
    if planned.public_key != attested_key:
        return failed(
            name, f"key {describe(planned.public_key)} signed, the attestation is of {describe(attested_key)}"
        )
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(planned.public_key))
        key.verify(bytes.fromhex(planned.signature), planned.signed_bytes())
    except (InvalidSignature, ValueError):
        return failed(name, f"key {describe(planned.public_key)} did not sign this plan")
    return passed(name, f"the attested key {describe(planned.public_key)} signed it", public_key=planned.public_key)


def basis(planned: Planned, moment: Moment, trust: Trust) -> Check:
    """The state that the log leads to is the one that the plan names."""
    name, said = "plan basis", planned.basis
    for what, claimed, found in (
        ("chain", said.chain, trust.chain.hex()),
        ("registry", said.registry, "0x" + trust.registry.hex()),
        ("policy", said.policy, trust.policy.digest().hex()),
        ("batch", said.sequence, moment.head.sequence),
        ("digest of the batch", said.digest, moment.head.digest.hex()),
        ("log entry", said.log_sequence, moment.head.log_sequence),
        ("log root", said.log_root, moment.head.log_root.hex()),
        ("state root", said.state_root, moment.state_root.hex()),
        ("time", planned.timestamp_ms, moment.now_ms),
    ):
        if claimed != found:
            return failed(name, f"{what} is {describe(claimed)} in the plan, {describe(found)} by the log")
    return passed(
        name,
        f"the log up to entry {said.log_sequence} leads to the state root {describe(said.state_root)}",
        log_sequence=said.log_sequence,
        state_root=said.state_root,
    )


def certificate(planned: Planned, moment: Moment) -> Check:
    """The certificate holds for that state: integers only.

    Raises:
        DaasError: it doesn't, with the reason.
    """
    name = "plan certificate"
    packed = certificate_bytes(planned)
    if planned.kind == ALLOCATION:
        found = Certificate.unpack(packed)
        _same_digest(planned, found.digest())
        verdict = verify(moment.cluster, _convert(planned.asked.get("objective", {}), Objective), found)
        return passed(
            name,
            verdict.sentence(),
            value=verdict.value,
            bound=verdict.bound,
            gap=verdict.gap,
            gap_ppm=verdict.gap_ppm,
            optimal=verdict.optimal,
        )
    if planned.kind != REBALANCE:
        return failed(name, f"there is no plan of kind {planned.kind}")
    moves = Moves.from_bcs(packed)
    _same_digest(planned, moves.digest())
    balance = verify_moves(situation_of(planned, moment), moves)
    return passed(
        name,
        f"{balance.moves} moves lower the potential from {balance.before} to {balance.after}, "
        f"{balance.closed_ppm / 10_000:.2f} % of the distance to its floor {balance.floor}",
        moves=balance.moves,
        before=str(balance.before),
        after=str(balance.after),
        floor=str(balance.floor),
        closed_ppm=balance.closed_ppm,
    )


def situation_of(planned: Planned, moment: Moment) -> Situation:
    """What a rebalance was planned from: cluster and disruption budgets as the log leads to them.

    Raises:
        Refused: `plan-request`: the fact's request is none.
    """
    return Situation(
        cluster=moment.cluster,
        policy=_convert(planned.asked.get("policy", {}), RebalancePolicy),
        budgets=committed_budgets(moment.budgets),
        past=_convert(planned.asked.get("past", ()), tuple[PastMove, ...]),
        now_ms=moment.now_ms,
    )


def _convert(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Refused(f"the request in the plan: {error}", reason="plan-request", field="asked") from None


def _same_digest(planned: Planned, found: bytes) -> None:
    if found.hex() != planned.certificate_digest:
        raise Refused(
            f"the certificate hashes to {found.hex()}, {planned.certificate_digest} was signed",
            reason="certificate-digest",
            field="certificate",
        )


def certificate_bytes(planned: Planned) -> bytes:
    """The certificate as it travels.

    Raises:
        Refused: `certificate-digest`.
    """
    try:
        return base64.b64decode(planned.certificate, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("the certificate is not base64", reason="certificate-digest", field="certificate") from None
