"""Key servers: an aiohttp application for open, permissioned and committee keys, and a committee's aggregator."""

from daas.seal.server.aggregator import Aggregator, AggregatorSettings, Member
from daas.seal.server.app import KeyServerApp, KeyServerSettings
from daas.seal.server.http import make_metrics_app
from daas.seal.server.keys import (
    CommitteeMemberKeys,
    Derived,
    Exported,
    Imported,
    KeyRing,
    OpenKeys,
    PermissionedClient,
    PermissionedKeys,
    read_secret,
)
from daas.seal.server.limits import Rate
from daas.seal.server.metrics import Metrics
from daas.seal.server.policy import Approval, Denial, PolicyEvaluator, PolicyRequest
from daas.seal.server.refusal import Refusal

__all__ = [
    "Aggregator",
    "AggregatorSettings",
    "Approval",
    "CommitteeMemberKeys",
    "Denial",
    "Derived",
    "Exported",
    "Imported",
    "KeyRing",
    "KeyServerApp",
    "KeyServerSettings",
    "Member",
    "Metrics",
    "OpenKeys",
    "PermissionedClient",
    "PermissionedKeys",
    "PolicyEvaluator",
    "PolicyRequest",
    "Rate",
    "Refusal",
    "make_metrics_app",
    "read_secret",
]
