"""Answers `allocation.plan` and `rebalance.plan`: a plan from the state as it is now, certified, signed, published."""

import asyncio
import base64
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from daas.common import logs, subjects
from daas.common.bus import Bus
from daas.common.errors import InvalidInput, Unavailable
from daas.common.plans import ALLOCATION, AllocationPlan, Basis, Planned, RebalancePlan
from daas.common.subjects import Subject
from daas.enclave.identity import Identity
from daas.enclave.planner import Job, Made
from daas.placement import Genesis
from daas.placement.scheduler import Head

#: What a planner may print: a certificate of the largest problem is some MiB.
_OUTPUT_BYTES_MAX: Final = 64 * 1024 * 1024

log = logs.get_logger(__name__)


class State(NamedTuple):
    """The engine's state at one moment, to be planned from elsewhere."""

    genesis: Genesis
    head: Head
    snapshot: bytes
    simulated: bool


class PlanDesk:
    """One plan at a time, in a process of its own.

    Args:
        bus: where plans are published.
        require: the key that may sign now; raises Unavailable where none may.
        state: the state now.
        budget_s: longest that a plan may take.
    """

    def __init__(
        self, bus: Bus, require: Callable[[], Identity], state: Callable[[], State], *, budget_s: float
    ) -> None:
        self._bus = bus
        self._require = require
        self._state = state
        self._budget_s = budget_s
        self._busy = asyncio.Lock()

    async def allocation(self, request: AllocationPlan) -> Planned:
        """Where the pending pods would best go. Raises as `_plan`."""
        asked = {"objective": request.objective}
        return await self._plan(request.request_id, ALLOCATION, asked, subjects.ALLOCATION_PLANNED)

    async def rebalance(self, request: RebalancePlan) -> Planned:
        """Which pods should move where. Raises as `_plan`."""
        asked = {"policy": request.policy, "past": request.past}
        return await self._plan(request.request_id, "rebalance", asked, subjects.REBALANCE_PLANNED)

    async def _plan(self, request_id: str, kind: str, asked: dict[str, Any], subject: Subject) -> Planned:
        """Plans, signs, and publishes before it answers.

        Raises:
            InvalidInput: the request is out of bounds.
            Unavailable: `busy`, `plan-timeout`, `nothing-decided`, or no key may sign now.
        """
        if self._busy.locked():
            raise Unavailable("another plan is being made", reason="busy")
        async with self._busy:
            self._require()
            state = self._state()
            if state.head.sequence == 0:
                raise Unavailable("nothing was decided yet: no batch commits to a state", reason="nothing-decided")
            made = await self._make(state, kind, asked)
            planned = self._signed(request_id, kind, asked, state, made)
            await self._bus.publish(subject, planned, message_id=f"{subject.name}:{planned.digest().hex()}")
            log.info("planned", kind=kind, log_sequence=state.head.log_sequence, method=made.method)
            return planned

    async def _make(self, state: State, kind: str, asked: dict[str, Any]) -> Made:
        genesis = state.genesis
        job = Job(
            kind=kind,
            chain=genesis.chain,
            registry=genesis.registry,
            policy=genesis.policy,
            snapshot=state.snapshot,
            asked=asked,
        )
        isolated = ["-I"] if sys.flags.isolated else []
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, *isolated, "-m", "daas.enclave.planner"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_OUTPUT_BYTES_MAX,
        )
        try:
            async with asyncio.timeout(self._budget_s):
                output, _ = await child.communicate(msgspec.msgpack.encode(job))
        except TimeoutError:
            raise Unavailable(f"no plan within {self._budget_s} s", reason="plan-timeout") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        try:
            made = msgspec.msgpack.decode(output, type=Made)
        except msgspec.DecodeError:
            raise Unavailable(f"the planner ended with code {child.returncode}", reason="plan-failed") from None
        if made.reason:
            raise InvalidInput(made.message, reason=made.reason, field=made.field)
        if made.state_root != state.head.state_root:
            raise Unavailable("the planner read another state than this one", reason="plan-state")
        return made

    def _signed(self, request_id: str, kind: str, asked: dict[str, Any], state: State, made: Made) -> Planned:
        identity, head, genesis = self._require(), state.head, state.genesis
        unsigned = Planned(
            request_id=request_id,
            kind=kind,
            basis=Basis(
                chain=genesis.chain.hex(),
                registry="0x" + genesis.registry.hex(),
                policy=genesis.policy.digest().hex(),
                sequence=head.sequence,
                digest=head.digest.hex(),
                log_sequence=head.log_sequence,
                log_root=head.log_root.hex(),
                state_root=head.state_root.hex(),
            ),
            asked=asked,
            certificate=base64.b64encode(made.certificate).decode(),
            certificate_digest=made.digest.hex(),
            method=made.method,
            timestamp_ms=made.now_ms,
            public_key=identity.public_key,
            signature="00" * 64,
            simulated=state.simulated,
        )
        return msgspec.structs.replace(unsigned, signature=identity.sign(unsigned.signed_bytes()).hex())
