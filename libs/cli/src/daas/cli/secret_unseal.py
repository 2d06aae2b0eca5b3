"""`daas secret unseal`: what the injected init container runs. Mounted sealed Secrets in, opened files in memory out.

What it is to do stands in two variables that admission sets: DAAS_UNSEAL_PLAN, a JSON list of steps, and
DAAS_UNSEAL_NAMESPACE. It reads as the node's account. All Secrets are opened before the first file is written; where
one does not open, nothing is written, and the last line on stderr is the reason that `kubectl describe pod` shows.
"""

import contextlib
import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from daas.cli.context import Context
from daas.cli.ledger import Keystore, signer_of, with_ledger
from daas.cli.secret_access import Opener
from daas.common.errors import ConfigurationError, InvalidInput, NotFound
from daas.ledger import Ledger
from daas.secrets import Place, SealedSecret
from daas.secrets.classes import DATA_BYTES_MAX
from daas.secrets.mounted import mounted_secret

#: A Secret's values, their overhead and its envelope.
_DIRECTORY_BYTES_MAX: Final = 2 * DATA_BYTES_MAX
_PLAN_CHARACTERS_MAX: Final = 1024 * 1024

Mode = Annotated[int, msgspec.Meta(ge=0, le=0o777)]


class Item(msgspec.Struct, frozen=True):
    """A Kubernetes KeyToPath: which key becomes which file."""

    key: str
    path: str
    mode: Mode | None = None


class Step(msgspec.Struct, frozen=True):
    """One Secret.

    Attributes:
        secret: its name.
        source: directory in which it is mounted, every key a file.
        target: directory for the opened values.
        mode: of the files.
        items: which keys become which files; all, by their names, where empty.
        optional: whether it may be missing.
    """

    secret: str
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    mode: Mode = 0o644
    items: tuple[Item, ...] = ()
    optional: bool = False

    def files(self, values: dict[str, bytes]) -> dict[Path, tuple[bytes, int]]:
        """What is to be written: content and mode, by path.

        Raises:
            NotFound: `no-key-in-secret`. InvalidInput: `item-path`: it leads out of the directory.
        """
        target = Path(self.target)
        if not self.items:
            return {target / name: (value, self.mode) for name, value in values.items()}
        found: dict[Path, tuple[bytes, int]] = {}
        for item in self.items:
            if item.key not in values:
                raise NotFound(f"Secret {self.secret} has no key {item.key}", reason="no-key-in-secret", field="items")
            path = Path(item.path)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise InvalidInput(f"{item.path} leads out of the volume", reason="item-path", field="items")
            found[target / path] = (values[item.key], self.mode if item.mode is None else item.mode)
        return found


def unseal(
    plan: Annotated[str, typer.Option(envvar="DAAS_UNSEAL_PLAN", help="JSON list of steps")],
    namespace: Annotated[str, typer.Option(envvar="DAAS_UNSEAL_NAMESPACE", help="of the pod and its Secrets")],
    node: Annotated[
        str | None,
        typer.Option(envvar="DAAS_UNSEAL_NODE", help="name of the node that this runs on"),
    ] = None,
    keystore: Keystore = None,
) -> None:
    """Opens a pod's mounted Secrets as its node. For the init container that admission adds to pods."""
    steps = decode_plan(plan)
    signer = signer_of(keystore)

    async def work(ledger: Ledger, context: Context) -> dict[Path, tuple[bytes, int]]:
        found = [(step, _mounted(step, context.cluster, namespace)) for step in steps]
        written: dict[Path, tuple[bytes, int]] = {}
        async with Opener(ledger, signer, context, node=node) as opener:
            for step, secret in found:
                if secret is not None:
                    written |= step.files(await opener.open(secret))
        return written

    for path, (value, mode) in with_ledger(keystore, work).items():
        _write(path, value, mode)


def decode_plan(text: str) -> list[Step]:
    """The steps.

    Raises:
        InvalidInput: `unseal-plan`.
    """
    if len(text) > _PLAN_CHARACTERS_MAX:
        raise InvalidInput("the plan is too long", reason="unseal-plan", field="plan")
    try:
        return msgspec.json.decode(text, type=list[Step])
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"the plan is no list of steps: {error}", reason="unseal-plan", field="plan") from None


def _mounted(step: Step, cluster: str, namespace: str) -> SealedSecret | None:
    try:
        # The kubelet's own links (..data, ..2026_11_22) start with two dots, which no key does.
        entries = [entry for entry in Path(step.source).iterdir() if not entry.name.startswith("..")]
        if sum(entry.stat().st_size for entry in entries) > _DIRECTORY_BYTES_MAX:
            raise InvalidInput(f"{step.source} holds more than a Secret can", reason="oversize", field="plan")
        files = {entry.name: entry.read_bytes() for entry in entries}
    except OSError as error:
        raise ConfigurationError(f"{step.source} can't be read: {error.strerror}", reason="mounted-secret") from None
    if not files and step.optional:
        return None
    return mounted_secret(Place(cluster, namespace, step.secret), files)


def _write(path: Path, value: bytes, mode: int) -> None:
    """A file that is there whole or not at all."""
    passing = path.with_name(f"..{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            passing.unlink()
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
            os.fchmod(file.fileno(), mode)
        passing.rename(path)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be written: {error.strerror}", reason="opened-secret") from None
