"""The one module that talks to the solver (HiGHS): linear programs for prices, integer programs within a time budget.

What it returns are suggestions in floating point. Nothing of it is trusted: prices are rounded to integers and prove
whatever bound they prove, allocations are rounded and checked.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from daas.placement.allocation.errors import SolverError

if TYPE_CHECKING:
    from daas.placement.allocation.model import AllocationModel, Ints, Mask

Floats = npt.NDArray[np.float64]

#: HiGHS fixes its thread count at the first use in a process: one, so that planning takes one core.
_THREADS = 1


class Suggestion(NamedTuple):
    """What the solver proposes.

    Attributes:
        placed: K x N, fractions of pods.
        pod_prices: K. node_prices: N x D, per unit of `requests`. Empty for integer programs.
    """

    placed: Floats
    pod_prices: Floats
    node_prices: Floats


class Program(NamedTuple):
    """What is solved: as `AllocationModel`, with whatever is left of it.

    Attributes:
        values, limits: K x N; places with limit 0 don't exist. counts: K. requests: K x D. free: N x D.
    """

    values: "Ints"
    limits: "Ints"
    counts: "Ints"
    requests: "Ints"
    free: "Ints"


def program_of(model: "AllocationModel", *, counts: "Ints", requests: "Ints", free: "Ints", limits: "Ints") -> Program:
    """What is left of a model, or its rounded form."""
    return Program(values=model.values, limits=limits, counts=counts, requests=requests, free=free)


def solve(
    program: Program, *, start: "Ints | None" = None, integer_ms: int = 0, linear_ms: int = 120_000
) -> Suggestion:
    """The best allocation in fractions, or in whole pods as far as `integer_ms` goes (0: fractions).

    Args:
        program: what to solve.
        start: K x N, an allocation to begin an integer search from.
        integer_ms: time budget of the search in whole pods; its result depends on the machine.
        linear_ms: most time for fractions.

    Raises:
        SolverError: `solver-missing` or `solver-failed`.
    """
    try:
        import highspy  # noqa: PLC0415 - planning alone needs the solver, and only here
    except ImportError:
        raise SolverError("planning needs the package highspy", reason="solver-missing") from None
    classes, nodes = program.limits.shape
    resources = program.requests.shape[1]
    k, n = np.nonzero(program.limits)
    placed = np.zeros((classes, nodes))
    if not len(k):
        return Suggestion(placed, np.zeros(classes), np.zeros((nodes, resources)))
    scale = np.maximum(program.requests.max(0, initial=1), 1).astype(np.float64)
    highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]  # its stubs leave the constructor bare
    _set(highs, "output_flag", False)
    _set(highs, "threads", _THREADS)
    _set(highs, "time_limit", (integer_ms or linear_ms) / 1000)
    highs.passModel(_problem(highspy, program, (k, n), scale, whole=integer_ms > 0))
    if integer_ms and start is not None:
        known = highspy.HighsSolution()
        known.col_value = start[k, n].astype(np.float64).tolist()
        highs.setSolution(known)
    highs.run()
    solution = highs.getSolution()
    values = np.asarray(solution.col_value, np.float64)
    if len(values) != len(k) or not np.isfinite(values).all():
        status = highs.modelStatusToString(highs.getModelStatus())
        raise SolverError(f"the solver ended without a solution: {status}", reason="solver-failed")
    placed[k, n] = values
    duals = np.asarray(solution.row_dual, np.float64)
    if len(duals) != classes + nodes * resources:
        duals = np.zeros(classes + nodes * resources)
    return Suggestion(placed, duals[:classes], duals[classes:].reshape(nodes, resources) / scale)


def _set(highs: Any, option: str, value: object) -> None:
    highs.setOptionValue(option, value)


def _problem(
    highspy: Any,
    program: Program,
    places: "tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]",
    scale: Floats,
    *,
    whole: bool,
) -> Any:
    """Columns are possible places; rows are classes, then node by node its resources, each divided by `scale`."""
    k, n = places
    classes, resources = program.requests.shape
    asking: Mask = program.requests[k] > 0
    per_column = asking.sum(1) + 1
    starts = np.concatenate(([0], np.cumsum(per_column)))
    indices = np.zeros(int(starts[-1]), np.int32)
    entries = np.zeros(int(starts[-1]))
    indices[starts[:-1]] = k
    entries[starts[:-1]] = 1.0
    column, resource = np.nonzero(asking)
    within = (np.cumsum(asking, 1) - 1)[column, resource]
    at = starts[column] + 1 + within
    indices[at] = classes + n[column] * resources + resource
    entries[at] = program.requests[k[column], resource] / scale[resource]
    lp = highspy.HighsLp()
    lp.num_col_ = len(k)
    lp.num_row_ = classes + program.free.size
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = program.values[k, n].astype(np.float64)
    lp.col_lower_ = np.zeros(len(k))
    lp.col_upper_ = program.limits[k, n].astype(np.float64)
    lp.row_lower_ = np.full(lp.num_row_, -highspy.kHighsInf)
    lp.row_upper_ = np.concatenate((program.counts, (program.free / scale).ravel())).astype(np.float64)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = starts.astype(np.int32)
    lp.a_matrix_.index_ = indices
    lp.a_matrix_.value_ = entries
    if whole:
        lp.integrality_ = [highspy.HighsVarType.kInteger] * len(k)
    return lp
