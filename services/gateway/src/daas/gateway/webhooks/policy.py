"""The policy engine as the gateway sees it: a question over the bus, an answer signed by the enclave or a refusal."""

from collections.abc import Callable
from typing import Annotated, Final, Protocol

import msgspec

from daas.common.bus import Bus
from daas.common.bus.failures import translated
from daas.common.errors import Unavailable
from daas.common.subjects import POLICY_EVALUATE

#: The enclave answers in a few milliseconds; three of these fit into the webhook's 3 s.
TIMEOUT_S: Final = 0.8


class ResourceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done to what; empty text where the request names none."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`policy.evaluate`: may this user do this?

    Attributes:
        stake_mist, stake_version: bonded stake, and the stream sequence of the fact that said so.
        time_ms: the gateway's clock.
    """

    schema: int = 1
    request_id: str
    user: str
    groups: tuple[str, ...]
    stake_mist: int
    stake_version: int
    request: ResourceRequest
    time_ms: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: denied with a reason, or nothing against it."""

    schema: int = 1
    request_id: str
    denied: bool
    reason: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    policy: str = ""


class PolicyEngine(Protocol):
    """Who decides."""

    async def evaluate(self, question: Question) -> Verdict:
        """The verdict.

        Raises:
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
        bus = self._bus()
        subject = POLICY_EVALUATE.full(bus.cluster)
        with translated("the policy engine"):
            answer = await bus.client.request(subject, msgspec.json.encode(question), timeout=self._timeout_s)
        try:
            verdict = msgspec.json.decode(answer.data, type=Verdict)
        except msgspec.MsgspecError as error:
            raise Unavailable(f"the policy engine's answer: {error}", reason="policy-answer") from None
        if verdict.request_id != question.request_id:
            raise Unavailable("the policy engine answered another question", reason="policy-answer")
        return verdict
