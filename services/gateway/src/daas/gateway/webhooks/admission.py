"""AdmissionReview: pods get our schedulerName; Secrets that ask for sealing are sealed, or are not stored."""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, Counter

from daas.common.errors import DaasError, InvalidInput
from daas.seal import EncryptedObject

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


def validate_object(kind: str, obj: Object) -> Outcome:
    """A Secret under a seal policy holds Seal objects and nothing else; a sensitive ConfigMap is a contradiction."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    if kind == "ConfigMap":
        if SENSITIVE in labels:
            return _refused(f"ConfigMaps are public; what is {SENSITIVE} belongs into a sealed Secret")
        if SEAL_POLICY in labels:
            return _refused(f"only Secrets can be sealed: remove {SEAL_POLICY} or make it a Secret")
        return Outcome()
    policy = labels.get(SEAL_POLICY)
    if policy is None:
        return Outcome()
    values = {**(obj.get("data") or {})}
    if obj.get("stringData") or not values:
        return _refused(f"a Secret under {SEAL_POLICY} needs sealed values in data", INVALID)
    for name, value in values.items():
        problem = _not_sealed(value)
        if problem:
            return _refused(
                f"data.{name} is not sealed under policy {policy} ({problem}): seal it with `daas secret seal`", INVALID
            )
    return Outcome()


def _not_sealed(value: object) -> str:
    try:
        sealed = EncryptedObject.decode(base64.b64decode(str(value), validate=True))
        sealed.check()
    except (binascii.Error, ValueError):
        return "not base64"
    except DaasError as error:
        return error.reason
    return ""


def _refused(text: str, code: int = FORBIDDEN) -> Outcome:
    return Outcome(refusal=text, code=code, kind="refused")


class AdmissionReviewer:
    """Answers AdmissionReviews. Nothing it does has side effects, so dry runs and reinvocations are safe.

    Args:
        scheduler_name: what pods get.
    """

    def __init__(self, scheduler_name: str, registry: CollectorRegistry) -> None:
        self._scheduler_name = scheduler_name
        self._answers = Counter(
            "daas_gateway_admission_reviews", "Admission reviews", ["webhook", "outcome"], registry=registry
        )

    async def mutate(self, body: Object) -> Object:
        """The answer of the mutating webhook. Raises InvalidInput."""

        def judge(request: Object) -> Outcome:
            is_pod = request["resource"].get("resource") == "pods" and not request.get("subResource")
            if not is_pod or request.get("operation") != "CREATE":
                return Outcome(kind="not-ours")
            return mutate_pod(_object(request), self._scheduler_name)

        return self._review("mutate", body, judge)

    async def validate(self, body: Object) -> Object:
        """The answer of the validating webhook. Raises InvalidInput."""

        def judge(request: Object) -> Outcome:
            kind = request["kind"].get("kind")
            if kind not in ("Secret", "ConfigMap") or request.get("operation") not in ("CREATE", "UPDATE"):
                return Outcome(kind="not-ours")
            return validate_object(str(kind), _object(request))

        return self._review("validate", body, judge)

    def _review(self, webhook: str, body: Object, judge: Callable[[Object], Outcome]) -> Object:
        request = _request(body)
        outcome = judge(request)
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
