"""`daas status`: one screen that says what runs, how far it is and what is simulated."""

import asyncio
from typing import Annotated, Any

import aiohttp
import msgspec
import typer
from rich.table import Table

from daas.cli.context import Context, load_context
from daas.cli.terminal import console, simulated_mark
from daas.common.errors import DaasError
from daas.seal import ClientSettings, KeyServer, SealClient
from daas.walrus import Limits, WalrusClient

TIMEOUT = aiohttp.ClientTimeout(total=3)


async def _ask(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """Readiness and status of one service; `error` where it does not answer."""
    try:
        async with session.get(f"{url}/readyz") as ready:
            checks = await ready.json(content_type=None)
            is_ready = ready.status == 200
        async with session.get(f"{url}/status") as status:
            return {"ready": is_ready, "checks": checks, "status": await status.json(content_type=None)}
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return {"ready": False, "error": f"{type(error).__name__}: {error}"}


async def _walrus(context: Context) -> dict[str, Any] | None:
    """Whether the aggregators answer; None where the cluster has none."""
    if not context.walrus_aggregators:
        return None
    async with WalrusClient([], context.walrus_aggregators, limits=Limits(timeout_s=3, attempts=1)) as client:
        try:
            await client.check()
        except DaasError as error:
            return {"ready": False, "error": error.message}
    return {"ready": True, "aggregators": context.walrus_aggregators}


async def _key_servers(context: Context) -> list[dict[str, Any]]:
    """Whether each pinned key server answers, and proves that it has the key it is pinned with."""
    if context.key_servers is None:
        return []

    async def ask(server: KeyServer) -> dict[str, Any]:
        try:
            async with SealClient([server], settings=ClientSettings(timeout_ms=3_000)) as client:
                await client.verify_servers()
        except DaasError as error:
            return {"name": server.label, "url": server.url, "ready": False, "error": error.message}
        return {"name": server.label, "url": server.url, "ready": True}

    return list(await asyncio.gather(*map(ask, context.key_servers.known())))


async def collect(context: Context) -> dict[str, Any]:
    """Everything that the screen shows, as plain data."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as session:
        names = sorted(context.services)
        answers = await asyncio.gather(*(_ask(session, context.services[name]) for name in names))
    walrus, key_servers = await asyncio.gather(_walrus(context), _key_servers(context))
    return {
        "cluster": context.cluster,
        "simulated": context.simulated,
        "registry": context.registry,
        "chain": context.chain,
        "ledger": context.ledger_url,
        "walrus": walrus,
        "key_servers": key_servers,
        "services": dict(zip(names, answers, strict=True)),
    }


def status(output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table") -> None:
    """Shows what runs and how far it is. Exit code 1 where a service is not ready."""
    context = load_context()
    found = asyncio.run(collect(context))
    if output == "json":
        console.print_json(msgspec.json.encode(found).decode())
    else:
        table = Table("service", "ready", "what it says", title=f"cluster {context.cluster}")
        for name, answer in found["services"].items():
            said = answer.get("status") or {"error": answer.get("error", "")}
            facts = ", ".join(f"{key} {value}" for key, value in said.items())
            table.add_row(name, "[green]yes[/]" if answer["ready"] else "[red]no[/]", facts)
        console.print(table)
        console.print("registry", context.registry, "on chain", context.chain)
        if (walrus := found["walrus"]) is not None:
            answers = "answers" if walrus["ready"] else f"[red]does not answer[/]: {walrus['error']}"
            mark = " [black on yellow]simulated[/]" if context.simulated else ""
            console.print("walrus", *context.walrus_aggregators, f"{answers}{mark}", soft_wrap=True)
        if context.key_servers is not None:
            answers = ", ".join(
                f"{each['name']} " + ("answers" if each["ready"] else f"[red]does not answer[/]: {each['error']}")
                for each in found["key_servers"]
            )
            console.print(f"key servers, {context.key_servers.threshold} of which open: {answers}", soft_wrap=True)
        console.print("enclave:", simulated_mark(simulated=context.simulated))
    if not all(answer["ready"] for answer in found["services"].values()):
        raise typer.Exit(1)
