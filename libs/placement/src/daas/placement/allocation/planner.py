"""Finds an allocation and prices that bound it: the best of greedy, price-greedy, dive and, if wanted, a search.

Nothing here needs to be trusted: `daas.placement.allocation.verify` checks the outcome. Planning uses floating point
and a solver, so it is not replayed; two machines may find different allocations, each with its own true certificate.
"""

from typing import NamedTuple

import numpy as np

from daas.placement.allocation.certificate import MAX_PRICE, PRICE_SCALE, Certificate
from daas.placement.allocation.cluster import Cluster
from daas.placement.allocation.descent import descend
from daas.placement.allocation.errors import ClusterError
from daas.placement.allocation.filling import Filling, by_prices, greedy
from daas.placement.allocation.model import AllocationModel, Ints, build_model
from daas.placement.allocation.objective import Objective
from daas.placement.allocation.program import Floats, Suggestion, program_of, solve
from daas.placement.allocation.search import search, settle
from daas.placement.allocation.verify import price_bound

MAX_ROUNDS = 64
MAX_INTEGER_MS = 600_000


class Effort(NamedTuple):
    """How hard to look.

    Attributes:
        rounds: linear programs that the dive may solve; 0 leaves it out.
        fraction_percent: of the fractional places, how many a round rounds up.
        integer_ms: time budget of an integer search from the best found so far; 0 leaves it out.
    """

    rounds: int = 12
    fraction_percent: int = 25
    integer_ms: int = 0

    def check(self) -> None:
        """Refuses values outside their range.

        Raises:
            ClusterError: `effort-range`, naming the field.
        """
        for field, value, low, high in (
            ("rounds", self.rounds, 0, MAX_ROUNDS),
            ("fraction_percent", self.fraction_percent, 1, 100),
            ("integer_ms", self.integer_ms, 0, MAX_INTEGER_MS),
        ):
            if not low <= value <= high:
                raise ClusterError(f"{field} is {low}..{high}, not {value}", reason="effort-range", field=field)


class Outcome(NamedTuple):
    """A certificate, and what each way of looking found.

    Attributes:
        certificate: of the best.
        found: (name, value), in the order they were tried.
    """

    certificate: Certificate
    found: tuple[tuple[str, int], ...]


def plan(cluster: Cluster, objective: Objective | None = None, effort: Effort | None = None) -> Outcome:
    """An allocation of the cluster's pending pods with its certificate.

    Raises:
        ClusterError: the cluster, the objective or the effort is out of bounds.
        SolverError: the solver is missing or failed.
    """
    return plan_model(build_model(cluster, objective or Objective()), effort or Effort())


def plan_model(model: AllocationModel, effort: Effort) -> Outcome:
    """As `plan`, for a model built already.

    Raises:
        ClusterError: `effort-range`.
        SolverError: the solver is missing or failed.
    """
    effort.check()
    rounded = program_of(
        model,
        counts=model.counts,
        requests=model.rounded_requests,
        free=model.rounded_free,
        limits=model.limits,
    )
    relaxed = solve(rounded)
    pod_prices, node_prices = round_prices(model, relaxed)
    candidates: list[tuple[str, Filling]] = [("greedy", greedy(model))]
    costs: Ints = model.rounded_requests @ node_prices.T // PRICE_SCALE
    candidates.append(("prices", by_prices(model, costs)))
    if effort.rounds:
        candidates.append(("dive", dive(model, relaxed.placed, effort)))
    best = max(candidates, key=lambda candidate: candidate[1].value)[1]
    if effort.integer_ms:
        best_whole = search(model, best, effort.integer_ms)
        candidates.append(("integer", best_whole))
        best = max(best, best_whole, key=lambda filling: filling.value)
    certificate = certify(model, best.placed, pod_prices, node_prices)
    return Outcome(certificate, tuple((name, filling.value) for name, filling in candidates))


def plan_without_solver(model: AllocationModel) -> Outcome:
    """An allocation whose prices come from subgradients: no solver is loaded, and the bound is somewhat looser."""
    suggestion, best = descend(model)
    pod_prices, node_prices = round_prices(model, suggestion)
    certificate = certify(model, best.placed, pod_prices, node_prices)
    return Outcome(certificate, (("greedy", greedy(model).value), ("descent", best.value)))


def certify(model: AllocationModel, placed: Ints, pod_prices: Ints, node_prices: Ints) -> Certificate:
    """The certificate of any allocation (K x N) with any prices (K, and N x D)."""
    k, n = np.nonzero(placed)
    flat_pods, flat_nodes = tuple(pod_prices.tolist()), tuple(node_prices.ravel().tolist())
    return Certificate(
        cluster=model.cluster,
        objective=model.objective,
        places=tuple(zip(k.tolist(), n.tolist(), placed[k, n].tolist(), strict=True)),
        pod_prices=flat_pods,
        node_prices=flat_nodes,
        value=int((placed * model.values).sum()),
        bound=price_bound(model, flat_pods, flat_nodes),
    )


def solverless_prices(model: AllocationModel) -> tuple[Ints, Ints]:
    """Prices that need no solver: every pod costs its best value, capacity is free. Their bound is loose, and true."""
    best = np.where(model.limits > 0, model.values, 0).max(1, initial=0)
    return best * PRICE_SCALE, np.zeros_like(model.free)


def round_prices(model: AllocationModel, suggestion: Suggestion) -> tuple[Ints, Ints]:
    """The solver's prices as integers that the verifier can sum exactly; clipping can only loosen the bound."""
    scaled_pods = np.clip(np.nan_to_num(suggestion.pod_prices) * PRICE_SCALE, 0, 2.0**59)
    scaled_nodes = np.clip(np.nan_to_num(suggestion.node_prices) * PRICE_SCALE, 0, 2.0**59)
    node_prices: Ints = np.round(scaled_nodes).astype(np.int64)
    resources = max(len(model.resources), 1)
    for d in range(len(model.resources)):
        largest = max(int(model.rounded_requests[:, d].max(initial=0)), 1)
        node_prices[:, d] = np.minimum(node_prices[:, d], MAX_PRICE // resources // largest)
    return np.round(scaled_pods).astype(np.int64), node_prices


def dive(model: AllocationModel, fractions: Floats, effort: Effort) -> Filling:
    """Rounds fractions down, the largest of the rest up where they fit, and solves what is left again, a few times."""
    filling = Filling(model)
    for turn in range(effort.rounds):
        last = turn == effort.rounds - 1
        settle(filling, fractions, 100 if last else effort.fraction_percent)
        if last or not filling.left.any():
            break
        room = np.stack([filling.room(k) for k in range(len(model.pods))])
        if not room.any():
            break
        left = program_of(model, counts=filling.left, requests=model.requests, free=filling.free, limits=room)
        fractions = solve(left).placed
    return greedy(model, filling.placed)
