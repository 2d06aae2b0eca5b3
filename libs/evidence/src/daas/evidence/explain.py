"""Why a pod stands where it stands, out of signed evidence: the replay that verifies a batch also shows what it saw."""

import msgspec

from daas.common.errors import NotFound, Refused
from daas.evidence.anchors import AnchorSource
from daas.evidence.bundle import Case, segment_of
from daas.evidence.checks import Examined, PodName, find_leaf
from daas.evidence.replay import Replay
from daas.evidence.report import Check, Report
from daas.evidence.trust import Trust
from daas.evidence.verify import report_of
from daas.placement.explain import Explanation, Witness


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine saw, and whether the evidence for it holds. No explanation where the replay fails."""

    report: Report
    explanation: Explanation | None


async def explain_pod(
    case: Case, pod: PodName, trust: Trust, *, source: AnchorSource | None, now_ms: int, offline: bool = False
) -> Explained:
    """All checks on the decision about a pod, and what the engine saw at the pod's turn.

    Raises:
        Refused: `pod-not-in-batch`.
        DecodeError: the decision can't be read.
    """
    decided = case.bundle.decision()
    _, leaf = find_leaf(decided, pod)
    witnesses: list[Witness] = []

    def replay() -> Check:
        made = Replay(trust, case.snapshot, case.start, scheduler=Witness)
        for segment in case.segments:
            made.through(segment)
        witness = made.scheduler
        assert isinstance(witness, Witness), "as asked for"
        witness.uid = leaf.pod_uid
        made.through(segment_of(case.bundle), decided.leaves, decided.fairness)
        witnesses.append(witness)
        return made.result(made.sequence)

    examined = Examined(case, (), trust, now_ms, pod=pod)
    report = await report_of(examined, source, offline=offline, replaying=replay)
    return Explained(report=report, explanation=witnesses[0].seen if witnesses else None)


def require(explained: Explained) -> Explanation:
    """The explanation.

    Raises:
        Refused: `replay-differs`: the evidence does not hold. NotFound: the engine never came to the pod.
    """
    if not explained.report.ok:
        raise Refused(f"the evidence does not hold: {', '.join(explained.report.failed)}", reason="replay-differs")
    if explained.explanation is None:
        raise NotFound("the pod was left out with its group before its own turn came", reason="no-turn")
    return explained.explanation
