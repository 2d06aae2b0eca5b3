"""What the relay counts, beside what every service counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
#: Seconds from the moment a decision stands in its stream to the moment its anchor does.
_LATENCY_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RelayMetrics:
    """Labels: `reason` of a DaasError, `kind` of an event on the ledger."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.anchored = Counter("daas_relay_anchored_total", "Batches anchored", registry=registry)
        self.refused = Counter("daas_relay_refused_total", "Batches refused", ["reason"], registry=registry)
        self.transactions = Counter("daas_relay_transactions_total", "Transactions with known fate", registry=registry)
        self.failed = Counter(
            "daas_relay_transactions_failed_total", "Transactions that paid and failed", ["reason"], registry=registry
        )
        self.sends = Counter("daas_relay_sends_total", "Times signed bytes were sent", registry=registry)
        self.rebuilt = Counter("daas_relay_rebuilt_total", "Transactions given up for another", registry=registry)
        self.gas_mist = Counter("daas_relay_gas_mist_total", "Gas paid, rebates taken off, in MIST", registry=registry)
        self.batches = Histogram(
            "daas_relay_batches_per_transaction", "Batches in one transaction", buckets=_BATCHES, registry=registry
        )
        self.latency = Histogram(
            "daas_relay_anchor_seconds", "From decided to anchored", buckets=_LATENCY_S, registry=registry
        )
        self.waiting = Gauge("daas_relay_waiting", "Decisions waiting for their turn", registry=registry)
        self.balance_mist = Gauge("daas_relay_balance_mist", "Balance of the paying account", registry=registry)
        self.low_balance = Gauge("daas_relay_low_balance", "1 while the balance is low", registry=registry)
        self.checkpoint = Gauge("daas_relay_checkpoint", "Last checkpoint turned into facts", registry=registry)
        self.events = Counter("daas_relay_events_total", "Events of the ledger seen", ["kind"], registry=registry)
        self.node_trouble = Counter(
            "daas_relay_node_trouble_total", "Full nodes that failed or contradicted themselves", ["reason"],
            registry=registry,
        )  # fmt: skip

    def paid(self, gas_mist: int) -> None:
        """Counts gas; storage given back can make a transaction's cost negative."""
        self.transactions.inc()
        self.gas_mist.inc(max(0, gas_mist))
