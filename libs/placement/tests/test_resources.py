"""Quantities, effective requests and fit are Kubernetes' own, in integers."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from placement_world import make_node, make_pod

from daas.common import merkle
from daas.placement.commitment import BucketTree
from daas.placement.errors import QuantityError
from daas.placement.quantity import NANO, parse_nano
from daas.placement.resources import MAX_CAPACITY, allocatable, demand, fits, pod_requests


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("1", 1), ("+1", 1), ("-0", 0), ("250m", Fraction(1, 4)), ("0.5", Fraction(1, 2)),
        (".5", Fraction(1, 2)), ("5.", 5), ("1k", 1000), ("1Ki", 1024), ("1.5Gi", 3 * 2**29), ("2M", 2_000_000),
        ("1E", 10**18), ("1Ei", 2**60),
        ("1e3", 1000), ("1E3", 1000), ("12e-1", Fraction(12, 10)),
        ("100u", Fraction(1, 10_000)), ("1n", Fraction(1, NANO)),
    ],
)  # fmt: skip
def test_quantities_are_read_exactly(text: str, value: Fraction) -> None:
    assert parse_nano(text) == value * NANO


@pytest.mark.parametrize(
    "text",
    ["", ".", "m", "1 ", " 1", "1mm", "1KI", "1ki", "0x1", "1_000", "1e", "1e99", "inf", "nan", "1,5", "--1", "\u0661"],
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(QuantityError, match="malformed-quantity"):
        parse_nano(text)


def test_negative_quantities_are_refused() -> None:
    with pytest.raises(QuantityError, match="negative-quantity"):
        parse_nano("-1m")


@given(st.integers(0, 10**15), st.integers(0, 12))
def test_what_is_finer_than_a_billionth_is_rounded_up(digits: int, places: int) -> None:
    exact = Fraction(digits, 10**places) * NANO
    text = f"{digits // 10**places}.{digits % 10**places:0{places}d}" if places else str(digits)
    assert parse_nano(text) == -(-exact.numerator // exact.denominator)


def container(cpu: str = "", memory: str = "", **kwargs: Any) -> dict[str, Any]:
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    return {"name": "c", "resources": {"requests": requests}, **kwargs}


def cpu_of(**spec: Any) -> int:
    return pod_requests(make_pod("p", **spec)).get("cpu", 0)


def test_containers_add_up_and_the_total_is_rounded_up_once() -> None:
    assert cpu_of(containers=[container("250m"), container("1")]) == 1250
    assert cpu_of(containers=[container("400u"), container("400u")]) == 1
    assert pod_requests(make_pod("p", containers=[container(memory="1500m")])) == {"memory": 2, "pods": 1}


def test_init_containers_count_by_their_largest_moment() -> None:
    assert cpu_of(containers=[container("1")], initContainers=[container("3"), container("2")]) == 3000
    assert cpu_of(containers=[container("4")], initContainers=[container("3")]) == 4000


def test_sidecars_count_with_the_containers_and_with_the_init_containers_after_them() -> None:
    sidecar = container("2", restartPolicy="Always")
    assert cpu_of(containers=[container("1")], initContainers=[sidecar]) == 3000
    assert cpu_of(containers=[container("1")], initContainers=[sidecar, container("3")]) == 5000
    assert cpu_of(containers=[container("1")], initContainers=[container("3"), sidecar]) == 3000
    assert cpu_of(containers=[container("1")], initContainers=[sidecar, sidecar]) == 5000


def test_pod_level_requests_override_and_overhead_comes_on_top() -> None:
    pod_level = {"requests": {"cpu": "5", "example.com/gpu": "9"}}
    assert cpu_of(containers=[container("1")], resources=pod_level, overhead={"cpu": "100m"}) == 5100
    assert "example.com/gpu" not in pod_requests(make_pod("p", resources=pod_level))


def test_scores_count_defaults_for_containers_that_ask_for_nothing_but_not_for_zero() -> None:
    nothing = demand(make_pod("p", containers=[container(), container("1")]))
    assert (nothing.score_cpu_milli, nothing.score_memory_bytes) == (1100, 400 * 2**20)
    assert demand(make_pod("p", containers=[container("0", "0")])).score_cpu_milli == 0
    assert dict(nothing.requests) == {"cpu": 1000}


def test_capacities_round_down_and_are_capped_where_larger_requests_still_do_not_fit() -> None:
    node = make_node("n", allocatable={"cpu": "1999999u", "memory": "1.9", "x.io/y": "9Ei"})
    assert allocatable(node) == {"cpu": 1999, "memory": 1, "pods": 110, "x.io/y": MAX_CAPACITY}
    assert fits(node, [], make_pod("p", requests={"x.io/y": "1Ei"})) is not None
    assert fits(node, [], make_pod("p", requests={"x.io/y": "1Ti"})) is None


def test_the_live_check_counts_what_runs_and_names_what_is_short() -> None:
    node = make_node("n", allocatable={"cpu": "2", "pods": "2"})
    one, ended = make_pod("one", cpu="1500m"), make_pod("ended", cpu="2", phase="Succeeded")
    pod = make_pod("p", cpu="600m")
    assert fits(node, [ended], pod) is None
    assert fits(node, [one, ended], pod) == "insufficient cpu: 600 requested, 500 free"
    assert fits(node, [one, make_pod("two")], make_pod("p")) == "too many pods"
    assert fits(node, [one, pod], make_pod("p", cpu="500m")) is None
    assert fits(node, [], make_pod("p", requests={"x.io/y": "1"})) == "insufficient x.io/y: 1 requested, 0 free"


def test_a_bad_quantity_names_its_field() -> None:
    with pytest.raises(QuantityError) as caught:
        demand(make_pod("p", initContainers=[container(), container("x")]))
    assert caught.value.field == "spec.initContainers[1].resources.requests[cpu]"


@given(st.dictionaries(st.text(max_size=3), st.none() | st.binary(max_size=3), max_size=20))
def test_the_bucket_tree_does_not_depend_on_the_order_of_changes(changes: dict[str, bytes | None]) -> None:
    whole, single = BucketTree(8), BucketTree(8)
    whole.update({name: leaf for name, leaf in changes.items() if leaf is not None})
    for name in changes:
        single.update({name: b"something else"})
    for name, leaf in sorted(changes.items(), reverse=True):
        single.update({name: leaf})
    assert single.root == whole.root == merkle.digest(b"\x01" + whole._levels[0])
