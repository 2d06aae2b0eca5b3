"""A real Prometheus with the project's own configuration and rules, pointed at a running stack."""

import asyncio
import json
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from daas.devstack.process import Process
from daas.devstack.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "infra/prometheus/prometheus.yml"
RULES = ROOT / "infra/prometheus/alerts.yml"
#: The service's label in the configuration to its name in the stack.
NAMES = {"seal-keeper": "sealkeeper"}
_ADDRESS = re.compile(r'msg="Listening on" (?:.* )?address=(\S+)')
_START_S = 60.0


def prometheus_binary() -> str | None:
    """The program, where it is installed."""
    return shutil.which("prometheus")


class Prometheus:
    """The server; use as `async with`. It differs from production's by addresses, scrapes each second, short `for`s."""

    def __init__(self, directory: Path, stack: Stack) -> None:
        self.directory = directory
        self.stack = stack
        self.url = ""
        binary = prometheus_binary()
        assert binary is not None, "looked at before"
        argv = [binary, f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
        argv.append("--web.listen-address=127.0.0.1:0")
        self._process = Process("prometheus", argv, log_path=directory / "prometheus.log", announces=False)

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True)
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(self.configuration()))
        rules = re.sub(r"\bfor: \S+", "for: 3s", RULES.read_text(encoding="utf-8"))
        (self.directory / "alerts.yml").write_text(rules)
        self._session = aiohttp.ClientSession()
        await self._process.start()
        try:
            self.url = f"http://{await self._address()}"
            await self.until("ready", self._ready)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.terminate()
        await self._session.close()

    def configuration(self) -> dict[str, Any]:
        """Ours, with the stack's addresses in the place of the containers'; itself it does not scrape here."""
        config: dict[str, Any] = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(self.directory / "alerts.yml")]
        config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] != "prometheus"]
        for job in config["scrape_configs"]:
            for group in job["static_configs"]:
                group["targets"] = [self._target(group["labels"]["service"]).removeprefix("http://")]
        return config

    def _target(self, service: str) -> str:
        if service.startswith("key-server-"):
            servers = self.stack.ready("key-servers", "servers")
            return str(servers[int(service.rpartition("-")[2]) - 1]["metrics"]).removesuffix("/metrics")
        return str(self.stack.context()["services"][NAMES.get(service, service)])

    async def _address(self) -> str:
        deadline = time.monotonic() + _START_S
        while (said := _ADDRESS.search(self._process.log_tail(65_536))) is None:
            assert self._process.running, self._process.log_tail()
            assert time.monotonic() < deadline, self._process.log_tail()
            await asyncio.sleep(0.05)
        return said[1]

    async def _ready(self) -> bool:
        async with self._session.get(f"{self.url}/-/ready") as answer:
            return answer.status == HTTPStatus.OK

    async def get(self, path: str, **parameters: str) -> Any:
        """`data` of one answer of the HTTP API."""
        async with self._session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
            body = json.loads(await answer.text())
        assert body["status"] == "success", (path, parameters, body)
        return body["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        found: list[dict[str, Any]] = (await self.get("query", query=expression))["result"]
        return found

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]], timeout_s: float = 120.0) -> None:
        """Waits for something that Prometheus will say."""
        deadline = time.monotonic() + timeout_s
        while not await condition():
            assert time.monotonic() < deadline, f"not {what} after {timeout_s} s: {self._process.log_tail()}"
            await asyncio.sleep(0.2)
