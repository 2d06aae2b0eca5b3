"""Development API servers as processes of their own."""

import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml


class ServerProcess:
    """One `python -m daas.devstack.apiserver` and requests to it."""

    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        command = [sys.executable, "-m", "daas.devstack.apiserver", "--state", str(state), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.ready = ready
        self.url: str = ready["url"]
        self.kubeconfig = Path(ready["kubeconfig"])
        self.token = yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"]["token"]
        self.tls = ssl.create_default_context(cafile=str(state / "ca.crt"))

    def request(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        """Status and decoded JSON of one request; `token` "" sends none."""
        sent = self.token if token is None else token
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {sent}"} if sent else {})
        data = json.dumps(body).encode() if body is not None else None
        request = Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urlopen(request, context=self.tls, timeout=60) as response:
                return response.status, json.loads(response.read())
        except HTTPError as refused:
            with refused:
                return refused.code, json.loads(refused.read())

    def watch(self, path: str) -> list[Any]:
        """All events of a watch that ends by itself."""
        request = Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request, context=self.tls, timeout=60) as response:
            return [json.loads(line) for line in response]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(timeout=60)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=60)
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server on a state directory (the same one each time); all are stopped at the end."""
    started: list[ServerProcess] = []

    def start(*options: str) -> ServerProcess:
        started.append(ServerProcess(tmp_path / "state", *options))
        return started[-1]

    yield start
    for server in started:
        server.__exit__()
