"""Where a webhook is and how to call it: kubeconfig-shaped files, client certificates, time-outs, retries."""

import asyncio
import base64
import random
import re
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import yaml

from daas.common.errors import ConfigurationError, Unavailable

Object = dict[str, Any]

#: webhook.DefaultRetryBackoff: five attempts, 0.5 s growing by half, up to a fifth more at random.
ATTEMPTS, FIRST_S, FACTOR, JITTER = 5, 0.5, 1.5, 0.2
#: Answers are small; kube-apiserver limits webhook responses to 3 MiB.
ANSWER_BYTES_MAX = 3 << 20
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class WebhookError(Unavailable):
    """A webhook could not be asked, or did not answer as it should.

    Attributes:
        retriable: whether kube-apiserver would ask the same again at once.
    """

    retriable: bool = False


def _error(text: str, *, retriable: bool = False) -> WebhookError:
    error = WebhookError(text, reason="webhook-failed")
    error.retriable = retriable
    return error


def duration_s(text: str) -> float:
    """Seconds of a Go duration such as `30s` or `1m30s`.

    Raises:
        ConfigurationError: `duration`.
    """
    found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise ConfigurationError(f"expected a duration such as 30s, not {text!r}", reason="duration")
    return sum(float(number) * _UNITS_S[unit] for number, unit in found)


def go_duration(seconds: float) -> str:
    """A time-out as it stands in the query, e.g. `3s`."""
    return f"{seconds:g}s"


def trusting(ca_pem: str | None) -> ssl.SSLContext:
    """A context that trusts these authorities, or the system's where there are none."""
    context = ssl.create_default_context(cadata=ca_pem) if ca_pem else ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A webhook's URL and the TLS that leads there."""

    url: str
    tls: ssl.SSLContext


def embedded(section: Object, name: str, base: Path) -> bytes | None:
    """A certificate or key of a kubeconfig, inline or in a file beside it."""
    if data := section.get(f"{name}-data"):
        return base64.b64decode(data)
    if file := section.get(name):
        return (base / str(file)).read_bytes()
    return None


def load_endpoint(path: Path) -> Endpoint:
    """The endpoint of a kubeconfig-shaped file: its current context's cluster is the webhook, its user our certificate.

    Raises:
        ConfigurationError: `webhook-kubeconfig`.
    """
    try:
        config = yaml.safe_load(path.read_text())
        context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next((u.get("user") or {} for u in config["users"] if u["name"] == context.get("user")), {})
        authority = embedded(cluster, "certificate-authority", path.parent)
        tls = trusting(authority.decode() if authority else None)
        certificate = embedded(user, "client-certificate", path.parent)
        key = embedded(user, "client-key", path.parent)
        url = str(cluster["server"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration, ValueError) as error:
        text = f"{path}: not a webhook configuration: {type(error).__name__}: {error}"
        raise ConfigurationError(text, reason="webhook-kubeconfig") from None
    if certificate and key:
        show(tls, certificate, key)
    return Endpoint(url, tls)


def show(tls: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Lets a context show this certificate to whoever asks for one."""
    with tempfile.NamedTemporaryFile(prefix="daas-client-", mode="wb") as file:  # mode 0600, gone at once
        file.write(certificate + b"\n" + key)
        file.flush()
        tls.load_cert_chain(file.name)


class WebhookClient:
    """Posts JSON to webhooks over kept connections."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(
        self, endpoint: Endpoint, body: Object, timeout_s: float, *, user_agent: str = "Go-http-client/1.1"
    ) -> Any:
        """The decoded answer; None for an empty one.

        Raises:
            WebhookError: no answer in time, a status other than 200, or no JSON.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        url = f"{endpoint.url}?timeout={go_duration(timeout_s)}"
        headers = {"User-Agent": user_agent, "Accept": "application/json, */*", "Content-Type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(
                url, data=orjson.dumps(body), headers=headers, ssl=endpoint.tls, timeout=timeout, allow_redirects=False
            ) as answer:
                raw = await answer.content.read(ANSWER_BYTES_MAX)
                if answer.status != 200:
                    text = f'Post "{url}": an error on the server ("{raw[:512].decode(errors="replace")}") '
                    retriable = answer.status in (429, 500, 504)
                    raise _error(text + f"has prevented the request from succeeding: {answer.status}",
                                 retriable=retriable)  # fmt: skip
        except TimeoutError:
            raise _error(f'Post "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError) as error:
            reset = isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError)
            raise _error(f'Post "{url}": {error}', retriable=reset) from None
        try:
            return orjson.loads(raw) if raw else None
        except orjson.JSONDecodeError as error:
            raise _error(f'Post "{url}": {error}') from None

    async def post_patiently(
        self, endpoint: Endpoint, body: Object, timeout_s: float, *, first_s: float = FIRST_S
    ) -> Any:
        """As `post`, asked again after what may pass, as the authentication, authorization and audit webhooks are."""
        delay_s = first_s
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self.post(endpoint, body, timeout_s)
            except WebhookError as error:
                if not error.retriable or attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(delay_s * (1 + JITTER * random.random()))  # noqa: S311 - spreads retries
            delay_s *= FACTOR
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None
