"""Did a pod that is in the log get its decision, and was that anchored in time? Judged by the enclave's own receipt.

A receipt says that the log up to an entry is inside, and which decision is the last one that it led to. With the log
since a known state anyone makes those decisions again: whichever of them the ledger doesn't have after a while is
being kept back, by the host, the bus or the relay.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from daas.common.errors import DaasError, DecodeError, Refused
from daas.common.messages import EnclaveRegistered, Header, Name, PlacementReceived, decode
from daas.common.receipt import signed_message
from daas.evidence import vouching
from daas.evidence.anchors import AnchorSource
from daas.evidence.bundle import MAX_ENTRIES, MAX_FILE_BYTES, Raw, RawEntry, Snapshot, describe
from daas.evidence.checks import PodName
from daas.evidence.replay import batch_of
from daas.evidence.report import Check, Report, failed, passed, unchecked
from daas.evidence.trust import Trust
from daas.evidence.vouching import NO_LEDGER, Vouched
from daas.placement import Scheduler
from daas.placement.errors import EventError
from daas.placement.log import PodUpserted, decode_entry, decode_event

FORMAT: Final = "k3s-daas.io/arrival"


class HeadSource(AnchorSource, Protocol):
    """A client of the chain that also says how far a registry is."""

    async def head(self, registry: str) -> int:
        """Number of the last batch that the ledger has."""
        ...


class ArrivalCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is needed to judge an arrival anywhere.

    Attributes:
        receipt: exact bytes of the `placement.received` message.
        document, registered: what speaks for the key that signed it.
        start, snapshot: header of a batch before the arrival and the state after it; None for both: from the beginning.
        log: all entries since, up to the one that the receipt names.
    """

    format: Literal["k3s-daas.io/arrival"] = FORMAT
    version: Literal[1] = 1
    cluster: Name
    receipt: Raw
    document: Raw
    registered: EnclaveRegistered
    start: Header | None
    snapshot: Snapshot | None
    log: Annotated[tuple[RawEntry, ...], msgspec.Meta(max_length=MAX_ENTRIES)]


def encode_arrival(case: ArrivalCase) -> bytes:
    """The file of a case: JSON, raw bytes in base64."""
    return msgspec.json.encode(case)


def decode_arrival(data: bytes) -> ArrivalCase:
    """The case in a file.

    Raises:
        DecodeError: `evidence-malformed`.
    """
    if len(data) > MAX_FILE_BYTES:
        raise DecodeError(f"a file of {len(data)} bytes, at most {MAX_FILE_BYTES}", reason="evidence-malformed")
    try:
        return msgspec.json.decode(data, type=ArrivalCase)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"arrival: {error}", reason="evidence-malformed") from None


@dataclass(frozen=True)
class Course:
    """What the log led to, as far as one pod is concerned.

    Attributes:
        entry, arrived_ms: the first entry that shows the pod waiting for this scheduler, and its time; None: there is
            none.
        sequence, node: the first decision about it after that; None: there is none.
        log_ms: time of the last readable entry.
    """

    entry: int | None
    arrived_ms: int
    sequence: int | None
    node: str | None
    log_ms: int


async def verify_arrival(
    data: bytes,
    pod: PodName,
    trust: Trust,
    *,
    bound_ms: int,
    source: HeadSource | None,
    now_ms: int,
    offline: bool = False,
) -> Report:
    """All checks on an arrival.

    Args:
        data: the file.
        pod: whose arrival.
        trust: what the verifier pins.
        bound_ms: how long a decision may take from the receipt to the ledger.
        source: the ledger.
        now_ms: the verifier's clock.
        offline: accept that the ledger's checks are not made.
    """
    subject = f"arrival of pod {pod}"
    try:
        case = decode_arrival(data)
        receipt = decode(case.receipt, PlacementReceived)
        judged = _Arrival(case, receipt, pod, trust, bound_ms, now_ms)
    except DaasError as error:
        check = failed("receipt", error.message)
        return Report(subject=subject, sequence=None, simulated=None, offline=offline, checks=(check,))
    checks = [
        await _make("receipt", judged.receipt_check),
        await _make("attestation", lambda: vouching.attestation(judged.vouched)),
        await _make("measurements", lambda: vouching.measurements(judged.vouched.parsed, trust)),
        await _make("binding", lambda: vouching.binding(judged.vouched)),
        await _make("registration", lambda: vouching.registration(judged.vouched, source)),
        await _make("log", judged.log_check),
        await _make("arrival", judged.arrival_check),
        await _make("in time", lambda: judged.in_time(source)),
    ]
    return Report(
        subject=subject, sequence=judged.decided, simulated=receipt.simulated, offline=offline, checks=tuple(checks)
    )


