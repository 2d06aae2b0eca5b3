"""The plugin's process: it listens at once, opens the seeds as soon as key servers allow, and stops in order."""

import asyncio
import contextlib
import ctypes
import json
import resource
import signal
import sys
from typing import Any, Final

from daas.common import logs
from daas.common.endpoints import Check, Endpoints
from daas.common.errors import ConfigurationError, DaasError
from daas.kms import servers as key_servers
from daas.kms.keyring import Generation, Keyring
from daas.kms.sealing import open_seed
from daas.ledger import Signer
from daas.seal import ClientSettings, SealClient
from daas.sealkeeper.kms.metrics import KmsMetrics
from daas.sealkeeper.kms.plugin import Plugin
from daas.sealkeeper.kms.seeds import SeedStore
from daas.sealkeeper.kms.server import KmsServer
from daas.sealkeeper.kms.settings import KmsSettings

_PR_SET_DUMPABLE: Final = 4
#: The store of seeds tries again by itself.
_CLIENT: Final = ClientSettings(timeout_ms=5_000, deadline_ms=10_000, attempts_max=2)

log = logs.get_logger("kms")


class KmsApp:
    """One plugin process. `run` lasts until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: keyring, key servers or keystore can't be used.
    """

    def __init__(self, settings: KmsSettings) -> None:
        self._settings = settings
        self._signer = Signer.from_file(settings.kms_keystore)
        key_servers.load(settings.kms_key_servers)
        self.metrics = KmsMetrics()
        self.seeds = SeedStore(settings.kms_keyring, self._open_seed, self.metrics, poll_s=settings.kms_poll_s)
        self._server = KmsServer(Plugin(self.seeds), settings.kms_socket, self.metrics)
        self._stop = asyncio.Event()
        self._endpoints = Endpoints(self.metrics.registry, self._checks, lambda: True, self._status)

    def run(self) -> int:
        """Returns the exit code: 0, 1 for a failure, 2 for settings that can't work."""
        logs.configure("kms", self._settings.log_level)
        keep_memory_private()
        return asyncio.run(self._run_with_signals())

    async def _run_with_signals(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        return await self.serve()

    def stop(self) -> None:
        """Asks the process to stop."""
        self._stop.set()

    async def serve(self) -> int:
        """`run` without logs and signals, inside a loop that runs already."""
        try:
            await self._endpoints.start(self._settings.http_host, self._settings.http_port)
            await self._server.start()
            working = [asyncio.create_task(self.seeds.run()), asyncio.create_task(self._announce())]
            stop = asyncio.create_task(self._stop.wait())
            try:
                while not stop.done():
                    await asyncio.wait([stop, working[0]], return_when=asyncio.FIRST_COMPLETED)
                    if working[0].done():
                        working[0].result()
            finally:
                for task in (*working, stop):
                    task.cancel()
                await asyncio.wait([*working, stop])
                await self._server.stop()
        except ConfigurationError as error:
            log.error("refuses to start", error=error)  # noqa: TRY400 - the sentence says it all
            return 2
        except DaasError as error:
            log.error("stops", error=error)  # noqa: TRY400 - the sentence says it all
            return 1
        except Exception:
            self.metrics.unexpected.inc()
            log.exception("stops")
            return 1
        finally:
            await self._endpoints.stop()
            if self._settings.ready_file is not None:
                self._settings.ready_file.unlink(missing_ok=True)
        log.info("stopped")
        return 0

    async def _announce(self) -> None:
        await self.seeds.usable.wait()
        facts = {"ready": True, "service": "kms", "http": self._endpoints.url, "socket": str(self._settings.kms_socket)}
        line = json.dumps(facts)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if self._settings.ready_file is not None:
            self._settings.ready_file.write_text(f"{line}\n", encoding="utf-8")
        log.info("ready", socket=str(self._settings.kms_socket))

    async def _open_seed(self, keyring: Keyring, generation: Generation) -> bytes:
        # Read anew at each attempt: a key server that has moved is found without a restart.
        known = key_servers.load(self._settings.kms_key_servers).known()
        async with SealClient(known, settings=_CLIENT) as client:
            return await open_seed(client, self._signer, keyring, generation)

    def _checks(self) -> dict[str, Check]:
        return {"seed": self._check_seed, "keyring": self._check_keyring}

    async def _check_seed(self) -> None:
        self.seeds.current()

    async def _check_keyring(self) -> None:
        if self.seeds.file_error is not None:
            raise self.seeds.file_error

    async def _status(self) -> dict[str, Any]:
        return {
            "service": "kms",
            "cluster": self.seeds.keyring.cluster,
            "account": self._signer.address,
            "generations": [self._facts(one) for one in self.seeds.keyring.generations],
        }

    def _facts(self, generation: Generation) -> dict[str, Any]:
        failure = self.seeds.failure(generation)
        return {
            "number": generation.number,
            "key_id": generation.key_id,
            "open": self.seeds.is_open(generation),
            "created_ms": generation.created_ms,
            **({"reason": failure.reason, "message": failure.message} if failure else {}),
        }


def keep_memory_private() -> None:
    """No core dumps, and no other process of the same user may look into this one's memory: seeds lie there."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def build(settings: KmsSettings) -> KmsApp:
    """The plugin, ready to run."""
    return KmsApp(settings)
