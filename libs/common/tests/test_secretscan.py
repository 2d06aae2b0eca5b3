"""What may not become public is found, what may is let through, and nothing that was found is told.

The corpus writes a bar into everything that looks like a credential, so that no other scanner takes it for one.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from daas.common.secretscan import DEPTH_MAX, TEXT_CHARS_MAX, SecretFound, require_public, scan

BAR = "\u00a6"
CORPUS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "secret-corpus.json").read_text(encoding="utf-8").replace(BAR, "")
)
SECRETS = [case for case in CORPUS if case["rule"]]
PUBLIC = [case for case in CORPUS if not case["rule"]]
#: Of what is public, this much may be refused; a refusal costs an entry in etcd, a leak costs the secret.
FALSE_POSITIVES_MAX = 2


def names(cases: list[dict[str, Any]]) -> list[str]:
    return [case["name"] for case in cases]


def test_the_corpus_is_large_enough_to_say_something() -> None:
    assert len(SECRETS) >= 60
    assert len(PUBLIC) >= 50
    assert len(set(names(CORPUS))) == len(CORPUS)


@pytest.mark.parametrize("case", SECRETS, ids=names(SECRETS))
def test_a_secret_is_found_by_the_rule_for_it(case: dict[str, Any]) -> None:
    finding = scan(case["value"])
    assert finding is not None
    assert finding.rule == case["rule"]


def test_of_what_is_public_hardly_anything_is_refused() -> None:
    refused = {case["name"]: scan(case["value"]) for case in PUBLIC if scan(case["value"])}
    assert len(refused) <= FALSE_POSITIVES_MAX, refused


def test_a_refusal_says_where_and_by_which_rule_and_nothing_of_what() -> None:
    with pytest.raises(SecretFound) as caught:
        require_public({"data": {"app.env": "DB_PASSWORD=swordfish"}}, "configmaps/default/app")
    assert caught.value.reason == "secret-password"
    assert caught.value.field == "configmaps/default/app.data.app.env (DB_PASSWORD)"
    assert caught.value.redacted
    assert "swordfish" not in str(caught.value)


def test_what_can_not_be_looked_through_is_not_public() -> None:
    deep: Any = "x"
    for _ in range(DEPTH_MAX + 1):
        deep = [deep]
    for value, rule in ((deep, "too-deep"), ("x" * (TEXT_CHARS_MAX + 1), "too-long")):
        finding = scan(value)
        assert finding is not None
        assert finding.rule == rule
