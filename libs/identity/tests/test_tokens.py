"""A login token holds for one cluster, one audience and a short while, and for whoever signed it."""

import base64
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daas.common.errors import ConfigurationError, InvalidInput
from daas.identity import Claims, Expected, InvalidToken, Tiers, issue, load_signer, user_of, verify
from daas.identity.tokens import LIFETIME_MAX_MS, SKEW_MS
from daas.seal.signatures import Ed25519Signer

NOW_MS = 1_760_000_000_000
ALICE, MALLORY = Ed25519Signer(b"\x01" * 32), Ed25519Signer(b"\x02" * 32)
HERE = Expected(cluster="dev", audiences=("k3s", "https://kubernetes.default.svc"), now_ms=NOW_MS)


async def token(signer: Ed25519Signer = ALICE, *, now_ms: int = NOW_MS, **change: str) -> str:
    cluster, audience = change.get("cluster", "dev"), change.get("audience", "k3s")
    return await issue(signer, cluster=cluster, audience=audience, now_ms=now_ms)


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(made: str, **change: object) -> str:
    """The claims changed after they were signed."""
    prefix, claims, signature = made.split(".")
    raw = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    changed = msgspec.structs.replace(msgspec.json.decode(raw, type=Claims), **change)
    return ".".join([prefix, encode(msgspec.json.encode(changed)), signature])


async def test_a_token_says_who_signed_it() -> None:
    claims = verify(await token(), HERE)
    assert claims.account == ALICE.address
    assert claims.cluster == "dev"


async def test_no_two_tokens_are_alike() -> None:
    assert await token() != await token()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"cluster": "other"}, "token-cluster"),
        ({"audiences": ("elsewhere",)}, "token-audience"),
        ({"audiences": ()}, "token-audience"),
        ({"now_ms": NOW_MS + 600_000}, "token-expired"),
        ({"now_ms": NOW_MS - SKEW_MS - 1}, "token-not-yet-valid"),
        ({"lifetime_ms_max": 1000}, "token-lifetime"),
    ],
)
async def test_a_token_used_elsewhere_or_at_another_time_is_refused_with_the_reason(
    change: dict[str, object], reason: str
) -> None:
    with pytest.raises(InvalidToken) as refused:
        verify(await token(), replace(HERE, **change))  # type: ignore[arg-type] # the table's values fit
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "change",
    [{"account": MALLORY.address}, {"expires_ms": NOW_MS + 700_000}, {"nonce": "00" * 16}],
    ids=lambda change: next(iter(change)),
)
async def test_claims_changed_after_signing_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidToken) as refused:
        verify(forged(await token(), **change), HERE)
    assert refused.value.reason == "token-signature"


async def test_a_signature_over_the_claims_for_another_purpose_is_no_login() -> None:
    prefix, claims, _ = (await token()).split(".")
    raw = base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    signature = await ALICE.sign_personal_message(raw)
    with pytest.raises(InvalidToken, match="signature"):
        verify(".".join([prefix, claims, encode(base64.b64decode(signature))]), HERE)


async def test_a_token_may_not_be_asked_to_live_long() -> None:
    with pytest.raises(InvalidInput, match="lives"):
        await issue(ALICE, cluster="dev", audience="k3s", now_ms=NOW_MS, lifetime_ms=LIFETIME_MAX_MS + 1)


@given(st.text(max_size=200) | st.text(max_size=60).map(lambda text: f"daas1.{text}.{text}"))
def test_anything_else_is_refused_and_nothing_but_refused(text: str) -> None:
    with pytest.raises(InvalidToken):
        verify(text, HERE)


async def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    made = await token()
    with pytest.raises(InvalidToken, match="read"):
        verify(made + "=", HERE)


def test_groups_follow_the_stake() -> None:
    tiers = Tiers.parse("bronze=10, gold=1000")
    sui = 10**9
    assert user_of("0xa", 0, tiers).groups == ("daas:accounts",)
    assert user_of("0xa", 1, tiers).groups == ("daas:accounts", "daas:stakers")
    assert user_of("0xa", 999 * sui, tiers).groups[-1] == "daas:tier:bronze"
    rich = user_of("0xa", 1000 * sui, tiers, nonce="n")
    assert rich.groups[-1] == "daas:tier:gold"
    assert rich.info()["extra"] == {"k3s-daas.io/stake": [str(1000 * sui)], "k3s-daas.io/nonce": ["n"]}
    assert not [group for group in rich.groups if group.startswith("system:")]


@pytest.mark.parametrize("text", ["gold", "gold=x", "gold=1,gold=2", "a=1,b=1", "a=0", "A=1"])
def test_tiers_that_contradict_themselves_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Tiers.parse(text)


def test_keys_come_from_the_sui_keystore_or_a_file_of_one(tmp_path: Path) -> None:
    both = tmp_path / "sui.keystore"
    lines = [base64.b64encode(bytes([flag]) + bytes([n]) * 32).decode() for flag, n in ((0, 1), (1, 9), (0, 2))]
    both.write_bytes(msgspec.json.encode(lines))
    both.chmod(0o600)
    assert load_signer(both, MALLORY.address).address == MALLORY.address
    with pytest.raises(ConfigurationError, match="found 2"):
        load_signer(both)
    one = tmp_path / "one.key"
    one.write_text(lines[0])
    one.chmod(0o600)
    assert load_signer(one).address == ALICE.address
    one.chmod(0o640)
    with pytest.raises(ConfigurationError, match="0600"):
        load_signer(one)
    one.write_text("secret-looking")
    one.chmod(0o600)
    with pytest.raises(ConfigurationError) as refused:
        load_signer(one)
    assert "secret-looking" not in str(refused.value)
