"""TokenReview: a login token becomes a user with groups by stake, or a refusal with its reason."""

from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import InvalidInput
from daas.gateway.webhooks.stake import StakeBook
from daas.identity import Expected, InvalidToken, Tiers, user_of, verify

Object = dict[str, Any]

API_VERSION: Final = "authentication.k8s.io/v1"
#: Far more than an API server has.
AUDIENCES_MAX: Final = 32


class TokenReviewer:
    """Answers TokenReviews.

    Args:
        cluster: the only cluster whose tokens hold.
        audience: of tokens where the API server names none.
        stakes: what accounts hold.
        tiers: what that makes of them.
        clock_ms: Unix time in milliseconds.
    """

    def __init__(
        self,
        *,
        cluster: str,
        audience: str,
        stakes: StakeBook,
        tiers: Tiers,
        clock_ms: Callable[[], int],
        registry: CollectorRegistry,
    ) -> None:
        self._cluster = cluster
        self._audience = audience
        self._stakes = stakes
        self._tiers = tiers
        self._clock_ms = clock_ms
        self._answers = Counter(
            "daas_gateway_token_reviews", "Token reviews by their outcome", ["outcome"], registry=registry
        )

    async def review(self, body: Object) -> Object:
        """The answer.

        Raises:
            InvalidInput: it is no TokenReview.
            Unavailable: the stakes are not known yet: the API server asks again and remembers nothing.
        """
        token, audiences = _asked(body)
        self._stakes.check()
        expected = Expected(
            cluster=self._cluster, audiences=audiences or (self._audience,), now_ms=self._clock_ms()
        )  # fmt: skip
        try:
            claims = verify(token, expected)
        except InvalidToken as refused:
            self._answers.labels(refused.reason).inc()
            return _answer({"authenticated": False, "error": refused.message})
        held = self._stakes.held(claims.account)
        user = user_of(claims.account, held.bonded_mist, self._tiers, nonce=claims.nonce)
        self._answers.labels("authenticated").inc()
        return _answer({"authenticated": True, "user": user.info(), "audiences": [claims.audience]})


def _asked(body: Object) -> tuple[str, tuple[str, ...]]:
    if (body.get("kind"), body.get("apiVersion")) != ("TokenReview", API_VERSION):
        raise InvalidInput(f"expected a TokenReview of {API_VERSION}", reason="review-kind", field="kind")
    spec = body.get("spec")
    token = spec.get("token") if isinstance(spec, dict) else None
    audiences = (spec.get("audiences") if isinstance(spec, dict) else None) or []
    if not isinstance(token, str) or not isinstance(audiences, list) or len(audiences) > AUDIENCES_MAX:
        raise InvalidInput("expected spec.token and spec.audiences", reason="review-spec", field="spec")
    if not all(isinstance(one, str) for one in audiences):
        raise InvalidInput("expected text in spec.audiences", reason="review-spec", field="spec.audiences")
    return token, tuple(audiences)


def _answer(status: Object) -> Object:
    return {"apiVersion": API_VERSION, "kind": "TokenReview", "status": status}
