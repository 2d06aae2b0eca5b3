"""Policy sets are loaded whole or refused, with the place that is to blame."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daas.placement.policy import ACCESS_POLICIES
from daas.policy import DEFAULT_TIERS, Location, PolicyError, PolicySet, Tier, load_folder, sui_from_mist

SOUND = '@id("all")\npermit(principal, action, resource);\n'


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ('@id("a")\npermit(principal, action, resource)\n  when { principal.stake >  };', 3, 30, "policy-syntax"),
        ('@id("a") permit(principal, action, resource)', 1, 45, "policy-syntax"),
        ('@id("a") permit(principal, action, resource));', 1, 45, "policy-syntax"),
        ('// caf\u00e9\n@id("a")\n\tpermit(principal, \u00e9);', 3, 20, "policy-syntax"),
        ('@id("a") permit(principal, action, resource) when { "abc };', 1, 53, "policy-syntax"),
        ('@id("a")\npermit(principal, action, resource) wen { true };', 2, 37, "policy-syntax"),
        ('@id("a") permit(principal, action, resource) when { foo(1) };', 1, 53, "policy-syntax"),
        ('@id("a") permit(principal, action, resource) when { 1 < 99999999999999999999 };', 1, 57, "policy-syntax"),
        (
            SOUND + '@id("b")\npermit(principal, action, resource)\n when { principal.nostake > 5 };',
            5,
            19,
            "policy-type",
        ),
        ('@id("a")\npermit(principal, action == K3s::Action::"gett", resource);', 2, 42, "policy-type"),
        ('\n@id("a") permit(principal, action, resource) when { principal.stake > "5" };', 2, 1, "policy-type"),
        ('@id("a") permit(principal, action, resource) when { principal.node == "x" };', 1, 63, "policy-type"),
        ('@id("a") permit(principal is K3s::Tenant, action, resource);', 1, 35, "policy-type"),
        ("\n\n permit(principal, action, resource);", 3, 2, "policy-id"),
        ('@id("A b") permit(principal, action, resource);', 1, 5, "policy-id"),
        (SOUND + SOUND, 3, 1, "policy-id"),
        ('@id("a") permit(principal == ?principal, action, resource);', 1, 30, "policy-template"),
        (
            '@id("a") permit(principal, action, resource) when { ' + "(" * 40 + "true" + ")" * 40 + " };",
            1,
            84,
            "policy-size",
        ),
    ],
)
def test_a_bad_policy_is_refused_with_line_and_column(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(PolicyError) as caught:
        PolicySet.load(1, {"good.cedar": "", "x.cedar": text})
    assert caught.value.location == Location("x.cedar", line, column)
    assert caught.value.reason == reason
    assert str(Location("x.cedar", line, column)) in str(caught.value)


def test_a_second_policy_is_blamed_where_it_stands_in_its_source() -> None:
    with pytest.raises(PolicyError) as caught:
        PolicySet.load(1, {"a.cedar": SOUND, "b.cedar": "// a remark; with a semicolon\n" + SOUND})
    assert caught.value.location == Location("b.cedar", 2, 1)
    assert "a.cedar:1:1" in str(caught.value)


def test_the_digest_names_version_texts_and_tiers() -> None:
    first = PolicySet.load(1, {"a": SOUND, "b": "// nothing"})
    assert first.digest == PolicySet.load(1, {"b": "// nothing", "a": SOUND}).digest
    assert len(first.digest) == 32
    others = [
        PolicySet.load(2, {"a": SOUND, "b": "// nothing"}),
        PolicySet.load(1, {"a": SOUND}),
        PolicySet.load(1, {"a": SOUND, "b": "// nothing "}),
        PolicySet.load(1, {"a": SOUND, "b": "// nothing"}, (*DEFAULT_TIERS, Tier("whale", 10**7))),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 5


def test_only_sets_that_read_the_context_read_time() -> None:
    assert not PolicySet.load(1, {"a": SOUND}).reads_time
    timed = '@id("night") forbid(principal, action, resource) when { context.minuteOfDay < 360 };'
    assert PolicySet.load(1, {"a": SOUND, "b": timed}).reads_time


@pytest.mark.parametrize(
    ("version", "sources", "tiers", "reason"),
    [
        (0, {"a": SOUND}, DEFAULT_TIERS, "policy-version"),
        (2**63, {"a": SOUND}, DEFAULT_TIERS, "policy-version"),
        (1, {"": SOUND}, DEFAULT_TIERS, "policy-source"),
        (1, {"a:1": SOUND}, DEFAULT_TIERS, "policy-source"),
        (1, {f"s{n}": "" for n in range(65)}, DEFAULT_TIERS, "policy-source"),
        (1, {"a": "//" + " " * 600_000}, DEFAULT_TIERS, "policy-size"),
        (
            1,
            {"a": "".join(f'@id("p{n}") permit(principal, action, resource);' for n in range(513))},
            DEFAULT_TIERS,
            "policy-size",
        ),
        (1, {"a": SOUND}, (), "policy-tiers"),
        (1, {"a": SOUND}, (Tier("x", 1),), "policy-tiers"),
        (1, {"a": SOUND}, (Tier("x", 0), Tier("x", 1)), "policy-tiers"),
        (1, {"a": SOUND}, (Tier("x", 0), Tier("y", 5), Tier("z", 5)), "policy-tiers"),
        (1, {"a": SOUND}, (Tier("X", 0),), "policy-tiers"),
        (1, {"a": SOUND}, (Tier("x", 0), Tier("y", 10**11)), "policy-tiers"),
    ],
)
def test_sets_out_of_bounds_are_refused(
    version: int, sources: dict[str, str], tiers: tuple[Tier, ...], reason: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        PolicySet.load(version, sources, tiers)
    assert caught.value.reason == reason


WORDS = "permit forbid principal action resource when context minute if then else in like K3s::Tier:: ?principal"
PIECES = [
    '@id("a")',
    '"x"',
    "\n",
    *WORDS.split(),
    *["(", ")", ",", "{", "}", ";", "==", "&&", ".", "1", "!", "-", "[", "]", "//"],
]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join)))
@example(SOUND)
@example("\x00")
@example('@id("a") permit(principal, action, resource) when { "\\')
def test_any_text_is_loaded_or_refused_with_its_reason(text: str) -> None:
    try:
        loaded = PolicySet.load(1, {"x": text})
    except PolicyError as error:
        refused = error
    else:
        assert len(loaded.ids) <= 1
        return
    assert refused.location is not None
    assert refused.location.source == "x"


def test_the_deepest_policies_that_are_allowed_do_not_exhaust_the_stack() -> None:
    script = """
