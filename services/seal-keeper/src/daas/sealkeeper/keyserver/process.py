"""The key server process: its servers listen, ask the ledger, and say on stdout when they are ready."""

import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from typing import Final

from aiohttp import web

from daas.common import logs
from daas.common.errors import ConfigurationError, DaasError
from daas.common.settings import help_text, load
from daas.ledger import Ledger
from daas.ledger.approval import MoveApprovals
from daas.seal import format_address, parse_address
from daas.seal.server import Approval, Denial, KeyServerApp, KeyServerSettings, make_metrics_app, read_secret
from daas.sealkeeper.keyserver.keyfile import ServerKey, make_key_file, read_key_file
from daas.sealkeeper.keyserver.settings import KeyServerProcessSettings

#: Whose second argument is the session that the right is bound to: see `daas::policy`.
SESSION_BOUND: Final = frozenset({"policy::seal_approve_ticket"})
_SHUTDOWN_S: Final = 2.0

log = logs.get_logger(__name__)


def server_keys(settings: KeyServerProcessSettings) -> list[ServerKey]:
    """The keys that the settings name.

    Raises:
        ConfigurationError: `key-file`, `seal-secret`.
    """
    if settings.key_server_master_key is not None and settings.key_server_object_id is not None:
        secret = read_secret(settings.key_server_master_key.get_secret_value())
        return [ServerKey(parse_address(settings.key_server_object_id), secret)]
    keys = [
        make_key_file(path) if settings.key_server_make_keys and not path.exists() else read_key_file(path)
        for path in settings.key_files
    ]
    if len({key.object_id for key in keys}) != len(keys):
        raise ConfigurationError("two key files are of one KeyServer object", reason="key-file")
    return keys


async def serve(settings: KeyServerProcessSettings, stop: asyncio.Event) -> None:
    """Runs until `stop` is set.

    Raises:
        ConfigurationError: `not-simulated`, `key-file`. Unavailable: the ledger is away at the start.
    """
    keys = server_keys(settings)
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(
            await Ledger.connect(settings.key_server_ledger_url, package=settings.key_server_package)
        )
        registry = await ledger.registry(settings.key_server_registry)
        if settings.key_server_simulated and not registry.simulated:
            raise ConfigurationError(
                "DAAS_KEY_SERVER_SIMULATED is set, but the registry is not a simulated one",
                reason="not-simulated",
                field="key_server_simulated",
            )
        approvals = MoveApprovals(ledger, Approval, Denial, single_operator=settings.key_server_simulated)
        limits = KeyServerSettings(session_bound=SESSION_BOUND)
        said = []
        for place, key in enumerate(keys):
            served = KeyServerApp(key.keys, approvals, settings=limits)
            host = settings.key_server_host
            url = await _listen(stack, served.application(), host, _port(settings.key_server_port, place))
            metrics = make_metrics_app(served.metrics)
            metrics_host, metrics_port = (
                settings.key_server_metrics_host,
                _port(settings.key_server_metrics_port, place),
            )
            metrics_url = await _listen(stack, metrics, metrics_host, metrics_port)
            object_id = format_address(key.object_id)
            said.append(
                {"object_id": object_id, "url": url, "public_key": key.public_key.hex(), "metrics": metrics_url}
            )
            log.info("key server listens", object_id=object_id, url=url, simulated=registry.simulated)
        ready = {"ready": True, "service": "key-server", "http": said[0]["url"], "servers": said}
        sys.stdout.write(json.dumps(ready | {"simulated": registry.simulated}) + "\n")
        sys.stdout.flush()
        await stop.wait()


def _port(first: int, place: int) -> int:
    return first + place if first else 0


async def _listen(stack: AsyncExitStack, app: web.Application, host: str, port: int) -> str:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ConfigurationError(f"can't listen on {host}:{port}: {error.strerror}", reason="port") from None
    return f"http://{host}:{runner.addresses[0][1]}"


async def _run(settings: KeyServerProcessSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)


def main(argv: list[str] | None = None) -> int:
    """Runs the servers. Returns 0 after SIGTERM, 1 for a failure, 2 for settings that can't work."""
    program = "daas-key-server"
    arguments = sys.argv[1:] if argv is None else argv
    if arguments:
        (sys.stdout if arguments == ["--help"] else sys.stderr).write(help_text(KeyServerProcessSettings, program))
        return 0 if arguments == ["--help"] else 2
    try:
        settings = load(KeyServerProcessSettings)
        logs.configure("key-server", settings.key_server_log_level)
        asyncio.run(_run(settings))
    except ConfigurationError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 2
    except DaasError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
    return 0
