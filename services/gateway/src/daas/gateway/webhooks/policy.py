"""The policy engine as the gateway sees it: a question over the bus, an answer signed by an enclave's key, or none."""

from collections.abc import Callable
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter

from daas.common.access import Question, ResourceRequest, Verdict
from daas.common.bus import Bus
from daas.common.errors import InvalidInput, Refused, Unavailable
from daas.common.logs import get_logger
from daas.common.subjects import POLICY_EVALUATE
from daas.gateway.webhooks.enclaves import EnclaveKeys

__all__ = ["BusPolicyEngine", "PolicyEngine", "Question", "ResourceRequest", "Verdict"]

#: The enclave answers in a few milliseconds; three of these fit into the webhook's 3 s.
TIMEOUT_S: Final = 0.8

log = get_logger("policy")


class PolicyEngine(Protocol):
    """Who decides."""

    async def evaluate(self, question: Question) -> Verdict:
        """The verdict.

        Raises:
            InvalidInput, Refused: the question is none that the policies could judge: nobody may do that.
            Unavailable: nobody answered in time, or what came is no answer to this question.
        """
        ...


class BusPolicyEngine:
    """Asks the enclave by request and reply, and acts on what an enclave's key has signed about this very question.

    Whoever else may answer on the bus: an answer without such a signature counts as none.
    """

    def __init__(
        self,
        bus: Callable[[], Bus],
        keys: EnclaveKeys,
        metrics: CollectorRegistry,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._bus = bus
        self._keys = keys
        self._timeout_s = timeout_s
        self._checked = Counter(
            "daas_gateway_verdicts",
            "Verdicts of the policy engine by what their check said",
            ["outcome"],
            registry=metrics,
        )

    async def evaluate(self, question: Question) -> Verdict:
        """See `PolicyEngine`."""
        verdict = await self._bus().request(POLICY_EVALUATE, question, Verdict, timeout_s=self._timeout_s)
        try:
            await self._check(question, verdict)
        except (InvalidInput, Refused) as error:
            self._checked.labels(error.reason).inc()
            log.warning("a verdict that no enclave stands for counts as none", error=error)
            raise Unavailable(f"the answer is not the policy engine's: {error.message}", reason=error.reason) from None
        except Unavailable as error:
            self._checked.labels(error.reason).inc()
            raise
        self._checked.labels("signed").inc()
        return verdict

    async def _check(self, question: Question, verdict: Verdict) -> None:
        from daas.policy.record import check_proof  # noqa: PLC0415 - Cedar's library, which only webhooks need

        if verdict.request_id != question.request_id:
            raise Refused("it answers another question", reason="access-question", field="request_id")
        if verdict.proof is None:
            raise Refused("it is not signed", reason="access-signature", field="proof")
        decision = check_proof(question, verdict.proof)
        if verdict.denied is decision.answer.allowed:
            raise Refused("it says another thing than what is signed", reason="access-answer", field="denied")
        if decision.expires_ms <= question.time_ms:
            raise Refused(f"it ended at {decision.expires_ms}", reason="access-expired", field="proof.decisions[0]")
        await self._keys.check(verdict.proof.public_key, verdict.proof.registry)