async def _make(name: str, making: Callable[[], Check | Awaitable[Check]]) -> Check:
    """A check that can't be made has failed."""
    try:
        made = making()
        return made if isinstance(made, Check) else await made
    except DaasError as error:
        return failed(name, error.message)


@dataclass
class _Arrival:
    case: ArrivalCase
    receipt: PlacementReceived
    pod: PodName
    trust: Trust
    bound_ms: int
    now_ms: int
    course: Course | None = None

    @property
    def vouched(self) -> Vouched:
        """The key under the receipt, and what speaks for it."""
        return Vouched(
            document=self.case.document,
            public_key=self.receipt.public_key,
            registered=self.case.registered,
            used_ms=self.receipt.timestamp_ms,
            trust=self.trust,
            now_ms=self.now_ms,
        )

    @property
    def decided(self) -> int | None:
        """The decision about the pod, once the log has been replayed."""
        return self.course.sequence if self.course else None

    def receipt_check(self) -> Check:
        """The key signed this receipt, for this chain and registry."""
        name, receipt, trust = "receipt", self.receipt, self.trust
        check_receipt(receipt)
        for what, found, expected in (
            ("cluster", self.case.cluster, trust.cluster),
            ("chain", receipt.chain, trust.chain.hex()),
            ("registry", receipt.registry, "0x" + trust.registry.hex()),
            ("simulated", receipt.simulated, trust.simulated),
        ):
            if found != expected:
                return failed(name, f"{what} is {describe(found)}, expected {describe(expected)}")
        return passed(
            name,
            f"Ed25519 by key {describe(receipt.public_key)} over the {len(signed_message(receipt))} bytes of the "
            f"IntentMessage: the log up to entry {receipt.log_sequence} was inside at {receipt.timestamp_ms} ms",
            public_key=receipt.public_key,
            log_sequence=receipt.log_sequence,
            timestamp_ms=receipt.timestamp_ms,
        )

    def log_check(self) -> Check:
        """The entries are those under the receipt, and replaying them ends at the decision that it names."""
        case, receipt = self.case, self.receipt
        start = batch_of(case.start) if case.start is not None else None
        if case.snapshot is not None and start is not None:
            scheduler = Scheduler.restore(self.trust.genesis, case.snapshot.data, start)
        elif case.snapshot is None and start is None:
            scheduler = Scheduler(self.trust.genesis)
        else:
            raise Refused("a snapshot and the header of its batch come together or not at all", reason="arrival-start")
        entry, arrived_ms, uid, log_ms = None, 0, self.pod.uid, 0
        decided: tuple[int, str | None] | None = None
        for raw in case.log:
            decision = scheduler.apply(raw.sequence, raw.data).decision
            seen, entry_ms = _seen(raw.data, self.pod)
            log_ms = entry_ms or log_ms
            if entry is None and seen is not None:
                entry, arrived_ms, uid = raw.sequence, entry_ms, seen
            if decision is None or entry is None or decided is not None:
                continue
            leaf = next((each for each in decision.leaves if each.pod_uid == uid), None)
            if leaf is not None:
                decided = (decision.batch.sequence, leaf.node)
        sequence, digest, log_sequence, log_root = scheduler.position
        found = (log_sequence, log_root.hex(), sequence, digest.hex())
        expected = (receipt.log_sequence, receipt.log_root, receipt.sequence, receipt.head)
        if found != expected:
            names = ("entry", "log root", "decision", "digest")
            wrong = [
                f"{what} is {describe(f)}, the receipt says {describe(e)}"
                for what, f, e in zip(names, found, expected, strict=True)
                if f != e
            ]
            return failed("log", "; ".join(wrong))
        chosen, node = decided or (None, None)
        self.course = Course(entry, arrived_ms, chosen, node, log_ms)
        return passed(
            "log",
            f"{len(case.log)} entries up to {log_sequence} hash to the root that was signed, and made again from "
            f"{f'batch {case.start.sequence}' if case.start else 'the beginning'} they end at decision {sequence}",
            entries=len(case.log),
            log_root=receipt.log_root,
            sequence=sequence,
            head=receipt.head,
        )

    def arrival_check(self) -> Check:
        """The pod stands in the log under the receipt."""
        course = self._require_course()
        if course.entry is None:
            return failed("arrival", f"pod {self.pod} is not in these entries as one that waits for this scheduler")
        return passed(
            "arrival",
            f"entry {course.entry} brought pod {self.pod} at {course.arrived_ms} ms by the log",
            entry=course.entry,
            arrived_ms=course.arrived_ms,
        )

    async def in_time(self, source: HeadSource | None) -> Check:
        """The pod was decided, and the ledger has the decision, or there is still time."""
        name, course, bound_ms = "in time", self._require_course(), self.bound_ms
        if course.entry is None:
            return failed(name, "there is no arrival to judge")
        if course.sequence is None:
            waited_ms = course.log_ms - course.arrived_ms
            text = f"the log asks for no decision about it within {waited_ms} ms of log time, the bound is {bound_ms}"
            make = failed if waited_ms > bound_ms else passed
            return make(name, text, waited_ms=waited_ms, bound_ms=bound_ms)
        where = f"to node {course.node}" if course.node else "to no node"
        if source is None:
            return unchecked(name, NO_LEDGER)
        head = await source.head("0x" + self.trust.registry.hex())
        if head >= course.sequence:
            return passed(
                name,
                f"decision {course.sequence} places it {where}, and the ledger has {head} decisions",
                sequence=course.sequence,
                head=head,
            )
        waited_ms = self.now_ms - self.receipt.timestamp_ms
        text = (
            f"decision {course.sequence} places it {where}; its receipt is {waited_ms} ms old (bound {bound_ms}), "
            f"the ledger ends at {head}"
        )
        if waited_ms > bound_ms:
            return failed(name, f"WITHHELD: {text}", sequence=course.sequence, head=head, waited_ms=waited_ms)
        return passed(name, f"still in time: {text}", sequence=course.sequence, head=head, waited_ms=waited_ms)

    def _require_course(self) -> Course:
        if self.course is None:
            raise Refused("the log under the receipt could not be replayed", reason="arrival-log")
        return self.course


