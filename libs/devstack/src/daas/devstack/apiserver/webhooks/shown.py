"""The AdmissionConfiguration: which certificate admission webhooks are shown, by the host and port of their URL."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from daas.common.errors import ConfigurationError
from daas.devstack.apiserver.webhooks.endpoint import embedded, show

Object = dict[str, Any]
#: Certificate and key, PEM.
Pair = tuple[bytes, bytes]

_VERSION = "apiserver.config.k8s.io/v1"
_PLUGINS = {"MutatingAdmissionWebhook": "mutating", "ValidatingAdmissionWebhook": "validating"}


class AdmissionIdentities:
    """Users of the kubeconfigs for either kind of webhook; as kube-apiserver looks them up, but for `*.` names."""

    def __init__(self, mutating: Mapping[str, Pair], validating: Mapping[str, Pair]) -> None:
        self.mutating = dict(mutating)
        self.validating = dict(validating)


def show_to(tls: ssl.SSLContext, url: str, users: Mapping[str, Pair]) -> None:
    """Lets a context show the certificate that is meant for this URL, if any."""
    parts = urlsplit(url)
    pair = users.get(parts.netloc if parts.port else f"{parts.netloc}:443") or users.get("*")
    if pair is not None:
        show(tls, *pair)


def load_admission_control(path: Path) -> AdmissionIdentities:
    """The identities of an AdmissionConfiguration; configurations of other plugins are passed over.

    Raises:
        ConfigurationError: `admission-control`, as kube-apiserver refuses to start.
    """
    found: dict[str, Mapping[str, Pair]] = {"mutating": {}, "validating": {}}
    try:
        config = yaml.safe_load(path.read_text())
        _expect(path, config, "AdmissionConfiguration")
        for plugin in config.get("plugins") or ():
            kind = _PLUGINS.get(plugin["name"])
            if kind is None:
                continue
            _expect(path, plugin["configuration"], "WebhookAdmissionConfiguration")
            found[kind] = _users(path.parent / plugin["configuration"]["kubeConfigFile"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}") from None
    return AdmissionIdentities(found["mutating"], found["validating"])


def _expect(path: Path, section: Object, kind: str) -> None:
    if (section["apiVersion"], section["kind"]) != (_VERSION, kind):
        raise _wrong(path, f"expected a {kind} of {_VERSION}, it is a {section['kind']} of {section['apiVersion']}")


def _users(path: Path) -> dict[str, Pair]:
    users: dict[str, Pair] = {}
    for one in yaml.safe_load(path.read_text()).get("users") or ():
        certificate = embedded(one["user"], "client-certificate", path.parent)
        key = embedded(one["user"], "client-key", path.parent)
        if certificate and key:
            users[one["name"]] = (certificate, key)
    return users


def _wrong(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path}: {why}", reason="admission-control")
