"""Joining a cluster: stake, registration, the sealed K3s join token, and what a k3s agent is configured with.

The token is never an argument, an output or part of an error: it is read from a file that only its owner can read,
lies in the open only inside this process, and is written to a file of the same kind.
"""

import os
import stat
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import yaml

from daas.cli.context import Context
from daas.common.errors import ConfigurationError, DecodeError, InvalidInput, Refused
from daas.common.messages import ObjectId
from daas.kube.install.pki import write_private
from daas.ledger import Ledger, Node, Signer
from daas.seal import (
    ApproveCall,
    EncryptedObject,
    SealClient,
    SessionKey,
    Shared,
    build_ptb,
    parse_address,
)
from daas.secrets import KeyServers

T = TypeVar("T")

_TOKEN_BYTES_MAX: Final = 4_096
_FILE_BYTES_MAX: Final = 1 << 20
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
#: One request for one key, with time for slow servers.
_SESSION_MIN: Final = 5
#: Of the directory in which the configuration lies; it holds other files of K3s that are no secret.
_DIRECTORY_MODE: Final = 0o755


class SealedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A join token under seal: for everyone to read, and for nodes in service to open. `sealed` is base64 in JSON."""

    registry: ObjectId
    generation: int
    sealed: bytes


def read_key_servers(path: Path) -> KeyServers:
    """The key servers that a JSON file names.

    Raises:
        ConfigurationError: `file-unreadable`, `key-servers`.
    """
    return _read(path, KeyServers, "key-servers")


def read_sealed(path: Path) -> SealedToken:
    """A sealed token from the file that `seal_token` is written to.

    Raises:
        ConfigurationError: `file-unreadable`, `sealed-token`.
    """
    return _read(path, SealedToken, "sealed-token")


def read_token(path: Path) -> bytes:
    """The K3s join token (of `/var/lib/rancher/k3s/server/node-token`, for example).

    Raises:
        ConfigurationError: `token-file`: others may read it, or it holds no token. What it holds is not shown.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"the token file {path}: {error.strerror}", reason="token-file") from None
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & _OTHERS:
            raise ConfigurationError(
                f"the token file {path} has mode {stat.S_IMODE(mode):04o}; it must be 0600", reason="token-file"
            )
        token = file.read(_TOKEN_BYTES_MAX + 1).strip()
    if not _is_token(token):
        raise ConfigurationError(f"the token file {path} does not hold one word of ASCII", reason="token-file")
    return token


async def seal_token(ledger: Ledger, context: Context, servers: KeyServers, token: bytes) -> SealedToken:
    """Seals a join token under the cluster's present generation; needs no key and asks no key server."""
    roster = await ledger.nodes.roster(context.registry)
    package = parse_address(ledger.original_package())
    sealed = SealClient(servers.known()).encrypt(package, roster.join_token_id, token, threshold=servers.threshold)
    return SealedToken(roster.registry, roster.join_generation, sealed)


async def missing_stake(
    ledger: Ledger, context: Context, *, name: str, sealed: SealedToken, servers: KeyServers
) -> int:
    """What the signer must still deposit to stand for a node of this name, MIST.

    It is 0 where another one stands for the node, or where no deposit would help since the node is draining. Stake
    comes back only after its unbonding time: what can be known to be in vain is refused here.

    Raises:
        Refused: `join-token-replaced`.
        ConfigurationError: `key-servers`: those that are known can't open the token.
    """
    content = await _present(ledger, context, sealed)
    known = {parse_address(each.object_id) for each in servers.servers}
    weight = sum(weight for object_id, weight in content.weights.items() if object_id in known)
    if weight < content.threshold:
        raise ConfigurationError(
            f"the key servers that are named have {weight} shares of the token, {content.threshold} open it",
            reason="key-servers",
        )
    node = await ledger.nodes.find(context.registry, name)
    if node is not None and (node.operator != ledger.address or node.draining):
        return 0
    parameters = (await ledger.staking.pool(context.registry)).parameters
    account = await ledger.staking.account(context.registry, ledger.address)
    needed = parameters.node_minimum_mist * (account.nodes + (node is None))
    return max(0, needed - account.bonded_mist)


async def join(
    ledger: Ledger, signer: Signer, context: Context, *, name: str, sealed: SealedToken, servers: KeyServers
) -> tuple[Node, bytes]:
    """Registers the node, unless it is registered already, and opens the join token with its key.

    Raises:
        MoveAbortError: the registration is refused.
        Refused: `join-token-replaced`: sealed for another cluster or generation; NotEnoughKeys: the key servers
            refuse, with the reason that the package gives (`EDraining`, `ENotThisNode`, `ENotEnoughStake`).
    """
    content = await _present(ledger, context, sealed)
    node = await ledger.nodes.find(context.registry, name) or await ledger.nodes.register(context.registry, name)
    places = (*reversed(await ledger.places(context.registry)), node.address)
    shared = tuple([Shared(parse_address(each), await ledger.shared_version(each)) for each in places])
    call = ApproveCall(module="nodes", function="seal_approve_join", inner_id=content.inner_id, arguments=shared)
    session = await SessionKey.create(signer, content.package_id, ttl_min=_SESSION_MIN)
    async with SealClient(servers.known()) as client:
        token = await client.decrypt(content, session, build_ptb(parse_address(ledger.required_package()), [call]))
    if not _is_token(token):
        raise DecodeError("what was sealed is no K3s join token", reason="join-token")
    return node, token


async def _present(ledger: Ledger, context: Context, sealed: SealedToken) -> EncryptedObject:
    """The sealed object, if it is the token of the cluster's present generation."""
    roster = await ledger.nodes.roster(context.registry)
    content = EncryptedObject.decode(sealed.sealed)
    if (content.package_id, content.inner_id) != (parse_address(ledger.original_package()), roster.join_token_id):
        raise Refused(
            f"the sealed token is not the cluster's present one, which has generation {roster.join_generation}",
            reason="join-token-replaced",
        )
    return content


def checked_server(url: str) -> str:
    """The URL of a K3s server, as agents reach it.

    Raises:
        InvalidInput: `server-url`.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.path not in {"", "/"} or parts.query:
        raise InvalidInput(f"expected https://host[:port] of a K3s server, not {url!r}", reason="server-url")
    return url.rstrip("/")


def prepare_directory(directory: Path) -> Path:
    """Makes the directory where there is none, and returns where the k3s agent's configuration goes.

    Raises:
        ConfigurationError: `config-file`: it can't be written to.
    """
    path = directory / "config.yaml"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
    except OSError as error:
        raise ConfigurationError(f"{directory} can't be made: {error.strerror}", reason="config-file") from None
    if not os.access(directory, os.W_OK | os.X_OK) or path.is_dir():
        raise ConfigurationError(f"{path} can't be written", reason="config-file")
    return path


def write_config(path: Path, *, server: str, token: bytes, name: str) -> None:
    """Writes the k3s agent's configuration, readable by its owner alone; whole or not at all.

    Raises:
        ConfigurationError: `config-file`.
    """
    content = yaml.safe_dump({"server": server, "token": token.decode("ascii"), "node-name": name}, sort_keys=False)
    try:
        write_private(path, content.encode())
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}", reason="config-file") from None


def _is_token(token: bytes) -> bool:
    return 0 < len(token) <= _TOKEN_BYTES_MAX and all(0x20 < byte < 0x7F for byte in token)


def _read(path: Path, kind: type[T], reason: str) -> T:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", reason="file-unreadable") from None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}", reason=reason) from None
