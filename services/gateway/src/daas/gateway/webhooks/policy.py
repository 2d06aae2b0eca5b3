"""The policy engine as the gateway sees it: a question over the bus, an answer signed by the enclave or a refusal."""

from collections.abc import Callable
from typing import Final, Protocol

from daas.common.access import Question, ResourceRequest, Verdict
from daas.common.bus import Bus
from daas.common.errors import Unavailable
from daas.common.subjects import POLICY_EVALUATE

__all__ = ["BusPolicyEngine", "PolicyEngine", "Question", "ResourceRequest", "Verdict"]

#: The enclave answers in a few milliseconds; three of these fit into the webhook's 3 s.
TIMEOUT_S: Final = 0.8


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
    """Asks the enclave by request and reply."""

    def __init__(self, bus: Callable[[], Bus], *, timeout_s: float = TIMEOUT_S) -> None:
        self._bus = bus
        self._timeout_s = timeout_s

    async def evaluate(self, question: Question) -> Verdict:
        """See `PolicyEngine`."""
        verdict = await self._bus().request(POLICY_EVALUATE, question, Verdict, timeout_s=self._timeout_s)
        if verdict.request_id != question.request_id:
            raise Unavailable("the policy engine answered another question", reason="policy-answer")
        return verdict
