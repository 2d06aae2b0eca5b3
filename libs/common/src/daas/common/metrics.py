"""The Prometheus metrics that every service has, on a registry of its own: several may share a process in tests."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

#: Seconds. From a handler that only looks something up to one that waits for finality on a ledger.
_LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class BusMetrics:
    """What the bus counts. Labels: `subject` as in the catalogue (without the cluster), `reason` of a DaasError.

    Args:
        registry: where they are shown; one of its own by default.
        publishes: subjects shown from zero on, since `increase` misses the first of a series that begins at one.
    """

    def __init__(self, registry: CollectorRegistry | None = None, *, publishes: Iterable[str] = ()) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        reg = self.registry
        ProcessCollector(registry=reg)
        self.published = Counter("daas_published_total", "Messages the stream has stored", ["subject"], registry=reg)
        for subject in publishes:
            self.published.labels(subject)
        self.publish_failed = Counter(
            "daas_publish_failed_total", "Messages that could not be published", ["subject", "reason"], registry=reg
        )
        self.publish_seconds = Histogram(
            "daas_publish_seconds",
            "From publish to the stream's acknowledgement",
            ["subject"],
            buckets=_LATENCY_BUCKETS,
            registry=reg,
        )
        self.handled = Counter("daas_handled_total", "Messages handled to the end", ["subject"], registry=reg)
        self.failed = Counter(
            "daas_failed_total", "Deliveries that a handler did not finish", ["subject", "reason"], registry=reg
        )
        self.handle_seconds = Histogram(
            "daas_handle_seconds", "Time in the handler", ["subject"], buckets=_LATENCY_BUCKETS, registry=reg
        )
        self.in_flight = Gauge("daas_in_flight", "Handlers running now", ["subject"], registry=reg)
        self.redelivered = Counter(
            "daas_redelivered_total", "Deliveries that were not the first", ["subject"], registry=reg
        )
        self.dead_letters = Counter(
            "daas_dead_letters_total", "Messages moved to the dead-letter stream", ["subject", "reason"], registry=reg
        )
        self.repairs = Counter(
            "daas_consumer_repairs_total", "Consumers made again after they were deleted", ["subject"], registry=reg
        )
        self.reconnects = Counter("daas_nats_reconnects_total", "Reconnections to NATS", registry=reg)
        self.connected = Gauge("daas_nats_connected", "1 while connected to NATS", registry=reg)
        self.permission_errors = Counter(
            "daas_nats_permission_errors_total", "Publishes or subscriptions that NATS refused", registry=reg
        )
        self.unexpected = Counter(
            "daas_unexpected_errors_total", "Exceptions that are not part of the error tree", ["where"], registry=reg
        )
