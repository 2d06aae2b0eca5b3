"""The structured AuthorizationConfiguration: authorizers in order, webhooks among them; the first yes or no wins."""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from daas.common.errors import ConfigurationError
from daas.devstack.apiserver.access import MASTERS, Attributes, Authorizer, Decision, User
from daas.devstack.apiserver.webhooks import conditions
from daas.devstack.apiserver.webhooks.endpoint import (
    Endpoint,
    WebhookClient,
    WebhookError,
    duration_s,
    load_endpoint,
)

Object = dict[str, Any]

CACHE_ENTRIES_MAX = 8192
_ATTRIBUTES = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


@dataclass(frozen=True, slots=True)
class WebhookAuthorizerSettings:
    """One `webhook` section of an AuthorizationConfiguration; times in seconds."""

    name: str
    authorized_ttl_s: float
    unauthorized_ttl_s: float
    timeout_s: float
    failure_denies: bool
    match_conditions: tuple[str, ...]


def review_spec(user: User, attributes: Attributes) -> Object:
    """The spec of a SubjectAccessReview."""
    spec: Object = {}
    if attributes.path:
        spec["nonResourceAttributes"] = {"path": attributes.path, "verb": attributes.verb}
    else:
        values = {name: getattr(attributes, name) for name in _ATTRIBUTES}
        spec["resourceAttributes"] = {name: value for name, value in values.items() if value}
    spec["user"] = user.username
    if user.groups:
        spec["groups"] = list(user.groups)
    if user.extra:
        spec["extra"] = {name: list(values) for name, values in user.extra}
    if user.uid:
        spec["uid"] = user.uid
    return spec


class WebhookAuthorizer:
    """Asks a webhook; what its failure means is the configuration's choice."""

    def __init__(self, client: WebhookClient, endpoint: Endpoint, settings: WebhookAuthorizerSettings) -> None:
        self._client = client
        self._endpoint = endpoint
        self._settings = settings
        self._cache: OrderedDict[bytes, tuple[float, Decision]] = OrderedDict()

    async def authorize(self, user: User, attributes: Attributes) -> Decision:
        """Allowed, denied, or no opinion."""
        spec = review_spec(user, attributes)
        settings = self._settings
        try:
            shown = {"groups": [], "uid": "", "extra": {}, **spec}
            if "resourceAttributes" in shown:  # to conditions every field is there, empty or not
                shown["resourceAttributes"] = dict.fromkeys(_ATTRIBUTES, "") | shown["resourceAttributes"]
            if not conditions.all_match(settings.match_conditions, {"request": shown}):
                return Decision(allowed=False)
        except conditions.ExpressionError as error:
            return self._failed(error.message)
        key = orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)
        found = self._cache.get(key)
        if found is not None and found[0] > time.monotonic():
            return found[1]
        body = {
            "kind": "SubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {"creationTimestamp": None},
            "spec": spec,
            "status": {"allowed": False},
        }
        try:
            answer = await self._client.post_patiently(self._endpoint, body, settings.timeout_s)
        except WebhookError as error:
            return self._failed(error.message)
        status = (answer or {}).get("status") or {}
        allowed, denied = status.get("allowed") is True, status.get("denied") is True
        if allowed and denied:
            return self._failed("webhook subject access review returned both allow and deny response")
        decision = Decision(allowed=allowed, denied=denied, reason=status.get("reason") or "")
        ttl_s = settings.authorized_ttl_s if allowed else settings.unauthorized_ttl_s
        self._cache[key] = (time.monotonic() + ttl_s, decision)
        self._cache.move_to_end(key)
        if len(self._cache) > CACHE_ENTRIES_MAX:
            self._cache.popitem(last=False)
        return decision

    def _failed(self, message: str) -> Decision:
        return Decision(allowed=False, denied=self._settings.failure_denies, error=message)


