"""Who asks and whether they may: the authentication and authorization steps of the request path."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: As K3s calls whoever its kubeconfig is for.
ADMINISTRATOR = "system:admin"
#: What K3s passes as --api-audiences; the first is its issuer of service accounts' tokens.
K3S_AUDIENCES = ("https://kubernetes.default.svc.cluster.local", "k3s")
MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated identity, as UserInfo names it; `extra` is sorted by name."""

    username: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def info(self) -> dict[str, Any]:
        """The UserInfo, without what is empty."""
        out: dict[str, Any] = {"username": self.username}
        if self.uid:
            out["uid"] = self.uid
        if self.groups:
            out["groups"] = list(self.groups)
        if self.extra:
            out["extra"] = {name: list(values) for name, values in self.extra}
        return out


def user_of(info: Mapping[str, Any]) -> User:
    """The user that a UserInfo names."""
    extra = tuple(sorted((name, tuple(values or ())) for name, values in (info.get("extra") or {}).items()))
    return User(info.get("username", ""), tuple(info.get("groups") or ()), info.get("uid", ""), extra)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a request wants to do; `path` for requests outside resources, else group, resource and the rest."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """An authorizer's answer: allowed, denied for good, or (neither) no opinion.

    `reason` is shown to whoever is refused; `error` says that an authorizer could not be asked.
    """

    allowed: bool
    reason: str = ""
    denied: bool = False
    error: str = ""


class Authenticator(Protocol):
    """Turns a bearer token into a user."""

    async def authenticate(self, token: str) -> User | None:
        """The user the token stands for, None if it stands for nobody."""
        ...


class Authorizer(Protocol):
    """Decides whether a user may do something."""

    async def authorize(self, user: User, attributes: Attributes) -> Decision:
        """The decision; refusals carry a reason."""
        ...


class StaticTokens:
    """Tokens known at the start, kept as SHA-256 digests: looking one up tells nothing about the others by its time."""

    def __init__(self, users: Mapping[str, User]) -> None:
        self._users = {hashlib.sha256(token.encode()).digest(): user for token, user in users.items()}

    async def authenticate(self, token: str) -> User | None:
        """The user of a known token."""
        return self._users.get(hashlib.sha256(token.encode()).digest())


# What system:discovery and system:basic-user grant every authenticated user of a real cluster.
_DISCOVERY = ("/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz")
_SELF_REVIEWS = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")


class MastersOnly:
    """Members of system:masters may do everything; other users may discover the API and ask about themselves."""

    async def authorize(self, user: User, attributes: Attributes) -> Decision:
        """The decision."""
        if MASTERS in user.groups:
            return Decision(allowed=True)
        if AUTHENTICATED in user.groups:
            path = attributes.path
            discovery = any(path == one or path.startswith(one + "/") for one in _DISCOVERY)
            if path and attributes.verb == "get" and discovery:
                return Decision(allowed=True, reason="discovery is open to every authenticated user")
            if attributes.verb == "create" and attributes.resource in _SELF_REVIEWS:
                return Decision(allowed=True, reason="users may ask about themselves")
        return Decision(allowed=False)


def refusal(user: User, attributes: Attributes) -> str:
    """The sentence with which RBAC refuses."""
    if attributes.path:
        return f'User "{user.username}" cannot {attributes.verb} path "{attributes.path}"'
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    text = f'User "{user.username}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}"'
    return f"{text} {where}"
