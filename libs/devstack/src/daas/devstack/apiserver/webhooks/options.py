"""The flags of kube-apiserver that configure webhooks, under their real names, and what is built from them."""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

from daas.common.errors import ConfigurationError
from daas.devstack.apiserver.access import AUTHENTICATED, K3S_AUDIENCES, Authenticator, Authorizer, User
from daas.devstack.apiserver.rbac import Rbac
from daas.devstack.apiserver.storage import Storage
from daas.devstack.apiserver.webhooks.audit import AuditLog, AuditPolicy, BatchSender
from daas.devstack.apiserver.webhooks.authentication import Authenticators, TokenWebhook
from daas.devstack.apiserver.webhooks.authorization import (
    AlwaysAllow,
    Authorizers,
    NodeAuthorizer,
    load_authorization,
)
from daas.devstack.apiserver.webhooks.endpoint import WebhookClient, duration_s, load_endpoint
from daas.devstack.apiserver.webhooks.shown import AdmissionIdentities, load_admission_control


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """Paths and times as given on the command line; times in seconds."""

    token_webhook: Path | None = None
    token_webhook_cache_ttl_s: float = 120.0
    authorization_config: Path | None = None
    audit_policy: Path | None = None
    audit_webhook: Path | None = None
    audit_max_wait_s: float = 30.0
    audit_initial_backoff_s: float = 10.0
    audiences: tuple[str, ...] = K3S_AUDIENCES
    admission_control: Path | None = None
    token_file: Path | None = None

    def authenticator(self, builtin: Authenticator, client: WebhookClient) -> Authenticator:
        """Known tokens first, then the webhook, if any."""
        if self.token_webhook is None:
            return builtin
        endpoint = load_endpoint(self.token_webhook)
        webhook = TokenWebhook(client, endpoint, self.audiences, cache_ttl_s=self.token_webhook_cache_ttl_s)
        return Authenticators([builtin, webhook])

    def tokens(self) -> dict[str, User]:
        """The users of the token file, by their tokens: `token,user,uid[,"group,group"]`."""
        if self.token_file is None:
            return {}
        rows = list(csv.reader(self.token_file.read_text().splitlines()))
        if any(len(row) not in (3, 4) for row in rows):
            raise ConfigurationError(f"{self.token_file}: expected token,user,uid,groups", reason="token-file")
        return {
            token: User(name, (*filter(None, ",".join(groups).split(",")), AUTHENTICATED), uid)
            for token, name, uid, *groups in rows
        }

    def authorizer(self, storage: Storage, client: WebhookClient) -> Authorizer:
        """The configured chain, or RBAC alone."""
        rbac = Rbac(storage)
        if self.authorization_config is None:
            return Authorizers([rbac])
        builtin: dict[str, Authorizer] = {"RBAC": rbac, "Node": NodeAuthorizer(), "AlwaysAllow": AlwaysAllow()}
        return load_authorization(self.authorization_config, client, builtin)

    def admission_identities(self) -> AdmissionIdentities:
        """The certificates that admission webhooks are shown; none without a configuration."""
        if self.admission_control is None:
            return AdmissionIdentities({}, {})
        return load_admission_control(self.admission_control)

    def sender(self, client: WebhookClient) -> BatchSender | None:
        """Where audit events go, if anywhere."""
        if self.audit_webhook is None or self.audit_policy is None:
            return None
        return BatchSender(
            client,
            load_endpoint(self.audit_webhook),
            max_wait_s=self.audit_max_wait_s,
            initial_backoff_s=self.audit_initial_backoff_s,
        )

    def audit(self, sender: BatchSender | None) -> AuditLog | None:
        """The audit log in front of a sender."""
        if sender is None or self.audit_policy is None:
            return None
        return AuditLog(AuditPolicy.load(self.audit_policy), sender)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Teach a parser the flags."""
    parser.add_argument("--authentication-token-webhook-config-file", type=Path)
    parser.add_argument("--authentication-token-webhook-version", default="v1beta1", choices=["v1", "v1beta1"])
    parser.add_argument("--authentication-token-webhook-cache-ttl", default="2m")
    parser.add_argument("--authorization-config", type=Path)
    parser.add_argument("--token-auth-file", type=Path)
    parser.add_argument("--admission-control-config-file", type=Path)
    parser.add_argument("--audit-policy-file", type=Path)
    parser.add_argument("--audit-webhook-config-file", type=Path)
    parser.add_argument("--audit-webhook-mode", default="batch", choices=["batch"])
    parser.add_argument("--audit-webhook-batch-max-wait", default="30s")
    parser.add_argument("--audit-webhook-initial-backoff", default="10s")
    parser.add_argument("--api-audiences", default=",".join(K3S_AUDIENCES))


def from_flags(given: argparse.Namespace) -> WebhookOptions:
    """The options of parsed flags.

    Raises:
        ConfigurationError: `flags` where they contradict each other, `duration`.
    """
    version: str = given.authentication_token_webhook_version
    if given.authentication_token_webhook_config_file and version != "v1":
        text = "--authentication-token-webhook-version: only v1 is spoken here, and the default is v1beta1"
        raise ConfigurationError(text, reason="flags")
    return WebhookOptions(
        token_webhook=given.authentication_token_webhook_config_file,
        token_webhook_cache_ttl_s=duration_s(given.authentication_token_webhook_cache_ttl),
        authorization_config=given.authorization_config,
        token_file=given.token_auth_file,
        admission_control=given.admission_control_config_file,
        audit_policy=given.audit_policy_file,
        audit_webhook=given.audit_webhook_config_file,
        audit_max_wait_s=duration_s(given.audit_webhook_batch_max_wait),
        audit_initial_backoff_s=duration_s(given.audit_webhook_initial_backoff),
        audiences=tuple(filter(None, given.api_audiences.split(","))),
    )
