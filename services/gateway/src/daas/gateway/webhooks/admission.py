"""AdmissionReview: pods get our schedulerName and read sealed Secrets; Secrets that ask for it are sealed."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import msgspec
from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import DaasError, InvalidInput, NotFound, Refused
from daas.gateway.webhooks.unseal import UnsealContainer, inject, secret_names
from daas.secrets import MalformedEnvelope, MalformedSecret, SealedSecret, State, check_data, state_of
from daas.secrets.manifest import data_of, type_of

Object = dict[str, Any]

API_VERSION: Final = "admission.k8s.io/v1"
DEFAULT_SCHEDULER: Final = "default-scheduler"
SEAL_POLICY: Final = "k3s-daas.io/seal-policy"
SENSITIVE: Final = "k3s-daas.io/sensitive"
FORBIDDEN, INVALID = 403, 422


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is answered: allowed with a JSON patch, or refused with a code and a sentence."""

    patch: tuple[Object, ...] = ()
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    code: int = FORBIDDEN
    kind: str = field(default="allowed")


def mutate_pod(pod: Object, scheduler_name: str) -> Outcome:
    """Our schedulerName for a pod that has no node yet. Applied to its own result it changes nothing."""
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        raise InvalidInput("expected a pod with a spec", reason="review-object", field="request.object.spec")
    wanted = spec.get("schedulerName", "")
    if spec.get("nodeName") or wanted == scheduler_name:
        return Outcome(kind="unchanged")
    warnings: tuple[str, ...] = ()
    if wanted not in ("", DEFAULT_SCHEDULER):
        warnings = (f"spec.schedulerName {wanted} was replaced: this namespace is scheduled by {scheduler_name}",)
    # "add" replaces what is there, and the API server has already put default-scheduler there.
    step = {"op": "add", "path": "/spec/schedulerName", "value": scheduler_name}
    return Outcome(patch=(step,), warnings=warnings, kind="mutated")


