"""ValidatingAdmissionPolicy: CEL rules that the API server evaluates itself."""

from dataclasses import dataclass
from typing import Any

from daas.devstack.apiserver import errors
from daas.devstack.apiserver.admission import Operation
from daas.devstack.apiserver.resources import BY_KEY
from daas.devstack.apiserver.storage import Storage
from daas.devstack.apiserver.webhooks import conditions, matching
from daas.devstack.apiserver.webhooks.dynamic import review_request

Object = dict[str, Any]

_GROUP = "admissionregistration.k8s.io"
POLICIES = BY_KEY[f"validatingadmissionpolicies.{_GROUP}"]
BINDINGS = BY_KEY[f"validatingadmissionpolicybindings.{_GROUP}"]
_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413, "Invalid": 422}


def _picked(storage: Storage, operation: Operation, obj: Object | None, constraints: Object | None) -> bool:
    if constraints is None:
        return True
    anything = [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*", "*/*"]}]
    return matching.matches(
        storage,
        operation,
        obj,
        rules=constraints.get("resourceRules") or anything,
        excluded=constraints.get("excludeResourceRules"),
        namespace_selector=constraints.get("namespaceSelector"),
        object_selector=constraints.get("objectSelector"),
    )


class AdmissionPolicies:
    """Every policy that a binding puts into force."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def validate(self, operation: Operation, obj: Object | None) -> None:
        """Raises ApiError with the first rule that does not hold and is to deny."""
        if operation.resource.group == matching.EXEMPT_GROUP or not self._storage.count(BINDINGS):
            return
        for record in self._storage.records(BINDINGS, None):
            binding = record.object().get("spec") or {}
            policy = self._storage.get(POLICIES, "", binding.get("policyName", ""))
            if policy is None:
                continue
            spec = policy.object().get("spec") or {}
            if not _picked(self._storage, operation, obj, spec.get("matchConstraints") or {}):
                continue
            if not _picked(self._storage, operation, obj, binding.get("matchResources")):
                continue
            self._judge(operation, obj, spec, _Verdict(operation, binding, policy.name, record.name))

    def _judge(self, operation: Operation, obj: Object | None, spec: Object, verdict: "_Verdict") -> None:
        request = review_request(operation, obj)
        variables: Object = {
            "object": request["object"],
            "oldObject": request["oldObject"],
            "request": request,
            "namespaceObject": matching.namespace_of(self._storage, operation, obj),
            "params": None,
        }
        fails_closed = spec.get("failurePolicy", "Fail") == "Fail"
        try:
            if not conditions.all_match([c["expression"] for c in spec.get("matchConditions") or ()], variables):
                return
            composed = {one["name"]: conditions.evaluate(one["expression"], variables)
                        for one in spec.get("variables") or ()}  # fmt: skip
        except conditions.ExpressionError as error:
            if fails_closed:
                verdict.act(error.message, "Invalid")
            return
        variables["variables"] = composed
        for rule in spec.get("validations") or ():
            reason = rule.get("reason") or "Invalid"
            try:
                if conditions.evaluate(rule["expression"], variables) is True:
                    continue
                why = rule.get("message") or f"failed expression: {rule['expression'].strip()}"
                if rule.get("messageExpression"):
                    why = str(conditions.evaluate(rule["messageExpression"], variables)) or why
            except conditions.ExpressionError as error:
                if not fails_closed:
                    continue
                why = error.message
            verdict.act(why, reason)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a binding says is to be done about a rule that does not hold."""

    operation: Operation
    binding: Object
    policy: str
    name: str

    def act(self, why: str, reason: str) -> None:
        """Warn, deny, or both. Raises ApiError."""
        actions = self.binding.get("validationActions") or ["Deny"]
        where = f"ValidatingAdmissionPolicy '{self.policy}' with binding '{self.name}'"
        operation = self.operation
        if "Warn" in actions:
            operation.warnings.append(f"Validation failed for {where}: {why}")
        if "Deny" in actions:
            text = f"{where} denied request: {why}"
            refused = errors.forbidden(operation.resource.plural, operation.resource.group, operation.name, text)
            details = {**(refused.details or {}), "causes": [{"message": text}]}
            raise errors.ApiError(_CODES.get(reason, 422), reason, refused.text, details)
