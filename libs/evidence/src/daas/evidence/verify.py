"""Verification: every check on a batch or a pod, from a file or from the cluster's store, as one report.

A check that can't be made has failed; the only exception are the ledger's checks, for callers that say `offline`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

from daas.common.errors import DaasError, NotFound, Refused
from daas.common.messages import Header
from daas.evidence import checks, fairness, ledger_checks
from daas.evidence.anchors import AnchorSource
from daas.evidence.bundle import EvidenceBundle, case_of, decode_file, segment_of
from daas.evidence.checks import Examined, PodName
from daas.evidence.recorded import RecordedLedger, record_defects
from daas.evidence.replay import Replay, replay
from daas.evidence.report import Check, Report, failed, unchecked
from daas.evidence.store import EvidenceStore
from daas.evidence.trust import Trust

Making = Callable[[], Check | Awaitable[Check]]

LOCAL_CHECKS: Final[tuple[tuple[str, Callable[[Examined], Check]], ...]] = (
    ("header digest", checks.header),
    ("signature", checks.signature),
    ("simulation mark", checks.simulated),
    ("attestation", checks.attestation),
    ("measurements", checks.measurements),
    ("binding", checks.binding),
    ("hash chain", checks.hash_chain),
    ("leaves", checks.leaves),
    ("fairness", fairness.fairness),
)
CHECK_NAMES: Final = (
    "evidence",
    *(name for name, _ in LOCAL_CHECKS),
    "registration",
    "anchor",
    "inclusion",
    "replay",
)


async def verify_file(
    data: bytes,
    trust: Trust,
    *,
    source: AnchorSource | None,
    now_ms: int,
    pod: PodName | None = None,
    sequence: int | None = None,
    offline: bool = False,
) -> Report:
    """All checks on an exported file.

    Args:
        data: the file's bytes.
        trust: what the verifier pins.
        source: the ledger; without one its checks are not made.
        now_ms: the verifier's clock.
        pod: also check that this pod's placement is in the batch.
        sequence: the batch that it must be about.
        offline: accept that the ledger's checks are not made.
    """
    subject = _subject(pod, sequence)
    try:
        file = decode_file(data)
    except DaasError as error:
        return _unreadable(subject, f"the evidence can't be read: {error.message}", pod=pod, offline=offline)
    examined = Examined(file.case, file.defects + record_defects(file.case), trust, now_ms, sequence, pod)
    return await report_of(examined, source, offline=offline, replaying=lambda: replay(file.case, trust))


async def verify_batch(
    store: EvidenceStore,
    sequence: int,
    trust: Trust,
    *,
    source: AnchorSource | None,
    now_ms: int,
    pod: PodName | None = None,
    offline: bool = False,
) -> Report:
    """All checks on one batch of the cluster's store; with `pod`, also that its placement is in it."""
    try:
        case = await store.case(sequence)
    except DaasError as error:
        return _unreadable(_subject(pod, sequence), error.message, pod=pod, offline=offline)
    examined = Examined(case, (), trust, now_ms, sequence, pod)
    return await report_of(examined, source, offline=offline, replaying=lambda: replay(case, trust))


async def verify_pod(
    store: EvidenceStore,
    pod: PodName,
    trust: Trust,
    *,
    source: AnchorSource | None,
    now_ms: int,
    offline: bool = False,
) -> Report:
    """All checks on the newest decision about a pod."""
    try:
        newest = await store.newest_decision(pod.namespace, pod.name, pod.uid)
    except NotFound as error:
        return _unreadable(_subject(pod, None), error.message, pod=pod, offline=offline)
    return await verify_batch(store, newest.sequence, trust, source=source, now_ms=now_ms, pod=pod, offline=offline)


