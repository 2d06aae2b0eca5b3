"""`daas secret`: seal, open and list Secrets. Policies and rotation are beside it, mounted below the same word."""

import asyncio
import base64
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, show_all, signer_of, with_ledger
from daas.cli.secret_access import (
    Manifest,
    Opener,
    api_server,
    get_secret,
    parameters_of,
    sealed_manifests,
    split_documents,
)
from daas.cli.secret_policy import policy_app
from daas.cli.secret_rotate import rotate
from daas.cli.secret_unseal import unseal
from daas.common.errors import ConfigurationError, DaasError, InvalidInput, NotFound
from daas.ledger import Ledger
from daas.secrets import DataKey, SealedSecret, SealParameters, opened_secret, seal_secret, share_envelope
from daas.secrets.manifest import CLASS, SCOPE, SEAL_POLICY

secret_app = typer.Typer(help="Secrets that only those open whom a policy allows.", no_args_is_help=True)
secret_app.add_typer(policy_app, name="policy")
secret_app.command("rotate")(rotate)
secret_app.command("unseal")(unseal)

_INPUT_BYTES_MAX: Final = 16 * 1024 * 1024

Where = Annotated[str, typer.Argument(help="NAMESPACE/NAME")]


@secret_app.command("seal")
def seal(
    policy: Annotated[
        str | None, typer.Option("--policy", help="name of the policy; else each Secret's label says it")
    ] = None,
    parameters: Annotated[
        Path | None, typer.Option(help="public parameters (of `daas secret policy show -o json`): no network is used")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="YAML or JSON; else standard input")] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="of Secrets that name none")] = "default",
    output: Annotated[str, typer.Option("--output", "-o", help="yaml or json")] = "yaml",
    *,
    shared: Annotated[
        bool, typer.Option("--shared", help="one envelope per namespace: whoever may open one holds the key of all")
    ] = False,
) -> None:
    """Seals Secrets: YAML in, YAML out. What is no Secret passes through; what is sealed already stays as it is."""
    manifests = split_documents(yaml.safe_load_all(_input(file)))
    offline = SealParameters.decode(parameters.read_bytes()) if parameters is not None else None
    if offline is not None and policy not in {None, offline.policy_name}:
        raise InvalidInput(f"the parameters are of policy {offline.policy_name}", reason="other-policy", field="policy")
    sealer = _Sealer(offline, shared=shared)
    sealed = []
    for manifest in manifests:
        if manifest["kind"] != "Secret":
            sealed.append(manifest)
            continue
        metadata = {"namespace": namespace, **(manifest.get("metadata") or {})}
        labels = metadata.get("labels") or {}
        name = policy or (offline.policy_name if offline else labels.get(SEAL_POLICY))
        if not name:
            raise InvalidInput(
                f"Secret {metadata.get('name')} has no label {SEAL_POLICY}: name a policy with --policy",
                reason="no-policy",
                field="policy",
            )
        sealed.append(sealer.seal({**manifest, "metadata": metadata}, str(name)))
    _print_manifests(sealed, output)


class _Sealer:
    """Seals with parameters that are asked for once for each policy."""

    def __init__(self, offline: SealParameters | None, *, shared: bool) -> None:
        self._known: dict[str, SealParameters] = {offline.policy_name: offline} if offline else {}
        self._offline, self._shared = offline is not None, shared
        self._envelopes: dict[tuple[str, str], DataKey] = {}

    def seal(self, manifest: Manifest, policy: str) -> Manifest:
        if policy not in self._known:
            if self._offline:
                raise InvalidInput(f"the parameters are not of policy {policy}", reason="other-policy", field="policy")

            async def look(ledger: Ledger, context: Context) -> SealParameters:
                return await parameters_of(ledger, context, policy)

            self._known[policy] = with_ledger(None, look, signing=False)
        parameters = self._known[policy]
        encryptor = parameters.key_servers.encryptor()
        shared = None
        if self._shared:
            where = (policy, str(manifest["metadata"]["namespace"]))
            if where not in self._envelopes:
                self._envelopes[where] = share_envelope(parameters, encryptor, where[1])
            shared = self._envelopes[where]
        return seal_secret(manifest, parameters, encryptor, shared=shared)


@secret_app.command("open")
def open_(
    where: Annotated[str | None, typer.Argument(help="NAMESPACE/NAME of a Secret in the cluster")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="a sealed manifest instead; - for stdin")] = None,
    *,
    key: Annotated[str | None, typer.Option("--key", help="print this value alone, as it is")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="directory: one file (0600) for each value")] = None,
    node: Annotated[str | None, typer.Option("--as-node", help="read as this node; the key is the node's")] = None,
    keystore: Keystore = None,
    output: Annotated[str, typer.Option("--output", "-o", help="yaml or json")] = "yaml",
) -> None:
    """Opens a sealed Secret as the signer, who must have what its policy asks for; else says why not."""
    if (where is None) == (file is None):
        raise InvalidInput("name either a Secret or a file", reason="usage")
    signer = signer_of(keystore)

    async def work(ledger: Ledger, context: Context) -> tuple[Manifest, dict[str, bytes]]:
        manifest = await _manifest(context, where, file)
        secret = SealedSecret.parse(context.cluster, manifest)
        async with Opener(ledger, signer, context, node=node) as opener:
            return manifest, await opener.open(secret)

    manifest, values = with_ledger(keystore, work)
    if key is not None:
        if key not in values:
            raise NotFound(f"the Secret has no key {key}", reason="no-key-in-secret", field="key")
        sys.stdout.buffer.write(values[key])
        sys.stdout.buffer.flush()
    elif out is not None:
        _write_files(out, values)
    else:
        _print_manifests([_for_people(opened_secret(manifest, values))], output)