class Authorizers:
    """system:masters, then the authorizers in order; the first that allows or denies decides."""

    def __init__(self, members: Sequence[Authorizer]) -> None:
        self._members = tuple(members)

    async def authorize(self, user: User, attributes: Attributes) -> Decision:
        """The decision; without any, the reasons of all."""
        if MASTERS in user.groups:
            return Decision(allowed=True)
        reasons: list[str] = []
        failures: list[str] = []
        for member in self._members:
            decision = await member.authorize(user, attributes)
            if decision.reason:
                reasons.append(decision.reason)
            if decision.error:
                failures.append(decision.error)
            if decision.allowed or decision.denied:
                return decision
        return Decision(allowed=False, reason="\n".join(reasons), error="; ".join(failures))


class NodeAuthorizer:
    """Kubelets: nothing here runs as a node, so it has no opinion on anything."""

    async def authorize(self, _user: User, _attributes: Attributes) -> Decision:
        """No opinion."""
        return Decision(allowed=False)


class AlwaysAllow:
    """Everyone may do everything."""

    async def authorize(self, _user: User, _attributes: Attributes) -> Decision:
        """Allowed."""
        return Decision(allowed=True)


def load_authorization(path: Path, client: WebhookClient, builtin: Mapping[str, Authorizer]) -> Authorizers:
    """The chain of an AuthorizationConfiguration file; `builtin`: RBAC and the other types that need no webhook.

    Raises:
        ConfigurationError: `authorization-config`, as kube-apiserver refuses to start.
    """
    try:
        config = yaml.safe_load(path.read_text())
        if (config["apiVersion"], config["kind"]) != ("apiserver.config.k8s.io/v1", "AuthorizationConfiguration"):
            raise _wrong(path, f"it is a {config['kind']} of {config['apiVersion']}")
        members = [_member(path, one, client, builtin) for one in config["authorizers"]]
        names = [one["name"] for one in config["authorizers"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}") from None
    if len(set(names)) != len(names) or not members:
        raise _wrong(path, "authorizers: names must be given, and differ")
    return Authorizers(members)


def _member(path: Path, one: Object, client: WebhookClient, builtin: Mapping[str, Authorizer]) -> Authorizer:
    if one["type"] != "Webhook":
        if one["type"] not in builtin:
            raise _wrong(path, f"authorizer type {one['type']!r} is not known here")
        return builtin[one["type"]]
    webhook = one["webhook"]
    if webhook["failurePolicy"] not in ("Deny", "NoOpinion"):
        raise _wrong(path, f"failurePolicy: {webhook['failurePolicy']!r} is neither Deny nor NoOpinion")
    if webhook["subjectAccessReviewVersion"] != "v1":
        raise _wrong(path, "subjectAccessReviewVersion: only v1 is spoken here")
    timeout_s = duration_s(webhook["timeout"])
    if not 0 < timeout_s <= 30:
        raise _wrong(path, "timeout: must be above 0 and at most 30s")
    expressions = tuple(condition["expression"] for condition in webhook.get("matchConditions") or ())
    for expression in expressions:
        try:
            conditions.check(expression)
        except conditions.ExpressionError as error:
            raise _wrong(path, f"matchConditions: {error.message}") from None
    settings = WebhookAuthorizerSettings(
        name=one["name"],
        authorized_ttl_s=duration_s(webhook["authorizedTTL"]),
        unauthorized_ttl_s=duration_s(webhook["unauthorizedTTL"]),
        timeout_s=timeout_s,
        failure_denies=webhook["failurePolicy"] == "Deny",
        match_conditions=expressions,
    )
    connection = webhook["connectionInfo"]
    if connection["type"] != "KubeConfigFile":
        raise _wrong(path, f"connectionInfo.type: {connection['type']!r} is not spoken here")
    return WebhookAuthorizer(client, load_endpoint(path.parent / connection["kubeConfigFile"]), settings)


def _wrong(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {why}", reason="authorization-config")