def _seen(data: bytes, pod: PodName) -> tuple[str | None, int]:
    """The uid under which an entry brings the pod unbound, and the entry's time; (None, 0) where it can't be read."""
    try:
        entry = decode_entry(data)
    except EventError:
        return None, 0
    for raw in entry.events:
        try:
            event = decode_event(raw)
        except EventError:
            continue
        if not isinstance(event, PodUpserted):
            continue
        meta, spec = event.pod.metadata, event.pod.spec
        named = (meta.namespace, meta.name) == (pod.namespace, pod.name) and pod.uid in (None, meta.uid)
        if named and not spec.node_name:
            return meta.uid, entry.timestamp_ms
    return None, entry.timestamp_ms


def brings(data: bytes, pod: PodName) -> bool:
    """Whether a log entry brings the pod as one that waits for a node."""
    return _seen(data, pod)[0] is not None


def check_receipt(receipt: PlacementReceived) -> None:
    """Checks the signature; whose key it is, is not judged here.

    Raises:
        Refused: `bad-signature`.
    """
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(receipt.public_key)).verify(
            bytes.fromhex(receipt.signature), signed_message(receipt)
        )
    except (InvalidSignature, ValueError):
        raise Refused(
            f"not a signature of {receipt.public_key} over this receipt", reason="bad-signature", field="signature"
        ) from None
