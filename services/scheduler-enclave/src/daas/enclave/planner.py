"""`python -m daas.enclave.planner`: makes one plan from a snapshot on stdin, in a process of its own.

A plan may take seconds of pure computation; here it can be stopped at any moment, and the decisions next door don't
wait for it. What comes out is a certificate; nothing in this process holds a key.
"""

import os
import sys
from typing import Any

import msgspec

from daas.common.errors import DaasError, InvalidInput
from daas.common.plans import ALLOCATION
from daas.placement import Genesis, Policy
from daas.placement.allocation import Objective, build_model, plan_model, plan_without_solver
from daas.placement.allocation.planner import Effort
from daas.placement.allocation.view import Moment, moment_of_snapshot
from daas.placement.balance import PastMove, RebalancePolicy, Situation, plan
from daas.placement.balance.situation import committed_budgets

#: Behind the decisions wherever both want the processor.
NICE = 10


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to plan. `asked` holds `objective`, or `policy` and `past`, as JSON values."""

    kind: str
    chain: bytes
    registry: bytes
    policy: Policy
    snapshot: bytes
    asked: dict[str, Any]


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A plan, or why there is none: then `reason` is set.

    Attributes:
        certificate: as `daas.common.plans.Planned` carries it. digest: of its BCS.
        now_ms, state_root: of the state, computed from the snapshot.
    """

    certificate: bytes = b""
    digest: bytes = b""
    method: str = ""
    now_ms: int = 0
    state_root: bytes = b""
    reason: str = ""
    message: str = ""
    field: str | None = None


def make(job: Job) -> Made:
    """Plans.

    Raises:
        InvalidInput: the request asks for what there is not, or is out of bounds.
    """
    genesis = Genesis(chain=job.chain, registry=job.registry, policy=job.policy)
    moment = moment_of_snapshot(genesis, job.snapshot)
    if job.kind == ALLOCATION:
        objective = _convert(job.asked.get("objective", {}), Objective)
        model = build_model(moment.cluster, objective)
        solver = _has_solver()
        outcome = plan_model(model, Effort()) if solver else plan_without_solver(model)
        packed, digest = outcome.certificate.pack(), outcome.certificate.digest()
        method = "linear-program" if solver else "subgradient"
    else:
        made = plan(situation_of(moment, job.asked))
        packed, digest, method = made.to_bcs(), made.digest(), "greedy"
    return Made(certificate=packed, digest=digest, method=method, now_ms=moment.now_ms, state_root=moment.state_root)


def situation_of(moment: Moment, asked: dict[str, Any]) -> Situation:
    """What a rebalance is planned from: cluster and disruption budgets of the committed state, rules as asked."""
    return Situation(
        cluster=moment.cluster,
        policy=_convert(asked.get("policy", {}), RebalancePolicy),
        budgets=committed_budgets(moment.budgets),
        past=_convert(asked.get("past", ()), tuple[PastMove, ...]),
        now_ms=moment.now_ms,
    )


def _convert(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the request: {error}", reason="plan-request", field="asked") from None


def _has_solver() -> bool:
    try:
        import highspy  # type: ignore[import-untyped,unused-ignore]  # noqa: F401, PLC0415 - only whether it is there
    except ImportError:
        return False
    return True


def main() -> int:
    """Reads a job, writes what was made of it. Returns 0 also where the job is refused."""
    os.nice(NICE)
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job)
    try:
        made = make(job)
    except DaasError as error:
        made = Made(reason=error.reason, message=error.message, field=error.field)
    sys.stdout.buffer.write(msgspec.msgpack.encode(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
