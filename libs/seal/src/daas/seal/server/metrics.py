"""Counters of a key server, for Prometheus: outcomes and times, never identities or addresses."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one application, in a registry of its own unless one is given."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.requests = Counter(
            "seal_key_server_requests", "Requests by endpoint and outcome (OK or the refusal's code)",
            ["endpoint", "outcome"], registry=self.registry,
        )  # fmt: skip
        self.clients = Counter(
            "seal_key_server_clients", "Requests by type of client", ["sdk_type"], registry=self.registry
        )
        self.keys = Counter("seal_key_server_keys_issued", "User secret keys issued", registry=self.registry)
        self.errors = Counter(
            "seal_key_server_unexpected_errors", "Requests that ended in a bug", registry=self.registry
        )
        self.in_flight = Gauge("seal_key_server_in_flight", "Requests being answered", registry=self.registry)
        self.request_seconds = Histogram(
            "seal_key_server_request_seconds", "Time to answer a request", ["endpoint"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.policy_seconds = Histogram(
            "seal_key_server_policy_seconds", "Time the ledger took to evaluate a policy",
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
