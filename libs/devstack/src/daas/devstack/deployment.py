"""What a development system needs once on its ledger: a funded key, the Move package, a registry marked simulated."""

from pathlib import Path

import aiohttp
import msgspec

from daas.common.errors import Conflict, Unavailable
from daas.ledger import Ledger, Rules, Signer

#: Enough for years of a development ledger; a transaction costs about 0.002 SUI.
FAUCET_MIST = 1_000 * 10**9
#: What a reader must have at stake under the policy `default`.
READER_STAKE_MIST = 10 * 10**9


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What was made once on the ledger and is found again after a restart. Hex, addresses with `0x`."""

    chain: str
    package: str
    registry: str
    #: The Seal policy `default`, which asks readers for some stake; empty where none has been made.
    seal_policy: str = ""


def operator_key(path: Path) -> Signer:
    """The key that pays and holds the capabilities, made on the first call."""
    return Signer.from_file(path) if path.exists() else Signer.generate(path)


async def deploy(
    path: Path, *, ledger_url: str, faucet: str, signer: Signer, policy: bytes, pcrs: tuple[bytes, bytes, bytes]
) -> Deployment:
    """Publishes the Move package and creates the registry, marked simulated for ever, unless `path` says it is done.

    Args:
        path: where the deployment is written down.
        ledger_url: full node, `sui.rpc.v2`.
        faucet: URL that takes `FixedAmountRequest`.
        signer: pays, and gets the capabilities.
        policy: digest of the placement policy that enclaves must attest, 32 bytes.
        pcrs: PCR0 to PCR2 that enclaves must attest, 48 bytes each.

    Raises:
        Conflict: `other-chain`: the ledger is not the one that `path` is about.
        Unavailable: `faucet`.
    """
    if (deployment := _read(path)) is not None:
        async with await Ledger.connect(ledger_url, signer, package=deployment.package) as ledger:
            chain = (await ledger.chain_digest()).hex()
            if chain != deployment.chain:
                raise Conflict(
                    f"{path} is about chain {deployment.chain}, {ledger_url} is chain {chain}: "
                    "remove the old state first",
                    reason="other-chain",
                )
            return await _with_policy(path, deployment, ledger)
    await fund(faucet, signer.address)
    async with await Ledger.connect(ledger_url, signer) as ledger:
        publication = await ledger.publish()
        registry = await ledger.create_registry(simulated=True, policy=policy, pcrs=pcrs)
        deployment = Deployment(chain=registry.chain.hex(), package=publication.package, registry=registry.address)
        _write(path, deployment)
        return await _with_policy(path, deployment, ledger)


async def _with_policy(path: Path, deployment: Deployment, ledger: Ledger) -> Deployment:
    """Makes the Seal policy `default`, unless there is one."""
    if deployment.seal_policy:
        return deployment
    policy = await ledger.policies.create(deployment.registry, Rules(required_stake_mist=READER_STAKE_MIST))
    complete = msgspec.structs.replace(deployment, seal_policy=policy.address)
    _write(path, complete)
    return complete


def _read(path: Path) -> Deployment | None:
    return msgspec.json.decode(path.read_bytes(), type=Deployment) if path.exists() else None


def _write(path: Path, deployment: Deployment) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(msgspec.json.encode(deployment))
    temporary.replace(path)


async def fund(faucet: str, address: str) -> None:
    """Asks the development ledger's faucet for money.

    Raises:
        Unavailable: `faucet`.
    """
    request = {"FixedAmountRequest": {"recipient": address, "amount": FAUCET_MIST}}
    async with aiohttp.ClientSession() as session, session.post(faucet, json=request) as got:
        if got.status >= 300:
            raise Unavailable(f"the faucet answered {got.status}: {await got.text()}", reason="faucet")
