"""Who is never asked about stake: the cluster's own identities; API server and gateway agree on them."""

from collections.abc import Iterable
from typing import Final

#: Users whose name begins like this are the cluster's: components, nodes, service accounts, and nobody at all.
PREFIX: Final = "system:"
GROUPS: Final = ("system:masters", "system:nodes")
#: Certificates that K3s gives to parts of itself under other names; without them nodes would not be initialised.
USERS: Final = ("k3s-cloud-controller-manager", "kube-apiserver")
#: What every user may ask about itself, and kubectl asks before anything else.
SELF_REVIEWS: Final = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")
REVIEW_GROUPS: Final = ("authentication.k8s.io", "authorization.k8s.io")
#: URLs outside the resource API that RBAC opens to everybody: which APIs there are, and whether the server is well.
DISCOVERY: Final = ("api", "apis", "openapi", "version", "healthz", "livez", "readyz")


def is_exempt(user: str, groups: Iterable[str]) -> bool:
    """Whether the cluster itself asks."""
    return user.startswith(PREFIX) or user in USERS or not set(GROUPS).isdisjoint(groups)


def conditions() -> list[str]:
    """The same as matchConditions in CEL over a SubjectAccessReview's spec: where one is false, nobody is asked."""

    def among(names: tuple[str, ...]) -> str:
        return "[" + ", ".join(f"'{name}'" for name in names) + "]"

    paths = "|".join(DISCOVERY)
    return [
        *(f"!('{group}' in request.groups)" for group in GROUPS),
        f"!request.user.startsWith('{PREFIX}')",
        f"!(request.user in {among(USERS)})",
        (
            "!has(request.resourceAttributes) || request.resourceAttributes.verb != 'create' || "
            f"!(request.resourceAttributes.group in {among(REVIEW_GROUPS)}) || "
            f"!(request.resourceAttributes.resource in {among(SELF_REVIEWS)})"
        ),
        (
            "!has(request.nonResourceAttributes) || !(request.nonResourceAttributes.verb in ['get', 'head']) || "
            f"!request.nonResourceAttributes.path.matches('^/({paths})(/.*)?$')"
        ),
    ]
