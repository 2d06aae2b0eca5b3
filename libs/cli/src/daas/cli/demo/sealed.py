"""The demo's second act: a Secret is sealed, its stored bytes are shown, one node opens it and another may not."""

import asyncio
import base64
import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import yaml

from daas.cli.demo.manifests import NAMESPACE
from daas.cli.terminal import console
from daas.common.errors import Unavailable
from daas.kube.client import KubeClient
from daas.ledger import Ledger, Signer

if TYPE_CHECKING:
    from daas.devstack.stack import Stack

_NAME: Final = "database"
_KEY: Final = "password"
_STAKED, _UNSTAKED = "edge-1", "edge-2"
_FUNDS_MIST: Final = 50 * 10**9
_STAKE_MIST: Final = 20 * 10**9
_COMMAND_TIMEOUT_S: Final = 60.0
#: Characters of stored values that are shown.
_SHOWN: Final = 72


async def second_act(stack: "Stack") -> bool:
    """All of it; whether everything happened as it should."""
    password = secrets.token_urlsafe(18)
    staked, unstaked = await asyncio.gather(_node(stack, _STAKED, _STAKE_MIST), _node(stack, _UNSTAKED, 0))
    sealed = await _sealed(stack, password)
    stored = await _stored(stack)
    good = sealed and _show_stored(stored, password)
    good = await _search(stack.state_dir, password) and good
    good = await _opens(stack, staked, password) and good
    return await _refused(stack, unstaked) and good


async def _node(stack: "Stack", name: str, stake_mist: int) -> Path:
    """A machine with a key of its own that is registered as a node, on some stake or on none."""
    context = stack.context()
    path = stack.state_dir / f"{name}.key"
    signer = Signer.generate(path)
    request = {"FixedAmountRequest": {"recipient": signer.address, "amount": _FUNDS_MIST}}
    async with aiohttp.ClientSession() as session, session.post(stack.ready("ledger", "faucet"), json=request) as got:
        if got.status >= 300:
            raise Unavailable(f"the faucet answered {got.status}", reason="faucet")
    async with await Ledger.connect(context["ledger_url"], signer, package=context["package"]) as ledger:
        if stake_mist:
            await ledger.staking.deposit(context["registry"], stake_mist)
        await ledger.nodes.register(context["registry"], name)
    return path


async def _sealed(stack: "Stack", password: str) -> bool:
    """`kubectl create secret | daas secret seal | kubectl apply`, as a person types it."""
    kubectl = shutil.which("kubectl")
    kubeconfig = str(stack.context()["kubeconfig"])
    create = (
        f"kubectl create secret generic {_NAME} -n {NAMESPACE} --from-file={_KEY}=/dev/stdin --dry-run=client -o yaml"
    )
    seal = ("secret", "seal", "--policy", "default")
    if kubectl is None:
        text = yaml.safe_dump(_manifest(password)).encode()
    else:
        _, text = await _run([kubectl, *create.split()[1:]], {"KUBECONFIG": kubeconfig}, password.encode())
    _say(f"{create} | daas {' '.join(seal)} | kubectl apply -f -")
    code, sealed = await _daas(stack, seal, text=text)
    if code:
        return False
    if kubectl is None:
        async with await KubeClient.connect(Path(kubeconfig)) as client:
            manifest = yaml.safe_load(sealed)
            await client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body=manifest)
        return True
    apply = [kubectl, "apply", "--validate=false", "-f", "-"]
    code, said = await _run(apply, {"KUBECONFIG": kubeconfig}, sealed)
    console.print(f"  {said.decode().strip()}", highlight=False)
    return code == 0


def _manifest(password: str) -> dict[str, object]:
    metadata = {"name": _NAME, "namespace": NAMESPACE}
    data = {_KEY: base64.b64encode(password.encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


async def _stored(stack: "Stack") -> dict[str, dict[str, dict[str, str]]]:
    async with await KubeClient.connect(Path(str(stack.context()["kubeconfig"]))) as client:
        found: dict[str, dict[str, dict[str, str]]] = json.loads(
            await client.request("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{_NAME}")
        )
        return found


def _show_stored(stored: dict[str, dict[str, dict[str, str]]], password: str) -> bool:
    value = str(stored["data"][_KEY])
    _say(f"kubectl get secret {_NAME} -n {NAMESPACE} -o jsonpath='{{.data.{_KEY}}}'")
    console.print(f"  {value[:_SHOWN]}…", highlight=False, style="dim")
    return password.encode() not in base64.b64decode(value)


async def _search(directory: Path, password: str) -> bool:
    """Looks for the password in every file of every part."""
    needles = (password.encode(), base64.b64encode(password.encode()))

    def look() -> tuple[int, int]:
        contents = [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
        return len(contents), sum(any(needle in content for needle in needles) for content in contents)

    files, hits = await asyncio.to_thread(look)
    mark = "[green]✓[/]" if hits == 0 else "[red]✗[/]"
    console.print(f"  {mark} the password is in {hits} of the {files} files that all the parts have written")
    return hits == 0


async def _opens(stack: "Stack", keystore: Path, password: str) -> bool:
    arguments = ("secret", "open", f"{NAMESPACE}/{_NAME}", "--as-node", _STAKED, "--key", _KEY)
    _say(f"daas {' '.join(arguments)}")
    code, said = await _daas(stack, arguments, keystore=keystore)
    if code == 0 and said == password.encode():
        console.print(f"  [green]✓[/] {_STAKED}, with 20 SUI at stake, reads the password: {said[:4].decode()}…")
        return True
    console.print(f"  [red]✗[/] {_STAKED} could not open the Secret")
    return False


async def _refused(stack: "Stack", keystore: Path) -> bool:
    arguments = ("secret", "open", f"{NAMESPACE}/{_NAME}", "--as-node", _UNSTAKED, "--key", _KEY)
    _say(f"daas {' '.join(arguments)}")
    code, _ = await _daas(stack, arguments, keystore=keystore)
    if code == 1:
        console.print(f"  [green]✓[/] {_UNSTAKED}, with nothing at stake, is refused by the key servers")
        return True
    console.print(f"  [red]✗[/] {_UNSTAKED} was not refused")
    return False


def _say(command: str) -> None:
    console.print(f"\n  [bold]$ {command}[/]", highlight=False, soft_wrap=True)


async def _daas(
    stack: "Stack", arguments: tuple[str, ...], *, keystore: Path | None = None, text: bytes = b""
) -> tuple[int, bytes]:
    environment = {"DAAS_CONTEXT": str(stack.context_path), "COLUMNS": str(console.width)}
    if keystore is not None:
        environment["DAAS_KEYSTORE"] = str(keystore)
    return await _run([sys.executable, "-m", "daas.cli", *arguments], environment, text)


async def _run(argv: list[str], environment: dict[str, str], text: bytes) -> tuple[int, bytes]:
    """Exit code and standard output; errors go to where ours go.

    Raises:
        Unavailable: `command-timeout`.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_COMMAND_TIMEOUT_S):
            said, _ = await process.communicate(text)
    except TimeoutError:
        process.kill()
        raise Unavailable(f"{argv[0]} took longer than {_COMMAND_TIMEOUT_S:.0f} s", reason="command-timeout") from None
    return process.returncode or 0, said
