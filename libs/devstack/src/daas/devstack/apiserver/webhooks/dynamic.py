"""Mutating and validating admission webhooks: who is asked in which order, what they are sent, what answers do."""

import asyncio
import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from daas.devstack.apiserver import errors
from daas.devstack.apiserver.admission import Operation
from daas.devstack.apiserver.resources import BY_KEY, Resource
from daas.devstack.apiserver.storage import Storage
from daas.devstack.apiserver.webhooks import conditions, matching
from daas.devstack.apiserver.webhooks.endpoint import Endpoint, WebhookClient, WebhookError, trusting
from daas.devstack.apiserver.webhooks.shown import Pair, show_to

Object = dict[str, Any]

_GROUP = "admissionregistration.k8s.io"
MUTATING = BY_KEY[f"mutatingwebhookconfigurations.{_GROUP}"]
VALIDATING = BY_KEY[f"validatingwebhookconfigurations.{_GROUP}"]
USER_AGENT = "kube-apiserver-admission"
DRY_RUN_SAFE = ("None", "NoneOnDryRun")


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook of one configuration."""

    configuration: str
    settings: Object
    endpoint: Endpoint

    @property
    def name(self) -> str:
        """As refusals call it."""
        return str(self.settings["name"])

    @property
    def fails_closed(self) -> bool:
        """Whether its failure refuses the request."""
        return str(self.settings.get("failurePolicy", "Fail")) == "Fail"

    @property
    def timeout_s(self) -> float:
        """How long it has."""
        return float(self.settings.get("timeoutSeconds") or 10)


def review_request(operation: Operation, obj: Object | None) -> Object:
    """The `request` of an AdmissionReview; its uid is fresh."""
    resource = operation.resource
    kind: Object = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    sub = resource.subresource(operation.subresource) if operation.subresource else None
    if sub is not None:
        kind = {"group": sub.group, "version": sub.version, "kind": sub.kind}
    where: Object = {"group": resource.group, "version": resource.version, "resource": resource.plural}
    out: Object = {"uid": str(uuid.uuid4()), "kind": kind, "resource": where}
    if operation.subresource:
        out["subResource"] = operation.subresource
    out |= {"requestKind": kind, "requestResource": where}
    if operation.subresource:
        out["requestSubResource"] = operation.subresource
    if operation.name:
        out["name"] = operation.name
    if operation.namespace:
        out["namespace"] = operation.namespace
    version = f"{kind['group']}/{kind['version']}" if kind["group"] else kind["version"]

    def shown(one: Object | None) -> Object | None:
        return None if one is None else {"kind": kind["kind"], "apiVersion": version, **one}

    return out | {
        "operation": operation.verb,
        "userInfo": operation.user.info(),
        "object": shown(obj),
        "oldObject": shown(operation.old),
        "dryRun": operation.dry_run,
        "options": dict(operation.options) or None,
    }


class _Webhooks:
    """What both kinds share: the configurations, kept until they change, and one call."""

    def __init__(
        self, storage: Storage, client: WebhookClient, resource: Resource, users: Mapping[str, Pair] | None
    ) -> None:
        self._storage = storage
        self._client = client
        self._users = users or {}
        self._resource = resource
        self._hooks: list[Hook] | None = None
        storage.subscribe(resource, lambda _event: self._forget())

    def _forget(self) -> None:
        self._hooks = None

    def _all(self) -> list[Hook]:
        if self._hooks is None:
            self._hooks = [
                Hook(record.name, one, _endpoint(one, self._users))
                for record in self._storage.records(self._resource, None)  # ordered by name, as Kubernetes asks them
                for one in record.object().get("webhooks") or ()
            ]
        return self._hooks

    def picked(self, operation: Operation, obj: Object | None) -> list[Hook]:
        """The webhooks that rules and selectors pick, in order."""
        return [
            hook
            for hook in self._all()
            if matching.matches(
                self._storage,
                operation,
                obj,
                rules=hook.settings.get("rules") or [],
                namespace_selector=hook.settings.get("namespaceSelector"),
                object_selector=hook.settings.get("objectSelector"),
            )
        ]

    async def ask(self, hook: Hook, operation: Operation, obj: Object | None) -> Object | None:
        """The response that allows; None where match conditions leave it out, or it failed and may be ignored.

        Raises:
            ApiError: the webhook denied, or failed under failurePolicy Fail.
        """
        request = review_request(operation, obj)
        expressions = [one["expression"] for one in hook.settings.get("matchConditions") or ()]
        variables = {"object": request["object"], "oldObject": request["oldObject"], "request": request}
        try:
            if not conditions.all_match(expressions, variables):
                return None
        except conditions.ExpressionError as error:
            if hook.fails_closed:
                raise errors.forbidden(operation.resource.plural, operation.resource.group, operation.name,
                                       error.message) from None  # fmt: skip
            return None
        if operation.dry_run and hook.settings.get("sideEffects") not in DRY_RUN_SAFE:
            raise errors.bad_request(f"admission webhook {_quoted(hook.name)} does not support dry run")
        body = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
        try:
            answer = await self._client.post(hook.endpoint, body, hook.timeout_s, user_agent=USER_AGENT)
            response = _response(answer, str(request["uid"]))
        except WebhookError as error:
            return self._failed(hook, f"failed to call webhook: {error.message}")
        except ValueError as error:
            return self._failed(hook, f"received invalid webhook response: {error}")
        operation.warnings.extend(str(text) for text in response.get("warnings") or ())
        for name, value in (response.get("auditAnnotations") or {}).items():
            operation.annotations[f"{hook.name}/{name}"] = str(value)
        if response.get("allowed") is not True:
            raise _denial(hook.name, response.get("status") or {})
        return response

    @staticmethod
    def _failed(hook: Hook, why: str) -> None:
        if hook.fails_closed:
            text = f"Internal error occurred: failed calling webhook {_quoted(hook.name)}: {why}"
            raise errors.ApiError(500, "InternalError", text, {"causes": [{"message": why}]})


def _quoted(name: str) -> str:
    return f'"{name}"'


def _endpoint(settings: Object, users: Mapping[str, Pair]) -> Endpoint:
    config = settings.get("clientConfig") or {}
    bundle, url = config.get("caBundle"), str(config.get("url") or "")
    tls = trusting(base64.b64decode(bundle).decode() if bundle else None)
    show_to(tls, url, users)
    return Endpoint(url, tls)


def _response(answer: Any, uid: str) -> Object:
    """The response in an AdmissionReview. Raises ValueError for anything but an answer to this very request."""
    if not isinstance(answer, Mapping):
        raise ValueError("it is not an object")  # noqa: TRY004 - one error for every malformed answer
    if (answer.get("kind"), answer.get("apiVersion")) != ("AdmissionReview", "admission.k8s.io/v1"):
        raise ValueError(f"expected AdmissionReview of admission.k8s.io/v1, got {answer.get('kind')}")
    response = answer.get("response")
    if not isinstance(response, dict):
        raise ValueError("response is missing")  # noqa: TRY004 - one error for every malformed answer
    if response.get("uid") != uid:
        raise ValueError(f"expected response.uid={_quoted(uid)}, got {_quoted(str(response.get('uid', '')))}")
    if response.get("patch") and response.get("patchType") != "JSONPatch":
        raise ValueError("patch is given, so patchType must be JSONPatch")
    return response


def _denial(name: str, status: Object) -> errors.ApiError:
    denied_by = f'admission webhook "{name}" denied the request'
    code = int(status.get("code") or 0)
    why = status.get("message") or status.get("reason")
    text = f"{denied_by}: {why}" if why else f"{denied_by} without explanation"
    return errors.ApiError(max(code, 400), status.get("reason") or "", text, status.get("details"))


class MutatingWebhooks(_Webhooks):
    """Asks one after the other; each sees what those before it changed."""

    def __init__(self, storage: Storage, client: WebhookClient, users: Mapping[str, Pair] | None = None) -> None:
        super().__init__(storage, client, MUTATING, users)

    async def mutate(self, operation: Operation, obj: Object | None) -> Object | None:
        """The object after all patches. Raises ApiError."""
        again: list[Hook] = []
        for index, hook in enumerate(self.picked(operation, obj)):
            obj, changed = await self._step(hook, operation, obj, f"round_0_index_{index}")
            if changed:
                again = [one for one in again if one is not hook] + [
                    one for one in self._asked_before(operation, obj, hook) if one not in again
                ]
        for index, hook in enumerate(again):
            obj, _ = await self._step(hook, operation, obj, f"round_1_index_{index}")
        return obj

    def _asked_before(self, operation: Operation, obj: Object | None, changer: Hook) -> list[Hook]:
        """Webhooks that want to look again, now that one after them has changed the object."""
        picked = self.picked(operation, obj)
        before = picked[: picked.index(changer)] if changer in picked else []
        return [one for one in before if one.settings.get("reinvocationPolicy") == "IfNeeded"]

    async def _step(
        self, hook: Hook, operation: Operation, obj: Object | None, place: str
    ) -> tuple[Object | None, bool]:
        response = await self.ask(hook, operation, obj)
        if response is None:
            return obj, False
        patch = response.get("patch")
        changed = False
        if patch and obj is not None:
            steps = _decode_patch(hook, patch)
            try:
                patched = jsonpatch.apply_patch({"kind": "", "apiVersion": "", **obj}, steps)
            except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
                raise errors.ApiError(500, "InternalError", f"Internal error occurred: {error}") from None
            patched.pop("kind", None)
            patched.pop("apiVersion", None)
            changed = patched != obj
            obj = patched
            told: Object = {"configuration": hook.configuration, "webhook": hook.name, "patch": steps}
            operation.annotations[f"patch.webhook.admission.k8s.io/{place}"] = orjson.dumps(
                told | {"patchType": "JSONPatch"}
            ).decode()
        note: Object = {"configuration": hook.configuration, "webhook": hook.name, "mutated": changed}
        operation.annotations[f"mutation.webhook.admission.k8s.io/{place}"] = orjson.dumps(note).decode()
        return obj, changed


def _decode_patch(hook: Hook, patch: str) -> Any:
    try:
        steps: Any = orjson.loads(base64.b64decode(patch, validate=True))
    except ValueError as error:
        text = f"Internal error occurred: webhook {_quoted(hook.name)}: the patch is not base64 of JSON: {error}"
        raise errors.ApiError(500, "InternalError", text) from None
    return steps


class ValidatingWebhooks(_Webhooks):
    """Asks all at once; any may refuse."""

    def __init__(self, storage: Storage, client: WebhookClient, users: Mapping[str, Pair] | None = None) -> None:
        super().__init__(storage, client, VALIDATING, users)

    async def validate(self, operation: Operation, obj: Object | None) -> None:
        """Raises ApiError with the first refusal."""
        picked: Sequence[Hook] = self.picked(operation, obj)
        asked = (self.ask(hook, operation, obj) for hook in picked)
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
