"""`daas secret rotate`: everything under a policy is encrypted again under a new generation, resumably.

The order makes it resumable without a notebook of its own: the ledger's generation is raised first, then each Secret of
an older one is opened as the policy's owner, sealed again and replaced in the version that was read. What a stopped run
left over is found by its generation; only when nothing is left are the old generations retired.
"""

from typing import Annotated, Any, Final

import typer
from rich.progress import Progress

from daas.cli.context import Context
from daas.cli.ledger import Keystore, Output, Yes, confirm, show, signer_of, with_ledger
from daas.cli.secret_access import (
    Manifest,
    Opener,
    api_server,
    checked_policy,
    get_secret,
    parameters_of,
    policy_id,
    put_secret,
    sealed_manifests,
)
from daas.cli.terminal import errors
from daas.common.errors import Conflict, DaasError, NotFound
from daas.kube.client import KubeClient
from daas.ledger import Ledger
from daas.secrets import SealedSecret, SealParameters, opened_secret, seal_secret
from daas.secrets.manifest import SEAL_POLICY

#: A Secret that somebody writes to all the time is given up after so many tries, and reported.
_TRIES: Final = 5

#: Namespace and name.
Place = tuple[str, str]


def rotate(
    policy: Annotated[str, typer.Argument(help="name of the policy, or its object id")],
    keystore: Keystore = None,
    output: Output = "table",
    *,
    retire: Annotated[bool, typer.Option(help="close the old generations once nothing is left under them")] = True,
    yes: Yes = False,
) -> None:
    """Begins a new generation and encrypts everything under it again; continues a run that was stopped."""
    confirm(f"encrypt everything under policy {policy} again?", yes=yes)
    signer = signer_of(keystore)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        address = await policy_id(context, policy)
        async with api_server(context) as client, Opener(ledger, signer, context) as opener:
            run = Rotation(ledger, context, client, opener, address=address, name=policy)
            return await run.run(retire=retire)

    done = with_ledger(keystore, work)
    show(done, output, title="rotated" if not done["failed"] else "not done")
    if done["failed"]:
        raise typer.Exit(1)


class Rotation:
    """One run.

    Args:
        ledger: with the owner as its signer.
        context: the cluster.
        client: the API server.
        opener: opens as the owner.
        address: the policy.
        name: what the policy is called.
    """

    def __init__(
        self, ledger: Ledger, context: Context, client: KubeClient, opener: Opener, *, address: str, name: str
    ) -> None:
        self._ledger, self._context, self._client, self._opener = ledger, context, client, opener
        self._address, self._name = address, name

    async def run(self, *, retire: bool) -> dict[str, Any]:
        """Everything. What could not be done is in `failed`, with its reason; running again tries it again."""
        policy = await checked_policy(self._ledger, self._context, self._address)
        older, spoilt = await self._older_than(policy.generation)
        resumed = bool(older)
        if not resumed:
            await self._ledger.policies.rotate(self._address)
            policy = await checked_policy(self._ledger, self._context, self._address)
            older, spoilt = await self._older_than(policy.generation)
        waiting = [*older, *spoilt]
        parameters = await parameters_of(self._ledger, self._context, self._name)
        failed: dict[str, str] = {}
        with Progress(console=errors, transient=True) as progress:
            task = progress.add_task(f"generation {policy.generation}", total=len(waiting))
            for namespace, name in waiting:
                try:
                    await self._encrypt_again(namespace, name, parameters)
                except NotFound:
                    pass  # deleted meanwhile
                except DaasError as error:
                    failed[f"{namespace}/{name}"] = error.reason
                progress.advance(task)
        # What was sealed under the old generation while this ran.
        left = [place for places in await self._older_than(policy.generation) for place in places]
        retired = retire and not left
        if retired and policy.oldest_generation != policy.generation:
            await self._ledger.policies.retire_generations(self._address)
        return {
            "policy": self._address,
            "generation": policy.generation,
            "continued": resumed,
            "encrypted_again": len(waiting) - len(failed),
            "left": len(left),
            "failed": ", ".join(f"{where} ({reason})" for where, reason in failed.items()),
            "old_generations_retired": retired,
        }

    async def _older_than(self, generation: int) -> tuple[list[Place], list[Place]]:
        """Secrets of older generations, and those that claim the policy and can't be read.

        The latter were copied from elsewhere, or are spoilt. They are tried and reported: nothing is closed over
        their heads.
        """
        found: list[Place] = []
        spoilt: list[Place] = []
        async for manifest in sealed_manifests(self._client):
            place = (manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            try:
                secret = SealedSecret.parse(self._context.cluster, manifest)
            except DaasError:
                if (manifest["metadata"].get("annotations") or {}).get(SEAL_POLICY) == self._address:
                    spoilt.append(place)
                continue
            if secret.policy == self._address and secret.generation < generation:
                found.append(place)
        return found, spoilt

    async def _encrypt_again(self, namespace: str, name: str, parameters: SealParameters) -> None:
        encryptor = parameters.key_servers.encryptor()
        for attempt in range(_TRIES):
            manifest: Manifest = await get_secret(self._client, namespace, name)
            secret = SealedSecret.parse(self._context.cluster, manifest)
            if secret.policy != self._address or secret.generation >= parameters.generation:
                return
            values = await self._opener.open(secret, owner=True)
            try:
                await put_secret(self._client, seal_secret(opened_secret(manifest, values), parameters, encryptor))
            except Conflict:
                if attempt == _TRIES - 1:
                    raise
            else:
                return
