"""The review resources: a user asks what it is and what it, or someone else, may do."""

from typing import Any

from daas.devstack.apiserver.access import AUTHENTICATED, MASTERS, Attributes, Authenticator, Authorizer, user_of
from daas.devstack.apiserver.errors import bad_request
from daas.devstack.apiserver.request import Call, typed
from daas.devstack.apiserver.resources import Object

REVIEWS = frozenset(
    {
        *("selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"),
        *("selfsubjectreviews", "tokenreviews"),
    }
)
_ANYTHING: Object = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}
_OWN: Object = {
    "resourceRules": [
        {
            "verbs": ["create"],
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        },
        {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]},
    ],
    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/api", "/apis", "/openapi", "/version"]}],
    "incomplete": False,
}


def _attributes(spec: Object) -> Attributes:
    if (resource := spec.get("resourceAttributes")) is not None:
        names = ("verb", "group", "version", "resource", "subresource", "namespace", "name")
        return Attributes(**{name: resource.get(name, "") for name in names})
    if (other := spec.get("nonResourceAttributes")) is not None:
        return Attributes(verb=other.get("verb", ""), path=other.get("path", ""))
    raise bad_request("spec: exactly one of resourceAttributes and nonResourceAttributes must be given")


async def review(call: Call, body: Any, authenticator: Authenticator, authorizer: Authorizer) -> Object:
    """The review with its status filled in, with kind and apiVersion. Raises ApiError 400."""
    resource = call.target.resource
    obj = typed(
        body,
        resource.kind,
        resource.group_version,
        resource.schema,
        validation=call.field_validation,
        warnings=call.warnings,
    )
    spec = obj.get("spec") or {}
    status: Object
    if resource.plural == "tokenreviews":
        user = await authenticator.authenticate(spec.get("token", ""))
        obj["spec"] = {name: value for name, value in spec.items() if name != "token"}
        status = {"authenticated": True, "user": user.info()} if user else {"user": {}}
    elif resource.plural == "selfsubjectreviews":
        status = {"userInfo": call.user.info()}
    elif resource.plural == "selfsubjectrulesreviews":
        status = _ANYTHING if MASTERS in call.user.groups else _OWN if AUTHENTICATED in call.user.groups else {}
    else:
        asked = call.user
        if resource.plural == "subjectaccessreviews":
            asked = user_of({**spec, "username": spec.get("user", "")})
        decision = await authorizer.authorize(asked, _attributes(spec))
        status = {"allowed": decision.allowed}
        if decision.denied:
            status["denied"] = True
        if decision.reason:
            status["reason"] = decision.reason
        if decision.error:
            status["evaluationError"] = decision.error
    meta = obj.get("metadata") or {"creationTimestamp": None}
    return {"kind": resource.kind, "apiVersion": resource.group_version, **obj, "metadata": meta, "status": status}
