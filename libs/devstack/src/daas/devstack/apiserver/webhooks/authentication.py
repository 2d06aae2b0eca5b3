"""The authentication webhook: bearer tokens that no other authenticator knows are asked about in a TokenReview."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from daas.devstack.apiserver.access import AUTHENTICATED, Authenticator, User, user_of
from daas.devstack.apiserver.webhooks.endpoint import Endpoint, WebhookClient, WebhookError

Object = dict[str, Any]

#: kube-apiserver asks with this time-out whatever the configuration says.
TIMEOUT_S = 30.0
CACHE_ENTRIES_MAX = 4096


class TokenWebhook:
    """Asks about tokens and remembers the answers, yes or no, for the cache's time; failures are not remembered."""

    def __init__(
        self, client: WebhookClient, endpoint: Endpoint, audiences: Sequence[str], *, cache_ttl_s: float = 120.0
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._audiences = list(audiences)
        self._cache_ttl_s = cache_ttl_s
        self._cache: OrderedDict[bytes, tuple[float, User | None]] = OrderedDict()

    async def authenticate(self, token: str) -> User | None:
        """The user, None where the webhook says no or can't be reached."""
        key = hashlib.sha256(token.encode()).digest()
        found = self._cache.get(key)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        body = {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"creationTimestamp": None},
            "spec": {"token": token, "audiences": self._audiences},
            "status": {"user": {}},
        }
        try:
            answer = await self._client.post_patiently(self._endpoint, body, TIMEOUT_S)
        except WebhookError:
            return None
        status = (answer or {}).get("status") or {}
        user = self._judge(status)
        self._cache[key] = (time.monotonic() + self._cache_ttl_s, user)
        self._cache.move_to_end(key)
        if len(self._cache) > CACHE_ENTRIES_MAX:
            self._cache.popitem(last=False)
        return user

    def _judge(self, status: Object) -> User | None:
        if status.get("authenticated") is not True:
            return None
        audiences = status.get("audiences") or ()
        if audiences and not set(audiences) & set(self._audiences):
            return None
        user = user_of(status.get("user") or {})
        groups = user.groups if AUTHENTICATED in user.groups else (*user.groups, AUTHENTICATED)
        return User(user.username, groups, user.uid, user.extra)


class Authenticators:
    """Authenticators in order; the first that knows the token decides."""

    def __init__(self, members: Sequence[Authenticator]) -> None:
        self._members = tuple(members)

    async def authenticate(self, token: str) -> User | None:
        """The user, None where nobody knows the token."""
        for member in self._members:
            user = await member.authenticate(token)
            if user is not None:
                return user
        return None
