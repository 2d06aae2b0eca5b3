"""Answers questions with a policy set: default deny, forbid before permit, an error is a denial.

Answers are remembered: a cluster asks the same few questions again and again.
"""

from enum import StrEnum

import cedarpy
import msgspec

from daas.policy.policies import PolicySet
from daas.policy.request import AccessRequest, cedar_entities, cedar_request

#: Answers remembered; the oldest unused makes room. Some 300 bytes each.
MEMORY = 65_536


class Outcome(StrEnum):
    """Why the answer is what it is."""

    PERMITTED = "permitted"
    #: No policy permits it.
    NOT_PERMITTED = "not-permitted"
    FORBIDDEN = "forbidden"
    #: A policy could not be evaluated; what it would have said is unknown, so the answer is no.
    FAILED = "failed"


class Answer(msgspec.Struct, frozen=True):
    """What the policies say.

    Attributes:
        allowed: whether it may be done.
        outcome: why.
        policies: ids of the policies that decided, sorted.
    """

    allowed: bool
    outcome: Outcome
    policies: tuple[str, ...]


class Evaluator:
    """One policy set and the answers it gave. Equal questions get equal answers, on any machine.

    Attributes:
        policies: the set.
        evaluated, remembered: how many answers were computed, and how many came from memory.
    """

    def __init__(self, policies: PolicySet, memory: int = MEMORY) -> None:
        self.policies = policies
        self.evaluated = 0
        self.remembered = 0
        self._memory = memory
        self._answers: dict[bytes, Answer] = {}

    def answer(self, request: AccessRequest) -> Answer:
        """The answer, from memory if the question was asked before.

        What is remembered is keyed by the question's digest, time included only where a policy reads it; the memory
        belongs to one policy set, so its digest needs no place in the key.

        Raises:
            RequestError: the question is malformed.
        """
        request.check()
        key = request.memory_key(timeless=not self.policies.reads_time)
        known = self._answers.pop(key, None)
        if known is None:
            known = self._evaluate(request)
            self.evaluated += 1
        else:
            self.remembered += 1
        self._answers[key] = known
        if len(self._answers) > self._memory:
            del self._answers[next(iter(self._answers))]
        return known

    def _evaluate(self, request: AccessRequest) -> Answer:
        result = cedarpy.is_authorized(
            cedar_request(request),
            self.policies.handle,
            cedar_entities(request, self.policies.tiers),
            self.policies.schema,
        )
        named = result.diagnostics.id_annotations_by_reason
        decided = tuple(sorted(named[reason] for reason in result.diagnostics.reasons))
        if result.diagnostics.errors or result.decision is cedarpy.Decision.NoDecision:
            return Answer(allowed=False, outcome=Outcome.FAILED, policies=decided)
        if result.decision is cedarpy.Decision.Allow:
            return Answer(allowed=True, outcome=Outcome.PERMITTED, policies=decided)
        return Answer(allowed=False, outcome=Outcome.FORBIDDEN if decided else Outcome.NOT_PERMITTED, policies=decided)
