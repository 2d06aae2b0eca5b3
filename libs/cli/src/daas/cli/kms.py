"""`daas kms`: the seeds of the KMS plugin, its state, and Secrets from a copy of etcd when everything else is gone."""

import asyncio
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from daas.cli.context import Context, load_context
from daas.cli.ledger import Keystore, Output, Yes, confirm, show, show_all, signer_of, with_ledger
from daas.cli.terminal import errors
from daas.common.errors import ConfigurationError, DaasError, InvalidInput
from daas.common.messages import ObjectId
from daas.kms import keyring as keyrings
from daas.kms import restore as restoring
from daas.kms import servers as key_servers
from daas.kms.keyring import Keyring
from daas.kms.rpc import KmsClient
from daas.kms.sealing import add_generation, open_sealed
from daas.kube.install.pki import write_private
from daas.ledger import Ledger
from daas.seal import EncryptedObject, MasterKey, SealClient, parse_address

kms_app = typer.Typer(help="Secrets at rest: sealed seeds of the KMS plugin, and their restore.", no_args_is_help=True)

KeyringFile = Annotated[Path, typer.Argument(help="the plugin's keyring (DAAS_KMS_KEYRING)")]
KeyServersFile = Annotated[Path, typer.Option("--key-servers", help="JSON: threshold and the pinned key servers")]
PolicyId = Annotated[str, typer.Option("--policy", help="object id of the cluster's Seal policy")]

_FILE_BYTES_MAX = 512 * 1024 * 1024


class _MasterKeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    object_id: ObjectId
    master_key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]

    def __repr__(self) -> str:
        return f"_MasterKeyFile({self.object_id})"


@kms_app.command("init")
def init(
    keyring: KeyringFile,
    *,
    servers: KeyServersFile,
    policy: PolicyId,
    node: Annotated[str | None, typer.Option(help="object id of the Node that the plugin's account is")] = None,
    output: Output = "table",
) -> None:
    """Makes a keyring with its first seed, sealed under a policy. Copy it to every server of the cluster."""
    if keyring.exists():
        raise InvalidInput(f"{keyring} is there already: see `daas kms rotate`", reason="kms-keyring")

    async def work(ledger: Ledger, context: Context) -> Keyring:
        rules = await ledger.policies.policy(policy)
        pool, _ = await ledger.places(context.registry)
        package = ledger.required_package()
        empty = Keyring(cluster=context.cluster, package=package, policy=rules.address, pool=pool, node=node)
        return add_generation(empty, key_servers.load(servers), rules.namespace)

    made = with_ledger(None, work, signing=False)
    keyrings.save(keyring, made)
    show_all(_rows(made), output, title=str(keyring))


@kms_app.command("rotate")
def rotate(keyring: KeyringFile, *, servers: KeyServersFile, output: Output = "table") -> None:
    """Adds a fresh seed, which plugins take up by themselves; older ones still open. See docs/restore.md."""
    before = keyrings.load(keyring)

    async def work(ledger: Ledger, _context: Context) -> Keyring:
        rules = await ledger.policies.policy(before.policy)
        return add_generation(before, key_servers.load(servers), rules.namespace)

    after = with_ledger(None, work, signing=False)
    keyrings.save(keyring, after)
    show_all(_rows(after), output, title=str(keyring))


@kms_app.command("drop")
def drop(
    keyring: KeyringFile, number: Annotated[int, typer.Argument(help="of the generation")], *, yes: Yes = False
) -> None:
    """Takes an old seed out. What is still stored under it is lost: rewrite all Secrets first."""
    after = keyrings.drop(keyrings.load(keyring), number)
    confirm(f"drop generation {number}? Secrets that are still stored under it can't be read any more", yes=yes)
    keyrings.save(keyring, after)


@kms_app.command("status")
def status(
    endpoint: Annotated[str, typer.Argument(help="unix:///path of the plugin's socket")],
    output: Output = "table",
) -> None:
    """Asks a plugin how it is, as an API server does; exit code 1 where it refuses, with its reason."""

    async def ask() -> dict[str, Any]:
        async with KmsClient(endpoint) as client:
            started = time.perf_counter()
            answer = await client.status()
            took_ms = round((time.perf_counter() - started) * 1000, 1)
        return {"version": answer.version, "healthz": answer.healthz, "key_id": answer.key_id, "took_ms": took_ms}

    show(asyncio.run(ask()), output, title="KMS plugin")


