"""`daas enclave`: which images may sign, and which enclaves do."""

import asyncio
import contextlib
from typing import Annotated, Any

import typer

from daas.cli.context import Context, load_context
from daas.cli.ledger import Keystore, Output, Yes, confirm, show, show_all, with_ledger
from daas.common import subjects
from daas.common.bus import Bus, BusSettings
from daas.common.errors import InvalidInput, Refused
from daas.common.facts import fact_of
from daas.common.messages import EnclaveRegistered
from daas.common.subjects import Service, Stream
from daas.ledger import Ledger

enclave_app = typer.Typer(help="Enclaves and their images.", no_args_is_help=True)


@enclave_app.command("allow")
def allow(
    pcr0: Annotated[str, typer.Option(help="96 hex digits")],
    pcr1: Annotated[str, typer.Option()],
    pcr2: Annotated[str, typer.Option()],
    keystore: Keystore = None,
    output: Output = "table",
) -> None:
    """Allows one more enclave image; needs the AdminCap (after the hand-over: `daas govern propose measurement`)."""
    try:
        pcrs = (bytes.fromhex(pcr0), bytes.fromhex(pcr1), bytes.fromhex(pcr2))
    except ValueError:
        raise InvalidInput("a PCR is not hexadecimal", reason="pcr-not-hex") from None

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        effects = await ledger.allow_measurement(context.registry, pcrs)
        return {"transaction": effects.digest, "images": len((await ledger.registry(context.registry)).measurements)}

    show(with_ledger(keystore, work), output, title="allowed")


@enclave_app.command("retire")
def retire(
    version: Annotated[int, typer.Argument(help="number of the image, as `list` shows it")],
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Ends the right of one image's enclaves to sign; needs the AdminCap."""
    confirm(f"enclaves of image {version} will be able to anchor nothing; retire it?", yes=yes)

    async def work(ledger: Ledger, context: Context) -> dict[str, Any]:
        return {"transaction": (await ledger.retire_measurement(context.registry, version)).digest}

    show(with_ledger(keystore, work), output, title="retired")


@enclave_app.command("revoke")
def revoke(
    enclave: Annotated[str, typer.Argument(help="object id of the registration")],
    keystore: Keystore = None,
    output: Output = "table",
    *,
    yes: Yes = False,
) -> None:
    """Ends one registration for good; needs the RevokerCap."""
    confirm(f"revoke {enclave}? It can't be taken back.", yes=yes)

    async def work(ledger: Ledger, _: Context) -> dict[str, Any]:
        return {"enclave": enclave, "transaction": (await ledger.revoke(enclave)).digest}

    show(with_ledger(keystore, work), output, title="revoked")


@enclave_app.command("list")
def list_enclaves(output: Output = "table") -> None:
    """Lists the images that may sign, and the registrations as the ledger has them now."""
    context = load_context()
    known = asyncio.run(_registrations(context))

    async def work(ledger: Ledger, context: Context) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        registry = await ledger.registry(context.registry)
        images = [
            {"image": m.version, "pcr0": m.pcr0.hex(), "pcr1": m.pcr1.hex(), "pcr2": m.pcr2.hex()}
            for m in registry.measurements
        ]
        enclaves = []
        for address in known:
            found = await ledger.enclave(address)
            enclaves.append(
                {
                    "enclave": address,
                    "public_key": found.public_key.hex(),
                    "image": found.measurement_version,
                    "expires_ms": found.expires_ms,
                    "revoked": found.revoked,
                    "simulated": found.simulated,
                }
            )
        return images, enclaves

    images, enclaves = with_ledger(None, work, signing=False)
    if output == "json":
        show({"images": images, "enclaves": enclaves}, output)
    else:
        show_all(list(images), output, title="images that may sign")
        show_all(list(enclaves), output, title="registrations")


async def _registrations(context: Context) -> list[str]:
    """Object ids of the registrations that the bus knows, oldest first."""
    settings = BusSettings(nats_url=context.nats_url, cluster=context.cluster)
    async with await Bus.connect(Service.MONITOR, settings) as bus:
        last = await bus.last(subjects.ENCLAVE_REGISTERED)
        found: list[str] = []
        if last is None:
            return found
        rows = [subjects.ENCLAVE_REGISTERED]
        async with contextlib.aclosing(bus.read(Stream.ENCLAVE, subjects=rows)) as stored:
            async for message in stored:
                with contextlib.suppress(InvalidInput, Refused):
                    found.append(fact_of(message, subjects.ENCLAVE_REGISTERED, EnclaveRegistered).enclave)
                if message.sequence >= last.sequence:
                    break
        return list(dict.fromkeys(found))