import threading
from daas.policy import AccessRequest, Address, Evaluator, PolicyError, PolicySet, ResourceClass
whole = '@id("a") permit(principal, action, resource) when { %s };'
conditions = [
    "if true then " * 380 + "true" + " else true" * 380,
    " && ".join(["true"] * 980),
    " || ".join(["principal.stake > 1"] * 320),
    "resource" + ".a" * 900,
    "(" * 30 + "true" + ")" * 30,
    "[" * 30 + "1" + "]" * 30 + " == [1]",
    "1" + " + 1" * 900 + " > 1",
    "{a: " * 15 + "1" + "}" * 15 + ".a == 1",
]
def run():
    for condition in conditions:
        try:
            policies = PolicySet.load(1, {"x": whole % condition})
        except PolicyError:
            continue
        principal, target = Address(address="0x" + "1" * 64), ResourceClass(resource="pods")
        Evaluator(policies).answer(AccessRequest(principal=principal, verb="get", target=target))
    print("whole")
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


def test_stake_is_counted_in_whole_sui_and_never_rounded_up() -> None:
    assert [sui_from_mist(mist) for mist in (0, 10**9 - 1, 10**9, 10**19)] == [0, 0, 1, 10**10]


def test_the_set_that_comes_along_is_the_one_that_placement_policies_name() -> None:
    assert load_folder().digest.hex() == ACCESS_POLICIES


def test_a_folder_without_texts_or_with_a_broken_head_is_refused(tmp_path: Path) -> None:
    for head in ("{", '{"version": 1, "more": 2}', '{"version": 1}'):
        (tmp_path / "set.json").write_text(head)
        with pytest.raises(PolicyError, match="policy-source"):
            load_folder(tmp_path)
    with pytest.raises(PolicyError, match="policy-source"):
        load_folder(tmp_path / "nothing")
