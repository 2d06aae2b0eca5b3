"""What the plugin counts."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Up to the API server's time-out of 3 s.
_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 3.0)


class KmsMetrics:
    """Prometheus metrics of one plugin; `registry` holds them."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.calls = Counter(
            "daas_kms_calls", "Calls by method and answer (a reason, or ok)", ["method", "answer"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "daas_kms_seconds", "Time to an answer", ["method"], buckets=_BUCKETS_S, registry=self.registry
        )
        self.openings = Counter(
            "daas_kms_openings", "Attempts to open a seed through key servers, by outcome", ["outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.seeds = Gauge("daas_kms_seeds_open", "Seeds in memory", registry=self.registry)
        self.listed = Gauge("daas_kms_seeds_listed", "Seeds in the keyring", registry=self.registry)
        self.generation = Gauge("daas_kms_generation", "Generation encrypted with; 0: none", registry=self.registry)
        self.unexpected = Counter("daas_kms_unexpected_errors", "Errors outside the tree", registry=self.registry)
