"""Counts sealed Secrets by policy, and how many of them are still on old generations."""

import asyncio
from collections import Counter as Tally
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from daas.common.errors import DaasError
from daas.common.logs import get_logger
from daas.kube.client import KubeClient
from daas.kube.listing import list_items
from daas.sealkeeper.policies import PolicyBook
from daas.secrets import SealedSecret, State, state_of
from daas.secrets.manifest import SEAL_POLICY

#: Policies that have a metric of their own; the names of more are not worth an unbounded set of series.
_POLICIES_MAX: Final = 1_000

log = get_logger("sealkeeper.survey")


class Survey:
    """Looks through the API server's Secrets again and again.

    Args:
        cluster: its name.
        client: the API server.
        policies: current generations.
        metrics: where the gauges go.

    Attributes:
        due: set to count at once.
    """

    def __init__(self, cluster: str, client: KubeClient, policies: PolicyBook, metrics: CollectorRegistry) -> None:
        self._cluster, self._client, self._policies = cluster, client, policies
        self.due = asyncio.Event()
        self.totals: dict[str, int] = {}
        self._gauge = Gauge(
            "daas_seal_keeper_secrets",
            "Labelled Secrets by policy and state: current, old (generation), plain, broken",
            ["policy", "state"],
            registry=metrics,
        )
        self._failures = Counter("daas_seal_keeper_survey_failures", "Surveys that failed", registry=metrics)

    async def run(self, every_s: float) -> None:
        """For ever."""
        while True:
            self.due.clear()
            try:
                await self.count()
            except DaasError as error:
                self._failures.inc()
                log.warning("survey failed", error=error)
            try:
                async with asyncio.timeout(every_s):
                    await self.due.wait()
            except TimeoutError:
                continue

    async def count(self) -> None:
        """Once.

        Raises:
            DaasError: the API server or the ledger is away.
        """
        tally: Tally[tuple[str, str]] = Tally()
        generations: dict[str, int | None] = {}
        async for manifest in list_items(self._client, "/api/v1/secrets", label_selector=SEAL_POLICY):
            name = str((manifest["metadata"].get("labels") or {}).get(SEAL_POLICY, ""))
            tally[name, await self._state(manifest, generations)] += 1
        self._gauge.clear()
        for (name, state), count in list(tally.items())[:_POLICIES_MAX]:
            self._gauge.labels(name, state).set(count)
        self.totals = dict.fromkeys(("current", "old", "plain", "broken"), 0)
        for (_, state), count in tally.items():
            self.totals[state] += count

    async def _state(self, manifest: dict[str, object], generations: dict[str, int | None]) -> str:
        try:
            if state_of(manifest) is State.PLAIN:
                return "plain"
            secret = SealedSecret.parse(self._cluster, manifest)
        except DaasError:
            return "broken"
        if secret.policy not in generations:
            generations[secret.policy] = await self._policies.generation(secret.policy)
        current = generations[secret.policy]
        if current is None:
            return "broken"
        return "current" if secret.generation == current else "old"
