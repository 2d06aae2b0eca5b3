"""SubjectAccessReview: first in the chain, so it denies or has no opinion, and never allows.

What keeps a cluster alive when the policy engine is away:
- the cluster's own identities (`daas.kube.exempt`) are never held up;
- everyone else is denied at once with the reason, not after a time-out: 0.8 s for the engine, 3 s for the webhook, and
  after five failures in a row no waiting at all until a probe succeeds (1 s doubling to 15 s);
- a denial of that kind is remembered by the API server for its unauthorizedTTL (10 s) at most, and by us not at all.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import DaasError, DecodeError, InvalidInput, Refused, Unavailable
from daas.gateway.webhooks.breaker import CircuitBreaker
from daas.gateway.webhooks.policy import PolicyEngine, Question, ResourceRequest, Verdict
from daas.gateway.webhooks.stake import StakeBook
from daas.identity.users import account_of
from daas.kube.exempt import is_exempt

Object = dict[str, Any]

API_VERSION: Final = "authorization.k8s.io/v1"
#: A verdict holds this long for the same stake; rules may look at the clock.
CACHE_S: Final = 5.0
CACHE_ENTRIES_MAX: Final = 16_384
#: Policies judge classes of resources: neither the object's name nor the API's version is asked about, so that whoever
#: reads a hundred objects of one kind costs one question.
_RESOURCE_FIELDS: Final = ("verb", "group", "resource", "subresource", "namespace")
_PATH_FIELDS: Final = ("verb", "path")
Key = tuple[str, ResourceRequest, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who wants what."""

    user: str
    groups: tuple[str, ...]
    request: ResourceRequest

    @property
    def is_system(self) -> bool:
        """Whether the cluster itself asks."""
        return is_exempt(self.user, self.groups)


class AccessReviewer:
    """Answers SubjectAccessReviews.

    Args:
        engine: who decides.
        stakes: what accounts hold now; what a token said earlier does not count.
        clock_ms: Unix time in milliseconds.
        clock_s: monotonic seconds.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        stakes: StakeBook,
        *,
        clock_ms: Callable[[], int],
        clock_s: Callable[[], float],
        registry: CollectorRegistry,
        breaker: CircuitBreaker | None = None,
        cache_s: float = CACHE_S,
    ) -> None:
        self._engine = engine
        self._stakes = stakes
        self._clock_ms = clock_ms
        self._clock_s = clock_s
        self.breaker = breaker or CircuitBreaker(clock_s)
        self._cache_s = cache_s
        self._cache: OrderedDict[Key, tuple[float, Verdict]] = OrderedDict()
        self._answers = Counter(
            "daas_gateway_access_reviews", "Access reviews by their outcome", ["outcome"], registry=registry
        )

    async def review(self, body: Object) -> Object:
        """The answer.

        Raises:
            InvalidInput: it is no SubjectAccessReview.
        """
        asked = _asked(body)
        if asked.is_system:
            return self._answer("exempt", denied=False)
        try:
            verdict = await self._verdict(asked, asked.request)
        except DaasError as error:
            return self._answer("unavailable", denied=True, reason=f"stake can't be checked: {error.message}")
        return self._answer("denied" if verdict.denied else "no-opinion", denied=verdict.denied, reason=verdict.reason)

    async def _verdict(self, asked: Asked, request: ResourceRequest) -> Verdict:
        self._stakes.check()
        account = account_of(asked.user)
        held = self._stakes.held(account or "")
        key = (asked.user, request, held.version)
        found = self._cache.get(key)
        if found is not None and found[0] > self._clock_s():
            self._cache.move_to_end(key)
            return found[1]
        question = Question(
            request_id=secrets.token_hex(16),
            user=asked.user,
            groups=asked.groups,
            stake_mist=held.bonded_mist,
            stake_version=held.version,
            request=request,
            time_ms=self._clock_ms(),
        )
        verdict = await self._ask(question)
        self._cache[key] = (self._clock_s() + self._cache_s, verdict)
        if len(self._cache) > CACHE_ENTRIES_MAX:
            self._cache.popitem(last=False)
        return verdict

    async def _ask(self, question: Question) -> Verdict:
        if not self.breaker.may_ask():
            raise Unavailable("the policy engine does not answer; it is asked again soon", reason="policy-away")
        try:
            verdict = await self._engine.evaluate(question)
        except asyncio.CancelledError:
            self.breaker.gave_up()
            raise
        except DecodeError:
            self.breaker.failed()
            raise
        except (InvalidInput, Refused) as error:
            # The engine is there, and says that no policy can judge this: nobody may.
            self.breaker.succeeded()
            return Verdict(request_id=question.request_id, denied=True, reason=error.message[:1024])
        except DaasError:
            self.breaker.failed()
            raise
        self.breaker.succeeded()
        return verdict

    def _answer(self, outcome: str, *, denied: bool, reason: str = "") -> Object:
        self._answers.labels(outcome).inc()
        status: Object = {"allowed": False, "denied": denied, "reason": reason if denied else ""}
        return {"apiVersion": API_VERSION, "kind": "SubjectAccessReview", "status": status}


def _asked(body: Object) -> Asked:
    if (body.get("kind"), body.get("apiVersion")) != ("SubjectAccessReview", API_VERSION):
        raise InvalidInput(f"expected a SubjectAccessReview of {API_VERSION}", reason="review-kind", field="kind")
    spec = body.get("spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("user", ""), str):
        raise InvalidInput("expected spec.user", reason="review-spec", field="spec")
    groups = spec.get("groups") or []
    if not isinstance(groups, list) or not all(isinstance(one, str) for one in groups):
        raise InvalidInput("expected text in spec.groups", reason="review-spec", field="spec.groups")
    found = [name for name in ("resourceAttributes", "nonResourceAttributes") if spec.get(name) is not None]
    if len(found) != 1:
        raise InvalidInput("expected resourceAttributes or nonResourceAttributes", reason="review-spec", field="spec")
    attributes, fields = spec[found[0]], _RESOURCE_FIELDS if found[0] == "resourceAttributes" else _PATH_FIELDS
    if not isinstance(attributes, dict) or not all(isinstance(attributes.get(field, ""), str) for field in fields):
        raise InvalidInput("expected text in its fields", reason="review-spec", field=f"spec.{found[0]}")
    request = ResourceRequest(**{field: attributes.get(field, "") for field in fields})
    return Asked(spec.get("user", ""), tuple(groups), request)