def validate_object(cluster: str, kind: str, obj: Object, *, dry_run: bool) -> Outcome:
    """A Secret under a seal policy is sealed, for this place, as a whole; a sensitive ConfigMap is a contradiction."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    if kind == "ConfigMap":
        if SENSITIVE in labels:
            return _refused(f"ConfigMaps are public; what is {SENSITIVE} belongs into a sealed Secret")
        if SEAL_POLICY in labels:
            return _refused(f"only Secrets can be sealed: remove {SEAL_POLICY} or make it a Secret")
        return Outcome()
    if SEAL_POLICY not in labels:
        return Outcome()
    manifest = _manifest(obj)
    try:
        if dry_run and state_of(manifest) is State.PLAIN:  # nothing was sealed for it, and nothing is stored
            return Outcome()
        SealedSecret.parse(cluster, manifest)
    except DaasError as error:
        return _refused(f"{error.message} ({error.reason}); seal it with `daas secret seal`", INVALID)
    return Outcome()


def _refused(text: str, code: int = FORBIDDEN) -> Outcome:
    return Outcome(refusal=text, code=code, kind="refused")


class SecretSealer(Protocol):
    """Whoever seals Secrets for the API server."""

    async def seal(self, manifest: Object, *, policy_name: str) -> Object:
        """The sealed manifest.

        Raises:
            DaasError: the Secret can't be sealed, or not now.
        """
        ...


class SealedSecrets(Protocol):
    """Knows which Secrets are sealed."""

    async def sealed(self, namespace: str, names: set[str]) -> set[str]:
        """Those of the names that are sealed; Secrets that do not exist are not.

        Raises:
            Unavailable: it can't be found out now.
        """
        ...


class AdmissionReviewer:
    """Answers AdmissionReviews. Applied to its own results it changes nothing; for dry runs nothing is sealed.

    Args:
        cluster: sealed Secrets are bound to it.
        scheduler_name: what pods get.
        sealer: seals Secrets that ask for it; None where they are to be sealed before they come here.
        known: tells sealed Secrets apart; None where pods that mount them are not served.
        unseal: the init container of those pods.
    """

    def __init__(
        self,
        cluster: str,
        scheduler_name: str,
        registry: CollectorRegistry,
        *,
        sealer: SecretSealer | None = None,
        known: SealedSecrets | None = None,
        unseal: UnsealContainer | None = None,
    ) -> None:
        self._cluster = cluster
        self._scheduler_name = scheduler_name
        self._sealer = sealer
        self._known = known
        self._unseal = unseal
        self._answers = Counter(
            "daas_gateway_admission_reviews", "Admission reviews", ["webhook", "outcome"], registry=registry
        )

    async def mutate(self, body: Object) -> Object:
        """The answer of the mutating webhook.

        Raises:
            InvalidInput: the review is malformed. Unavailable: it can't be answered now.
        """

        async def judge(request: Object) -> Outcome:
            resource, operation = request["resource"].get("resource"), request.get("operation")
            if request.get("subResource"):
                return Outcome(kind="not-ours")
            if resource == "pods" and operation == "CREATE":
                return await self._pod(request)
            if resource == "secrets" and operation in ("CREATE", "UPDATE"):
                return await self._secret(request)
            return Outcome(kind="not-ours")

        return await self._review("mutate", body, judge)

    async def _pod(self, request: Object) -> Outcome:
        pod = _object(request)
        outcome = mutate_pod(pod, self._scheduler_name)
        names = secret_names(pod)
        if self._known is None or self._unseal is None or not names:
            return outcome
        sealed = await self._known.sealed(_namespace(request), names)
        try:
            steps = inject(pod, sealed, self._unseal)
        except Refused as error:
            return _refused(error.message, INVALID)
        if not steps:
            return outcome
        return replace(outcome, patch=(*outcome.patch, *steps), kind="mutated")

    async def _secret(self, request: Object) -> Outcome:
        manifest = _manifest(_object(request), _namespace(request))
        policy = (manifest["metadata"].get("labels") or {}).get(SEAL_POLICY)
        if policy is None or self._sealer is None or state_of(manifest) is not State.PLAIN:
            return Outcome(kind="unchanged")
        if request.get("dryRun"):
            check_data(type_of(manifest), data_of(manifest))
            return Outcome(warnings=(f"the Secret will be sealed under policy {policy}",), kind="dry-run")
        sealed = await self._sealer.seal(manifest, policy_name=str(policy))
        steps = [
            {"op": "add", "path": "/data", "value": sealed["data"]},
            {"op": "add", "path": "/metadata/annotations", "value": sealed["metadata"]["annotations"]},
        ]
        if "stringData" in _object(request):
            steps.append({"op": "remove", "path": "/stringData"})
        return Outcome(patch=tuple(steps), kind="sealed")

    async def validate(self, body: Object) -> Object:
        """The answer of the validating webhook. Raises InvalidInput."""

        async def judge(request: Object) -> Outcome:
            kind = request["kind"].get("kind")
            if kind not in ("Secret", "ConfigMap") or request.get("operation") not in ("CREATE", "UPDATE"):
                return Outcome(kind="not-ours")
            dry_run = bool(request.get("dryRun"))
            return validate_object(self._cluster, str(kind), _object(request), dry_run=dry_run)

        return await self._review("validate", body, judge)

    async def _review(self, webhook: str, body: Object, judge: Callable[[Object], Awaitable[Outcome]]) -> Object:
        request = _request(body)
        try:
            outcome = await judge(request)
        except (MalformedSecret, MalformedEnvelope, NotFound, Refused) as error:
            outcome = _refused(f"{error.message} ({error.reason})", INVALID)
        self._answers.labels(webhook, outcome.kind).inc()
        response: Object = {"uid": request["uid"], "allowed": not outcome.refusal}
        if outcome.refusal:
            response["status"] = {"code": outcome.code, "message": outcome.refusal}
        if outcome.patch:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(msgspec.json.encode(outcome.patch)).decode()
        if outcome.warnings:
            response["warnings"] = list(outcome.warnings)
        return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}


def _request(body: Object) -> Object:
    if (body.get("kind"), body.get("apiVersion")) != ("AdmissionReview", API_VERSION):
        raise InvalidInput(f"expected an AdmissionReview of {API_VERSION}", reason="review-kind", field="kind")
    request = body.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str):
        raise InvalidInput("expected request.uid", reason="review-request", field="request")
    if not isinstance(request.get("resource"), dict) or not isinstance(request.get("kind"), dict):
        raise InvalidInput("expected kind and resource", reason="review-request", field="request")
    return request


def _object(request: Object) -> Object:
    obj = request.get("object")
    if not isinstance(obj, dict):
        raise InvalidInput("expected an object", reason="review-object", field="request.object")
    return obj


def _namespace(request: Object) -> str:
    namespace = request.get("namespace")
    if not isinstance(namespace, str) or not namespace:
        raise InvalidInput("expected a namespace", reason="review-request", field="request.namespace")
    return namespace


def _manifest(obj: Object, namespace: str | None = None) -> Object:
    """The object as a manifest: a review leaves out what the request's own fields say."""
    metadata = dict(obj.get("metadata") or {})
    if namespace is not None:
        metadata.setdefault("namespace", namespace)
    return {"apiVersion": "v1", "kind": "Secret"} | obj | {"metadata": metadata}
