"""`daas secret` with a ledger, an API server and three key servers: sealed, opened, refused, listed, rotated."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from support.secret_stage import SecretStage, bytes_below, secret

from daas.secrets import SealedSecret, SealParameters, State, state_of

pytestmark = [pytest.mark.connected, pytest.mark.asyncio(loop_scope="module")]

PASSWORD = "correct-horse-battery-staple"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SecretStage]:
    async with SecretStage(tmp_path_factory.mktemp("secrets")) as made:
        yield made


async def sealed(stage: SecretStage, *manifests: dict[str, Any], policy: str = "default") -> list[dict[str, Any]]:
    done = await stage.daas("secret", "seal", "--policy", policy, text=yaml.safe_dump_all(manifests))
    assert done.exit_code == 0, (done.output, done.exception)
    return list(yaml.safe_load_all(done.stdout))


async def test_a_staked_account_opens_what_another_sealed_and_one_without_stake_is_told_why_not(
    stage: SecretStage,
) -> None:
    (manifest,) = await sealed(stage, secret("db", {"password": PASSWORD}))
    assert state_of(manifest) is State.SEALED
    await stage.apply(manifest)
    assert PASSWORD not in json.dumps(await stage.stored("default", "db"))

    reader = await stage.account("reader", stake_sui=20)
    opened = await stage.daas("secret", "open", "default/db", "--key", "password", keystore=reader)
    assert (opened.exit_code, opened.stdout_bytes) == (0, PASSWORD.encode()), (opened.output, opened.exception)
    whole = await stage.daas("secret", "open", "default/db", keystore=reader)
    assert yaml.safe_load(whole.stdout)["stringData"] == {"password": PASSWORD}
    directory = stage.directory / "opened"
    assert (await stage.daas("secret", "open", "default/db", "--out", str(directory), keystore=reader)).exit_code == 0
    assert (directory / "password").read_text() == PASSWORD
    assert (directory / "password").stat().st_mode & 0o777 == 0o600
    (directory / "password").unlink()

    stranger = await stage.account("stranger")
    refused = await stage.daas("secret", "open", "default/db", keystore=stranger)
    assert refused.exit_code == 1
    assert refused.exception.reason == "not-enough-stake"
    assert "less bonded stake" in refused.exception.message
    for path, content in bytes_below(stage.directory).items():
        assert PASSWORD.encode() not in content, path


async def test_sealing_is_a_filter_that_leaves_alone_what_is_no_secret_or_sealed_already(stage: SecretStage) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}}
    first = await sealed(stage, secret("a", {"k": "v"}), other)
    assert first[1] == other
    assert await sealed(stage, *first) == first
    listed = {"apiVersion": "v1", "kind": "List", "items": [secret("b", {"k": "v"}), secret("c", {"k": "v"})]}
    assert [state_of(m) for m in await sealed(stage, listed)] == [State.SEALED, State.SEALED]


async def test_sealing_works_offline_with_the_public_parameters(stage: SecretStage, tmp_path: Path) -> None:
    shown = await stage.daas("secret", "policy", "show", "default", "-o", "json")
    parameters = tmp_path / "default.json"
    parameters.write_text(shown.stdout)
    stage.write_context(stage.servers(), ledger_url="http://127.0.0.1:1", kubeconfig=None)
    try:
        done = await stage.daas(
            "secret", "seal", "--parameters", str(parameters), text=yaml.safe_dump(secret("off", {"k": PASSWORD}))
        )
    finally:
        stage.write_context(stage.servers())
    assert done.exit_code == 0, (done.output, done.exception)
    manifest = yaml.safe_load(done.stdout)
    assert SealedSecret.parse("east", manifest).policy == SealParameters.decode(parameters.read_bytes()).policy
    reader = await stage.account("offline-reader", stake_sui=20)
    file = tmp_path / "sealed.yaml"
    file.write_text(done.stdout)
    opened = await stage.daas("secret", "open", "--file", str(file), "--key", "k", keystore=reader)
    assert opened.stdout_bytes == PASSWORD.encode()


async def test_a_policy_with_a_limit_of_three_releases_three_keys_and_no_fourth(stage: SecretStage) -> None:
    made = await stage.daas_json(
        "secret", "policy", "create", "thrice", "--limit", "3", "--stake", "0", keystore=stage.admin
    )
    assert made["usage_limit"] == 3
    (manifest,) = await sealed(stage, secret("counted", {"k": PASSWORD}), policy="thrice")
    await stage.apply(manifest)
    reader = await stage.account("counter")
    for _ in range(3):
        opened = await stage.daas("secret", "open", "default/counted", "--key", "k", keystore=reader)
        assert opened.stdout_bytes == PASSWORD.encode(), (opened.output, opened.exception)
    fourth = await stage.daas("secret", "open", "default/counted", "--key", "k", keystore=reader)
    assert fourth.exception.reason == "limit-reached"
    text = yaml.safe_dump(secret("x", {"k": "v"}))
    shared = await stage.daas("secret", "seal", "--shared", "--policy", "thrice", text=text)
    assert shared.exception.reason == "shared-envelope"


async def test_too_early_too_late_and_the_wrong_node_are_refused_with_the_reason(stage: SecretStage) -> None:
    reader = await stage.account("early-late", stake_sui=20)
    far = 4_000_000_000_000
    assert (await stage.daas("node", "register", "allowed", keystore=stage.admin)).exit_code == 0
    assert (await stage.daas("node", "register", "other", keystore=reader)).exit_code == 0
    for name, rules, as_node, reason in [
        ("early", ("--not-before", str(far)), (), "too-early"),
        ("late", ("--not-after", "1"), (), "too-late"),
        ("nodes", ("--node", "allowed"), (), "node-required"),
        ("nodes2", ("--node", "allowed"), ("--as-node", "other"), "node-not-allowed"),
        ("nodes3", ("--node", "allowed"), ("--as-node", "allowed"), "not-this-node"),
    ]:
        await stage.daas_json("secret", "policy", "create", name, *rules, keystore=stage.admin)
        (manifest,) = await sealed(stage, secret(name, {"k": PASSWORD}), policy=name)
        await stage.apply(manifest)
        refused = await stage.daas("secret", "open", f"default/{name}", *as_node, keystore=reader)
        assert getattr(refused.exception, "reason", None) == reason, (name, refused.output, refused.exception)
    await stage.daas_json("secret", "policy", "set", "nodes2", "--node", "other", "-y", keystore=stage.admin)
    opened = await stage.daas("secret", "open", "default/nodes2", "--as-node", "other", "--key", "k", keystore=reader)
    assert opened.stdout_bytes == PASSWORD.encode()


async def test_rotation_encrypts_everything_again_and_closes_the_old_generation(stage: SecretStage) -> None:
    await stage.daas_json("secret", "policy", "create", "turning", keystore=stage.admin)
    manifests = await sealed(stage, *(secret(f"r{n}", {"k": f"{PASSWORD}{n}"}) for n in range(4)), policy="turning")
    for manifest in manifests:
        await stage.apply(manifest)
    done = await stage.daas_json("secret", "rotate", "turning", "-y", keystore=stage.admin)
    assert (done["encrypted_again"], done["left"], done["generation"]) == (4, 0, 2)
    assert done["old_generations_retired"] is True
    reader = await stage.account("rotated")
    opened = await stage.daas("secret", "open", "default/r2", "--key", "k", keystore=reader)
    assert opened.stdout_bytes == f"{PASSWORD}2".encode()
    rows = await stage.daas_json("secret", "list", "--policy", "turning")
    assert [(row["generation"], row["current"]) for row in rows] == [(2, True)] * 4
    old = stage.directory / "old.yaml"
    old.write_text(yaml.safe_dump(manifests[2]))
    refused = await stage.daas("secret", "open", "-f", str(old), keystore=reader)
    assert refused.exception.reason == "retired-generation"


async def test_a_rotation_that_could_not_finish_goes_on_in_the_same_generation(stage: SecretStage) -> None:
    await stage.daas_json("secret", "policy", "create", "stopped", keystore=stage.admin)
    manifests = await sealed(stage, *(secret(f"s{n}", {"k": "v"}) for n in range(3)), policy="stopped")
    spoilt = manifests[1] | {"data": {"k": manifests[0]["data"]["k"]}}
    for manifest in (manifests[0], spoilt, manifests[2]):
        await stage.apply(manifest)
    first = await stage.daas("secret", "rotate", "stopped", "-y", "-o", "json", keystore=stage.admin)
    assert first.exit_code == 1
    said = json.loads(first.stdout)
    assert (said["failed"], said["left"], said["old_generations_retired"]) == ("default/s1 (value-changed)", 1, False)
    async with await stage.kube() as client:
        await client.request("DELETE", "/api/v1/namespaces/default/secrets/s1")
    await stage.apply(manifests[1])
    second = await stage.daas_json("secret", "rotate", "stopped", "-y", keystore=stage.admin)
    assert (second["continued"], second["generation"], second["encrypted_again"]) == (True, 2, 1)
    assert second["old_generations_retired"] is True


async def test_a_rotation_finds_what_lost_its_label_and_closes_nothing_over_what_it_cannot_open(
    stage: SecretStage,
) -> None:
    await stage.daas_json("secret", "policy", "create", "careful", keystore=stage.admin)
    unlabelled, moved = await sealed(stage, *(secret(f"u{n}", {"k": PASSWORD}) for n in range(2)), policy="careful")
    del unlabelled["metadata"]["labels"]
    moved["metadata"]["name"] = "elsewhere"
    await stage.apply(unlabelled)
    await stage.apply(moved)
    done = await stage.daas("secret", "rotate", "careful", "-y", "-o", "json", keystore=stage.admin)
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert (said["encrypted_again"], said["failed"]) == (1, "default/elsewhere (sealed-elsewhere)")
    assert said["old_generations_retired"] is False
    assert SealedSecret.parse("east", await stage.stored("default", "u0")).generation == 2
    async with await stage.kube() as client:
        await client.request("DELETE", "/api/v1/namespaces/default/secrets/elsewhere")


async def test_only_the_owner_rotates(stage: SecretStage) -> None:
    stranger = await stage.account("no-owner")
    refused = await stage.daas("secret", "rotate", "default", "-y", keystore=stranger)
    assert refused.exit_code == 1
    assert "ENotOwner" in str(refused.exception)
