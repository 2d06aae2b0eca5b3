"""Answers `policy.evaluate` with the Cedar engine, signs every decision, and records all of them in order.

An answer never waits for the disk: decisions are published in batches right after. When the bus takes none for so long
that `WAITING_MAX` have come together, questions are refused: nothing is decided that is not recorded.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from daas.common import logs, subjects
from daas.common.access import MAX_RECORDS, AccessRecord, PolicyDecided, Question, Verdict
from daas.common.bus import Bus
from daas.common.errors import ConfigurationError, DaasError, Unavailable
from daas.enclave.identity import Identity

if TYPE_CHECKING:
    from daas.policy import Evaluator

#: How long decisions are gathered for one fact.
GATHER_S: Final = 0.05
#: Half a minute at 300 questions a second.
WAITING_MAX: Final = 8192
_RETRY_S: Final = 1.0

log = logs.get_logger(__name__)


def load_policies(folder: Path | None) -> "Evaluator | None":
    """The evaluator of a folder's policy set, or of the one that comes along; None where the image has no Cedar.

    Raises:
        ConfigurationError: the set is not sound, with source, line and column; or there is no Cedar to load it.
    """
    try:
        from daas.policy import BUILTIN, Evaluator, PolicyError, load_folder  # noqa: PLC0415 - an image may lack Cedar
    except ImportError as error:
        if folder is not None:
            raise ConfigurationError(
                f"this image can't evaluate policies: {error}", reason="no-policy-engine", field="enclave_policies"
            ) from None
        return None
    try:
        return Evaluator(load_folder(folder or BUILTIN))
    except PolicyError as error:
        raise ConfigurationError(f"policies: {error.message}", reason=error.reason, field="enclave_policies") from None


class Standing(NamedTuple):
    """What a decision is made for and by.

    Attributes:
        chain, registry: 32 bytes each.
        log_sequence: last log entry folded.
    """

    chain: bytes
    registry: bytes
    log_sequence: int
    simulated: bool


class AccessDesk:
    """One enclave's access decisions.

    Args:
        evaluator: the policies; None refuses every question.
        require: the key that may sign now; raises Unavailable where none may.
    """

    def __init__(self, evaluator: "Evaluator | None", require: Callable[[], Identity]) -> None:
        self._evaluator = evaluator
        self._require = require
        self._waiting: deque[tuple[Standing, str, AccessRecord]] = deque()
        self._sending: PolicyDecided | None = None
        self._more = asyncio.Event()
        self._recorded = 0
        self.decided = 0

    def status(self) -> dict[str, Any]:
        """What /status shows."""
        evaluator = self._evaluator
        if evaluator is None:
            return {"engine": None}
        return {
            "engine": "cedar",
            "policy": evaluator.policies.digest.hex(),
            "version": evaluator.policies.version,
            "decided": self.decided,
            "evaluated": evaluator.evaluated,
            "remembered": evaluator.remembered,
            "unrecorded": len(self._waiting),
        }

    def answer(self, question: Question, standing: Standing) -> Verdict:
        """Decides, signs, and keeps the decision for the next fact.

        Raises:
            RequestError: the question says nothing that a policy could judge.
            Unavailable: `no-policy-engine`, `unrecorded`, or no key may sign now.
        """
        if self._evaluator is None:
            raise Unavailable("this enclave's image holds no policy engine", reason="no-policy-engine")
        if len(self._waiting) >= WAITING_MAX:
            raise Unavailable(f"{WAITING_MAX} decisions wait to be recorded", reason="unrecorded")
        from daas.policy import AccessDecision, record  # noqa: PLC0415 - there where the evaluator is

        identity, policies = self._require(), self._evaluator.policies
        request = record.request_of(question)
        answer = self._evaluator.answer(request)
        decision = AccessDecision(
            chain=standing.chain,
            registry=standing.registry,
            policy=policies.digest,
            request=request.digest(),
            log_sequence=standing.log_sequence,
            answer=answer,
            expires_ms=question.time_ms + record.LIFE_MS,
        )
        signature = identity.sign(decision.signed_bytes(question.time_ms))
        made = record.record_of(question, request, decision, signature)
        self._waiting.append((standing, identity.public_key, made))
        self._more.set()
        self.decided += 1
        return Verdict(
            request_id=question.request_id,
            denied=not answer.allowed,
            reason="" if answer.allowed else record.sentence(request, answer, policies)[:1024],
            policy=policies.digest.hex(),
            decision=decision.digest().hex(),
            proof=self._fact(standing, identity.public_key, (made,)),
        )

    async def publish(self, bus: Bus) -> None:
        """Publishes what was decided, for ever."""
        while True:
            await self._more.wait()
            await asyncio.sleep(GATHER_S)
            self._more.clear()
            while self._sending or self._waiting:
                try:
                    await self._publish_some(bus)
                except Unavailable as error:
                    log.warning("decisions are not recorded yet", waiting=len(self._waiting), error=error)
                    await asyncio.sleep(_RETRY_S)

    async def drain(self, bus: Bus) -> None:
        """Publishes what is left, at a stop."""
        with contextlib.suppress(DaasError):
            while self._sending or self._waiting:
                await self._publish_some(bus)

    async def _publish_some(self, bus: Bus) -> None:
        """One fact of the oldest decisions; it is sent unaltered until the stream has it."""
        if self._sending is None:
            standing, public_key, _ = self._waiting[0]
            some: list[AccessRecord] = []
            while self._waiting and len(some) < MAX_RECORDS and self._waiting[0][1] == public_key:
                some.append(self._waiting.popleft()[2])
            self._sending = self._fact(standing, public_key, tuple(some))
        message_id = f"access:{self._sending.decisions[0].signature[:64]}:{self._recorded}"
        await bus.publish(subjects.POLICY_DECIDED, self._sending, message_id=message_id)
        self._recorded += len(self._sending.decisions)
        self._sending = None

    def _fact(self, standing: Standing, public_key: str, decisions: tuple[AccessRecord, ...]) -> PolicyDecided:
        assert self._evaluator is not None, "somebody decided"
        return PolicyDecided(
            chain=standing.chain.hex(),
            registry="0x" + standing.registry.hex(),
            policy=self._evaluator.policies.digest.hex(),
            policy_version=self._evaluator.policies.version,
            public_key=public_key,
            simulated=standing.simulated,
            decisions=decisions,
        )
