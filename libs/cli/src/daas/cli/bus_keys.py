"""The keys of the bus and what its servers' configuration gives to each."""

import json
import re
from pathlib import Path
from typing import Any, Final

from daas.common.bus.inspection import Finding, Grade
from daas.common.errors import ConfigurationError
from daas.common.nats_config import permissions
from daas.common.nkeys import keep_nkey
from daas.common.subjects import Service

_AUTHORIZATION: Final = re.compile(r"^authorization:\s*(?=\{)", re.MULTILINE)
_RENDER: Final = "render it again (`python infra/nats/render.py`) and `nats-server --signal reload`"


def make_keys(directory: Path) -> dict[Service, tuple[str, bool]]:
    """A key for each service: `<service>.seed` (mode 0600, kept where it is there) and `<service>.pub`.

    Returns:
        The public key, and whether it was made now.

    Raises:
        ConfigurationError: `key-mode`: a seed that is there can be read by others.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = {}
    for service in Service:
        seed = directory / f"{service.value}.seed"
        there = seed.exists()
        if there and seed.stat().st_mode & 0o077:
            raise ConfigurationError(
                f"{seed} can be read by others than its owner: take it as stolen, remove it and make another",
                reason="key-mode",
                field=str(seed),
            )
        public = keep_nkey(seed)
        (directory / f"{service.value}.pub").write_text(f"{public}\n", encoding="ascii")
        made[service] = (public, not there)
    return made


def check_configuration(path: Path, cluster: str, keys: Path | None) -> list[Finding]:
    """Holds the users of a server's configuration against the catalogue.

    Args:
        path: a file that `infra/nats/render.py` wrote, perhaps long ago, perhaps changed by hand since.
        cluster: whose catalogue.
        keys: folder with `<service>.pub`, to tell whose key is whose; by default by the permissions.

    Raises:
        ConfigurationError: `nats-configuration`: it has no users that can be read.
    """
    text = path.read_text(encoding="utf-8")
    match = _AUTHORIZATION.search(text)
    try:
        users = json.JSONDecoder().raw_decode(text, match.end())[0]["users"] if match else None
    except (json.JSONDecodeError, KeyError, TypeError):
        users = None
    if not isinstance(users, list):
        raise ConfigurationError(
            f"{path} has no block of users as infra/nats/render.py writes it", reason="nats-configuration"
        )
    by_key = {user.get("nkey") or user.get("user"): user for user in users if isinstance(user, dict)}
    findings = []
    for service in Service:
        public = _public(keys, service)
        if public is None:
            user = next((u for u in by_key.values() if _inbox(service) in _allowed(u, "subscribe")), None)
        else:
            user = by_key.get(public)
        findings.append(_judge(cluster, service, user))
    return findings


def _public(keys: Path | None, service: Service) -> str | None:
    path = keys / f"{service.value}.pub" if keys is not None else None
    return path.read_text(encoding="ascii").strip() if path is not None and path.exists() else None


def _inbox(service: Service) -> str:
    return f"_INBOX_{service.value}.>"


def _allowed(user: dict[str, Any], kind: str) -> set[str]:
    try:
        return set(user["permissions"][kind]["allow"])
    except (KeyError, TypeError):
        return set()


def _judge(cluster: str, service: Service, user: dict[str, Any] | None) -> Finding:
    what = f"user {service.value}"
    if user is None:
        return Finding(Grade.WARNING, what, "has no place in the configuration", _RENDER)
    granted = permissions(cluster, service)
    wrong = []
    for kind, wanted in (("publish", set(granted.publish)), ("subscribe", set(granted.subscribe))):
        found = _allowed(user, kind)
        if not found:
            wrong.append(f"may {kind} everything")
            continue
        wrong += [f"may {kind} {subject}, which the catalogue does not give it" for subject in sorted(found - wanted)]
        wrong += [f"may not {kind} {subject}, which it needs" for subject in sorted(wanted - found)]
    if granted.answers and "allow_responses" not in user["permissions"]:
        wrong.append("may not answer requests")
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        return Finding(Grade.WRONG, what, "; ".join(wrong[:3]) + more, _RENDER)
    return Finding(Grade.OK, what, f"{len(granted.publish)} subjects to publish, {len(granted.subscribe)} to subscribe")