@secret_app.command("list")
def list_(
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="only this one")] = None,
    policy: Annotated[str | None, typer.Option(help="only under this policy")] = None,
    output: Output = "table",
) -> None:
    """Lists sealed Secrets: where, what kind, under which policy and generation, and whether it is the current one."""

    async def work(ledger: Ledger, context: Context) -> list[dict[str, Any]]:
        current: dict[str, int | None] = {}
        async with api_server(context) as client:
            found = sealed_manifests(client, namespace=namespace, policy_name=policy)
            return [await _row(ledger, context, manifest, current) async for manifest in found]

    show_all(list(with_ledger(None, work, signing=False)), output, title="sealed Secrets")


async def _row(ledger: Ledger, context: Context, manifest: Manifest, current: dict[str, int | None]) -> dict[str, Any]:
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations") or {}
    row: dict[str, Any] = {"namespace": metadata["namespace"], "name": metadata["name"]}
    row |= {"class": annotations.get(CLASS, ""), "policy": (metadata.get("labels") or {}).get(SEAL_POLICY, "")}
    try:
        secret = SealedSecret.parse(context.cluster, manifest)
    except DaasError as error:
        return row | {
            "generation": None,
            "current": False,
            "envelope": annotations.get(SCOPE, ""),
            "problem": error.reason,
        }
    if secret.policy not in current:
        try:
            current[secret.policy] = (await ledger.policies.policy(secret.policy)).generation
        except NotFound:
            current[secret.policy] = None
    newest = current[secret.policy]
    return row | {
        "generation": secret.generation,
        "current": newest == secret.generation,
        "envelope": secret.envelope.id.scope.name.lower(),
        "problem": "" if newest is not None else "no-such-policy",
    }


async def _manifest(context: Context, where: str | None, file: Path | None) -> Manifest:
    if where is None:
        text = await asyncio.to_thread(_input, None if file == Path("-") else file)
        manifests = split_documents(yaml.safe_load_all(text))
        if len(manifests) != 1:
            raise InvalidInput(f"expected one manifest, not {len(manifests)}", reason="not-a-manifest")
        return manifests[0]
    namespace, slash, name = where.partition("/")
    if not slash or not namespace or not name:
        raise InvalidInput(f"expected NAMESPACE/NAME, not {where}", reason="usage", field="where")
    async with api_server(context) as client:
        return await get_secret(client, namespace, name)


def _for_people(manifest: Manifest) -> Manifest:
    """Values that are text are shown as text, and what only the API server sets is left out."""
    kept = {k: v for k, v in manifest["metadata"].items() if k in {"name", "namespace", "labels", "annotations"}}
    data, texts = {}, {}
    for name, value in manifest["data"].items():
        raw = base64.b64decode(value)
        try:
            texts[name] = raw.decode()
        except UnicodeDecodeError:
            data[name] = value
    shown = {"apiVersion": "v1", "kind": "Secret", "metadata": kept, "type": manifest.get("type", "Opaque")}
    return shown | ({"data": data} if data else {}) | ({"stringData": texts} if texts else {})


def _write_files(directory: Path, values: dict[str, bytes]) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, value in values.items():
            descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(value)
    except OSError as error:
        raise ConfigurationError(f"{directory} can't be written: {error.strerror}", reason="out-directory") from None


def _input(file: Path | None) -> str:
    try:
        if file is None:
            text = sys.stdin.buffer.read(_INPUT_BYTES_MAX + 1)
        else:
            with file.open("rb") as stream:
                text = stream.read(_INPUT_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{file} can't be read: {error.strerror}", reason="file-unreadable") from None
    if len(text) > _INPUT_BYTES_MAX:
        raise InvalidInput(f"at most {_INPUT_BYTES_MAX} bytes are read", reason="oversize")
    return text.decode()


def _print_manifests(manifests: list[Manifest], output: str) -> None:
    if output == "json":
        value: Any = manifests[0] if len(manifests) == 1 else {"apiVersion": "v1", "kind": "List", "items": manifests}
        sys.stdout.write(json.dumps(value, indent=2) + "\n")
    else:
        yaml.safe_dump_all(manifests, sys.stdout, sort_keys=False, explicit_start=len(manifests) > 1)
