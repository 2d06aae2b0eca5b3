"""Serves software NSMs on a Unix socket: length-prefixed requests in, responses out, many clients at once."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from daas.attestation.nsm_errors import NsmErrorCode
from daas.attestation.nsm_transport import FRAME_HEADER, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX
from daas.common.errors import ConfigurationError
from daas.devstack.nsm.module import SoftwareNsm, error_response

# A stack has a handful of enclaves; this many files are open at most.
CONNECTIONS_MAX = 64
_SOCKET_PATH_BYTES_MAX = 107  # sun_path of Linux, less the final zero


class NsmServer:
    """A Unix socket with enclaves' NSMs behind it. An async context manager.

    Args:
        path: of the socket; only the owner may connect.
        nsm_of_connection: called for each connection. Giving back one and the same NSM makes the process one
            enclave, as /dev/nsm is; a new one each time makes every connection an enclave that boots as it connects.
    """

    def __init__(self, path: Path, nsm_of_connection: Callable[[], SoftwareNsm]) -> None:
        self.path = path
        self._nsm_of_connection = nsm_of_connection
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.connections_refused = 0

    async def __aenter__(self) -> Self:
        listener = _bind(self.path)
        self._server = await asyncio.start_unix_server(self._accept, sock=listener)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None, "entered"
        self._server.close()
        for writer in self._connections.values():
            writer.transport.abort()
        await asyncio.gather(*self._connections)
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "called by the server in a task of its own"
        try:
            if len(self._connections) >= CONNECTIONS_MAX:
                self.connections_refused += 1
                return
            self._connections[task] = writer
            # A client may go away at any byte: its connection ends, the others don't notice.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._connections.pop(task, None)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nsm = self._nsm_of_connection()
        while True:
            (length,) = FRAME_HEADER.unpack(await reader.readexactly(FRAME_HEADER.size))
            if not 0 < length <= REQUEST_BYTES_MAX:
                # What follows can't be told apart from the next frame: answer as the driver does and hang up.
                await _send(writer, error_response(NsmErrorCode.INPUT_TOO_LARGE))
                return
            response = nsm.process(await reader.readexactly(length))
            if len(response) > RESPONSE_BYTES_MAX:
                response = error_response(NsmErrorCode.BUFFER_TOO_SMALL)
            await _send(writer, response)


async def _send(writer: asyncio.StreamWriter, response: bytes) -> None:
    writer.write(FRAME_HEADER.pack(len(response)) + response)
    await writer.drain()


def _bind(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES_MAX:
        raise ConfigurationError(
            f"the path of a Unix socket has at most {_SOCKET_PATH_BYTES_MAX} bytes, {path} has more",
            reason="nsm-socket-path",
            field="socket",
        )
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The socket is created with its final mode; nobody else may connect in between.
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"can't listen on {path}: {error.strerror}", reason="nsm-socket-bind", field="socket"
        ) from None
    finally:
        os.umask(umask)
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket of a server that was killed; refuse to take it from one that lives."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return
    if is_socket:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
                return
    raise ConfigurationError(f"{path} is in use or no socket", reason="nsm-socket-in-use", field="socket")