async def verify_all(
    store: EvidenceStore,
    trust: Trust,
    *,
    source: AnchorSource | None,
    now_ms: int,
    offline: bool = False,
    first: int = 1,
) -> AsyncIterator[Report]:
    """A report for each batch from `first` to the newest, in one replay, so that a whole chain costs one pass.

    A batch that is missing or does not replay fails, and so does the replay of those after it: they rest on it. All of
    them are reported; to start again behind a gap, call it with a later `first`.
    """
    latest = await store.latest()
    replaying: Replay | None = None
    before: Header | None = None
    for sequence in range(first, latest + 1):
        try:
            if replaying is None and sequence == first:
                case = await store.case(sequence)
                bundle = case.bundle
                replaying = Replay(trust, case.snapshot, case.start)
                for segment in case.segments:
                    replaying.through(segment)
            else:
                bundle = await store.bundle(sequence)
        except DaasError as error:
            yield _unreadable(f"batch {sequence}", error.message, pod=None, offline=offline)
            before = None
            continue
        examined = Examined(case_of([bundle], None), (), trust, now_ms, sequence)
        making = _continuing(replaying, bundle, before if sequence > first else bundle.previous)
        yield await report_of(examined, source, offline=offline, replaying=making)
        before = _header(bundle)


def _continuing(replaying: Replay | None, bundle: EvidenceBundle, before: Header | None) -> Callable[[], Check]:
    def make() -> Check:
        if bundle.previous != before:
            raise Refused("the batch before is missing or another one", reason="replay-order")
        if replaying is None:
            raise Refused("an earlier batch can't be replayed", reason="replay-order")
        decided = bundle.decision()
        replaying.through(segment_of(bundle), decided.leaves, decided.fairness)
        return replaying.result(replaying.sequence)

    return make


def _header(bundle: EvidenceBundle) -> Header | None:
    try:
        return bundle.decision().header
    except DaasError:
        return None


async def report_of(
    examined: Examined, source: AnchorSource | None, *, offline: bool, replaying: Callable[[], Check]
) -> Report:
    """Every check on a batch, `replaying` being the last."""
    results = [await make_check("evidence", lambda: checks.evidence(examined))]
    for name, check in LOCAL_CHECKS:
        results.append(await make_check(name, partial(check, examined)))
    for name, check_on in (("registration", ledger_checks.registration), ("anchor", ledger_checks.anchor)):
        results.append(await _asked(name, examined, source, check_on))
    if examined.pod is not None:
        results.append(await make_check("inclusion", lambda: checks.inclusion(examined)))
    results.append(await make_check("replay", replaying))
    header = _header(examined.bundle)
    return Report(
        subject=_subject(examined.pod, header.sequence if header else examined.sequence),
        sequence=header.sequence if header else None,
        simulated=examined.trust.simulated or examined.bundle.anchored.simulated,
        offline=offline,
        checks=tuple(results),
    )


async def make_check(name: str, making: Making) -> Check:
    """The check's result; whatever keeps it from being made is a failure with the reason."""
    try:
        made = making()
        return made if isinstance(made, Check) else await made
    except DaasError as error:
        return failed(name, error.message, reason=error.reason)
    except (ValueError, OverflowError) as error:
        # Fields whose form the message types leave open (a digest of odd length, a number out of range).
        return failed(name, f"the evidence is malformed: {error}", reason="malformed")


async def _asked(
    name: str,
    examined: Examined,
    source: AnchorSource | None,
    check: Callable[[Examined, AnchorSource | None], Awaitable[Check]],
) -> Check:
    """A check on the ledger; without one, on the file's own record of it, which can fail and can't pass."""
    record = examined.case.record
    if source is not None or record is None:
        return await make_check(name, lambda: check(examined, source))
    made = await make_check(name, lambda: check(examined, RecordedLedger(record)))
    return unchecked(name, f"not asked of a ledger; as the file records it, {made.compared}") if made.passed else made


def _unreadable(subject: str, why: str, *, pod: PodName | None, offline: bool) -> Report:
    names = [name for name in CHECK_NAMES if pod is not None or name != "inclusion"]
    results = [failed(names[0], why)]
    results += [failed(name, "could not be made: there is no readable evidence") for name in names[1:]]
    return Report(subject=subject, sequence=None, simulated=None, offline=offline, checks=tuple(results))


def _subject(pod: PodName | None, sequence: int | None) -> str:
    batch = f"batch {sequence}" if sequence is not None else "evidence"
    return f"pod {pod}, {batch}" if pod else batch
