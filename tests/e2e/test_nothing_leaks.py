"""A whole system with Secrets in it: every byte to and from NATS, every file of its state and every log is searched."""

import asyncio
import base64
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from support.links import Proxy

from daas.devstack.apiserver.export import export
from daas.devstack.stack import Stack
from daas.kms import envelope
from daas.kms.restore import read_copy, sealed_seeds, with_master_keys
from daas.kms.stored import StoredObject
from daas.ledger.signer import Signer
from daas.placement import Policy
from daas.seal import MasterKey

pytestmark = [
    pytest.mark.connected,
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]

AT_REST, SEALED = "at-rest-2f9c51e7d0", "sealed-b8416e03fa"


class Recorder(Proxy):
    """Stands between NATS and everybody else, and keeps what goes through."""

    def __init__(self) -> None:
        super().__init__([])
        self.recorded = bytearray()
        self.upstream: Callable[[], str] = str

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def where(self) -> list[tuple[str, int]]:
        host, _, port = self.upstream().removeprefix("nats://").partition(":")
        return [(host, int(port))]

    def passed(self, data: bytes) -> None:
        self.recorded += data


def shapes(content: bytes) -> set[bytes]:
    """As it is, in hexadecimal, and in base64 wherever it may begin in what is encoded."""
    found = {content, content.hex().encode(), content.hex().upper().encode()}
    for before in range(3):
        whole = base64.b64encode(bytes(before) + content)
        # The first and last groups depend on the neighbours.
        found.add(whole[4 if before else 0 : len(whole) // 4 * 4 - 4])
    return found


@pytest.mark.parametrize("before", range(4))
def test_a_content_is_found_whatever_stands_around_it(before: int) -> None:
    content = os.urandom(32)
    around = os.urandom(before) + content + b"tail"
    for text in (around, base64.b64encode(around), around.hex().encode()):
        assert any(shape in text for shape in shapes(content))
    assert not any(shape in base64.b64encode(os.urandom(100)) for shape in shapes(content))


async def command(environment: dict[str, str], *arguments: str, text: str = "") -> str:
    child = await asyncio.create_subprocess_exec(
        *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment,
    )  # fmt: skip
    out, errors = await child.communicate(text.encode())
    assert child.returncode == 0, (out + errors).decode()
    return out.decode()


async def use_secrets(stack: Stack, bus_url: str) -> None:
    """One Secret as kubectl makes it, one sealed by `daas secret`, and both read again."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(stack.ready("apiserver", "kubeconfig")),
        "DAAS_CONTEXT": str(stack.context_path),
        "DAAS_CONTEXT_NATS_URL": bus_url,
    }
    daas = (sys.executable, "-m", "daas.cli", "secret")
    await command(environment, "kubectl", "create", "secret", "generic", "db", f"--from-literal=password={AT_REST}")
    shown = await command(environment, "kubectl", "get", "secret", "db", "-o", "jsonpath={.data.password}")
    assert base64.b64decode(shown).decode() == AT_REST
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "token", "namespace": "default"},
        "stringData": {"password": SEALED},
    }
    sealed = await command(environment, *daas, "seal", "--policy", "default", text=yaml.safe_dump(manifest))
    await command(environment, "kubectl", "apply", "--validate=false", "-f", "-", text=sealed)
    # The account of the KMS plugin has the stake that the policy `default` asks for.
    account = str(stack.state_dir / "kms" / "account.key")
    opened = await command(environment, *daas, "open", "default/token", "--key", "password", "--keystore", account)
    assert opened == SEALED


async def keys(stack: Stack) -> dict[str, bytes]:
    """Every key that protects a Secret here, by what it is."""
    found: dict[str, bytes] = {}
    masters: dict[bytes, MasterKey] = {}
    for path in sorted((stack.state_dir / "key-servers").glob("*.json")):
        kept = json.loads(path.read_text())
        found[f"master key {path.name}"] = bytes.fromhex(kept["master_key"])
        masters[bytes.fromhex(kept["object_id"][2:])] = MasterKey.from_bytes(bytes.fromhex(kept["master_key"]))
    items = read_copy(export(stack.state_dir / "apiserver", "secrets"))
    for key_id, sealed in sealed_seeds(items).items():
        found[f"seed {key_id}"] = await with_master_keys(masters)(sealed)
    for item in items:
        stored = StoredObject.decode(item.value)
        found[f"data key of {item.key}"] = envelope.unwrap(
            found[f"seed {stored.key_id}"], stored.key_id, stored.dek_source
        )
    account = base64.b64decode((stack.state_dir / "kms" / "account.key").read_bytes())
    assert Signer(account[-32:])
    found["account of the KMS plugin"] = account[-32:]
    return found


async def test_no_plaintext_and_no_key_crosses_the_bus_or_lies_in_a_file_or_log(tmp_path: Path) -> None:
    recorder = Recorder()
    await recorder.start()
    state = tmp_path / "state"
    stack = Stack(state, policy=Policy().digest(), environment={"DAAS_NATS_URL": recorder.url})
    recorder.upstream = lambda: stack.nats.url
    async with stack:
        await use_secrets(stack, recorder.url)
        secrets = await keys(stack)
    await recorder.stop()
    assert sum(name.startswith("data key") for name in secrets) == 2
    assert len([name for name in secrets if name.startswith("seed")]) == 1

    places = {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file()}
    assert any(place.endswith("kms.log") for place in places)
    assert any(place.startswith("nats/") for place in places)
    places["NATS"] = bytes(recorder.recorded)
    assert b"daas.v1.dev." in places["NATS"]
    #: Where a key may lie: in its owner's own file.
    allowed = {"kms/account.key", *(place for place in places if place.startswith("key-servers/"))}
    searched = {f"plaintext {text}": text.encode() for text in (AT_REST, SEALED)} | secrets
    for what, content in searched.items():
        for shape in shapes(content):
            holders = {place for place, data in places.items() if shape in data}
            assert not holders - (set() if what.startswith("plaintext") else allowed), what
