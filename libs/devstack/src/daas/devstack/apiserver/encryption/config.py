"""EncryptionConfiguration, the file that --encryption-provider-config names: which provider for which resources."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from daas.common.errors import ConfigurationError
from daas.devstack.apiserver.webhooks.endpoint import duration_s
from daas.kms.rpc import TIMEOUT_S, socket_path
from daas.kms.stored import PROVIDER_NAME

API_VERSIONS: Final = frozenset({"apiserver.config.k8s.io/v1", "v1"})
_KMS_FIELDS: Final = frozenset({"apiVersion", "name", "endpoint", "timeout"})

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kms:
    """A KMS v2 plugin: its name in stored values, where it listens, and the time-out of a call."""

    name: str
    endpoint: str
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Identity:
    """No encryption."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Resources, by the name that storage knows them by, and their providers: the first writes, all of them read."""

    resources: tuple[str, ...]
    providers: tuple[Kms | Identity, ...]


def load(path: Path) -> tuple[Rule, ...]:
    """Reads a file. Providers other than KMS v2 and identity are refused: this server has no others.

    Raises:
        ConfigurationError: `encryption-config`, `kms-endpoint`, `duration`.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}") from None
    if not isinstance(found, dict) or found.get("kind") != "EncryptionConfiguration":
        raise _wrong(path, "expected kind EncryptionConfiguration")
    if found.get("apiVersion") not in API_VERSIONS:
        raise _wrong(path, f"unknown apiVersion {found.get('apiVersion')!r}")
    listed = found.get("resources")
    if not isinstance(listed, list) or not listed:
        raise _wrong(path, "resources: at least one is needed")
    rules = tuple(_rule(path, one) for one in listed)
    resources = [name for rule in rules for name in rule.resources]
    plugins = [one for rule in rules for one in rule.providers if isinstance(one, Kms)]
    names = {one.name: one for one in plugins}
    if len(set(resources)) != len(resources):
        raise _wrong(path, "a resource stands in two rules")
    if any(names[one.name] != one for one in plugins):
        raise _wrong(path, "two KMS providers have one name")
    return rules


def _rule(path: Path, value: Any) -> Rule:
    if not isinstance(value, dict):
        raise _wrong(path, "resources: expected objects")
    resources, providers = value.get("resources"), value.get("providers")
    if not isinstance(resources, list) or not resources or not all(isinstance(one, str) for one in resources):
        raise _wrong(path, "resources: expected names of resources")
    if any("*" in one for one in resources):
        raise _wrong(path, "resources: wildcards are not understood here")
    if not isinstance(providers, list) or not providers:
        raise _wrong(path, "providers: at least one is needed")
    return Rule(tuple(resources), tuple(_provider(path, one) for one in providers))


def _provider(path: Path, value: Any) -> Kms | Identity:
    if not isinstance(value, dict) or len(value) != 1:
        raise _wrong(path, "providers: each is an object with one name")
    ((kind, options),) = value.items()
    if kind == "identity":
        return Identity()
    if kind != "kms" or not isinstance(options, dict):
        raise _wrong(path, f"provider {kind!r} is not understood here")
    if options.get("apiVersion") != "v2" or not set(options) <= _KMS_FIELDS:
        raise _wrong(path, "kms: expected apiVersion v2, name, endpoint and perhaps timeout")
    name = str(options.get("name", ""))
    if not PROVIDER_NAME.fullmatch(name):
        raise _wrong(path, f"kms: {name!r} can't name a provider")
    endpoint = str(options.get("endpoint", ""))
    socket_path(endpoint)
    return Kms(name, endpoint, duration_s(str(options["timeout"])) if "timeout" in options else TIMEOUT_S)


def _wrong(path: Path, text: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {text}", reason="encryption-config")