@kms_app.command("restore")
def restore(
    copy: Annotated[Path, typer.Argument(help="what `etcdctl get --prefix /registry/secrets -w json` printed")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="file for the manifests, mode 0600; - for the screen")],
    master_key: Annotated[
        list[Path] | None, typer.Option(help="key file of a key server (JSON: object_id, master_key); repeat")
    ] = None,
    servers: Annotated[Path | None, typer.Option("--key-servers", help="or: key servers that still serve")] = None,
    keystore: Keystore = None,
    keyring: Annotated[Path | None, typer.Option(help="kept copy of the keyring: only its seeds count")] = None,
) -> None:
    """Break glass: Secrets in clear from a copy of etcd, without API server and plugin. See docs/restore.md."""
    if copy.stat().st_size > _FILE_BYTES_MAX:
        raise InvalidInput(f"{copy} has more than {_FILE_BYTES_MAX} bytes: restore it in parts", reason="kms-copy")
    items = restoring.read_copy(copy.read_bytes())
    if bool(master_key) == bool(servers):
        raise InvalidInput("either --master-key files or --key-servers", reason="kms-restore")
    known = {one.key_id for one in keyrings.load(keyring).generations} if keyring else None
    if known is None:
        errors.print(
            "without --keyring, seeds are believed that travel with the copy: it must be one nobody has changed"
        )
    if master_key:
        opening = restoring.with_master_keys(dict(_master_key(path) for path in master_key))
        found = asyncio.run(restoring.restore(items, opening, known))
    else:
        assert servers is not None
        found = asyncio.run(_with_servers(items, servers, keystore, known))
    manifests = [one.manifest for one in found if one.manifest is not None]
    listed = msgspec.json.format(msgspec.json.encode({"apiVersion": "v1", "kind": "List", "items": manifests}))
    if str(out) == "-":
        sys.stdout.buffer.write(listed + b"\n")
    else:
        write_private(out, listed + b"\n")
    problems = [one for one in found if one.problem]
    for one in problems:
        errors.print(f"{one.key}: {one.problem}", highlight=False)
    errors.print(f"{len(manifests)} Secrets restored, {len(problems)} not", highlight=False)
    if problems:
        raise typer.Exit(1)


async def _with_servers(
    items: list[restoring.Item], servers: Path, keystore: Path | None, known: set[str] | None
) -> list[restoring.Restored]:
    context, signer = load_context(), signer_of(keystore)
    if context.ledger_url is None:
        raise ConfigurationError("the context names no ledger", reason="no-ledger", field="ledger_url")
    async with await Ledger.connect(context.ledger_url, package=context.package) as ledger:
        pool, _ = await ledger.places(context.registry)
    async with SealClient(key_servers.load(servers).known()) as client:

        async def opening(sealed: EncryptedObject) -> bytes:
            policy = "0x" + sealed.inner_id[:32].hex()
            package = "0x" + sealed.package_id.hex()
            ring = Keyring(cluster=context.cluster, package=package, policy=policy, pool=pool)
            return await open_sealed(client, signer, ring, sealed)

        return await restoring.restore(items, opening, known)


def _master_key(path: Path) -> tuple[bytes, MasterKey]:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_MasterKeyFile)
        return parse_address(found.object_id), MasterKey.from_bytes(bytes.fromhex(found.master_key))
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", reason="key-file") from None
    except (msgspec.DecodeError, UnicodeDecodeError, DaasError):
        # Nothing of the content is repeated: it may be a key.
        raise ConfigurationError(f"{path} is no key file of a key server", reason="key-file") from None


def _rows(ring: Keyring) -> list[Mapping[str, Any]]:
    return [
        {
            "generation": one.number,
            "key_id": one.key_id,
            "made": datetime.fromtimestamp(one.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
            "servers": len(EncryptedObject.decode(one.sealed_bytes).services),
            "threshold": EncryptedObject.decode(one.sealed_bytes).threshold,
            "current": one is ring.current,
        }
        for one in ring.generations
    ]
