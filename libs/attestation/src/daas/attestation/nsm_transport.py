"""How NSM requests travel: by ioctl to the character device, or over a Unix socket to a software NSM.

Device: the `nsm` driver of Linux (drivers/misc/nsm.c, include/uapi/linux/nsm.h) has one ioctl, whose argument is two
iovecs, request and response. Socket: the same bytes, each message behind its length (u32, little-endian).
"""

import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from daas.attestation.nsm_errors import NsmErrorCode, NsmProtocolError, NsmRefused, NsmUnavailable

REQUEST_BYTES_MAX = 0x1000  # NSM_REQUEST_MAX_SIZE
RESPONSE_BYTES_MAX = 0x3000  # NSM_RESPONSE_MAX_SIZE
FRAME_HEADER = struct.Struct("<I")
# A software NSM answers in 1 ms; a loaded machine may take seconds to schedule it.
SOCKET_TIMEOUT_S = 10.0

# _IOWR(0x0A, 0, struct nsm_raw), 32 bytes: two pairs of address and length.
NSM_IOCTL = 0xC0200A00
_IOVECS = struct.Struct("=QQQQ")

Ioctl = Callable[[int, int, bytearray], int]


class NsmTransport(Protocol):
    """Carries one request to the NSM and its response back."""

    @property
    def simulated(self) -> bool:
        """True when the other side is a stand-in."""

    def exchange(self, request: bytes) -> bytes:
        """Send a request, return the response; raises an `NsmError`."""

    def close(self) -> None:
        """Give the device or the connection back. May be called twice."""


def open_transport(path: Path, *, timeout_s: float = SOCKET_TIMEOUT_S) -> NsmTransport:
    """Open the character device or connect to the Unix socket at `path`, whichever is there.

    Raises:
        NsmUnavailable: nothing is there, it is neither of the two, or it can't be opened.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode):
            return DeviceTransport(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        if stat.S_ISSOCK(mode):
            return SocketTransport(_connect(path, timeout_s))
    except OSError as error:
        raise NsmUnavailable(
            f"no NSM at {path}: {error.strerror or error}", reason="nsm-unavailable", field=str(path)
        ) from None
    raise NsmUnavailable(
        f"{path} is neither a character device nor a Unix socket", reason="nsm-not-a-device", field=str(path)
    )


class DeviceTransport:
    """The NSM device. Owns the file descriptor.

    Args:
        descriptor: an open descriptor of the device.
        ioctl: the system call, called as (descriptor, request number, argument that is changed in place).
    """

    simulated = False

    def __init__(self, descriptor: int, ioctl: Ioctl = fcntl.ioctl) -> None:
        self._descriptor: int | None = descriptor
        self._ioctl = ioctl

    def exchange(self, request: bytes) -> bytes:
        """One ioctl."""
        if self._descriptor is None:
            raise _closed()
        _require_request_size(request)
        request_buffer = ctypes.create_string_buffer(request, len(request))
        response_buffer = ctypes.create_string_buffer(RESPONSE_BYTES_MAX)
        addresses = (ctypes.addressof(request_buffer), ctypes.addressof(response_buffer))
        argument = bytearray(_IOVECS.pack(addresses[0], len(request), addresses[1], RESPONSE_BYTES_MAX))
        try:
            self._ioctl(self._descriptor, NSM_IOCTL, argument)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise _too_large(len(request)) from None
            raise NsmUnavailable(
                f"the NSM's ioctl failed: {error.strerror or error}", reason="nsm-ioctl-failed"
            ) from None
        # The driver writes the length of the response into the second iovec.
        length = _IOVECS.unpack(argument)[3]
        if not 0 < length <= RESPONSE_BYTES_MAX:
            raise NsmProtocolError(f"the NSM answered {length} bytes, expected 1 to {RESPONSE_BYTES_MAX}")
        return response_buffer.raw[:length]

    def close(self) -> None:
        """Close the device."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SocketTransport:
    """A connection to a software NSM. Owns the socket.

    It never connects again by itself: a new connection may be another enclave, with other registers.
    """

    simulated = True

    def __init__(self, connection: socket.socket) -> None:
        self._socket: socket.socket | None = connection

    def exchange(self, request: bytes) -> bytes:
        """One frame out, one frame in."""
        if self._socket is None:
            raise _closed()
        _require_request_size(request)
        try:
            self._socket.sendall(FRAME_HEADER.pack(len(request)) + request)
            (length,) = FRAME_HEADER.unpack(_receive(self._socket, FRAME_HEADER.size))
            if not 0 < length <= RESPONSE_BYTES_MAX:
                self.close()
                raise NsmProtocolError(f"a response of {length} bytes, expected 1 to {RESPONSE_BYTES_MAX}")
            return _receive(self._socket, length)
        except (OSError, EOFError) as error:
            # After a time-out the late answer would be taken for that of the next request.
            self.close()
            reason = "nsm-timeout" if isinstance(error, TimeoutError) else "nsm-connection-lost"
            raise NsmUnavailable(f"the connection to the NSM failed: {error}", reason=reason) from None

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _connect(path: Path, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def _receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes, at most one of which may arrive per call of recv."""
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        if not chunk:
            raise EOFError(f"closed after {len(received)} of {count} bytes")
        received += chunk
    return bytes(received)


def _require_request_size(request: bytes) -> None:
    """Both ways refuse what the driver refuses, before sending."""
    if not 0 < len(request) <= REQUEST_BYTES_MAX:
        raise _too_large(len(request))


def _too_large(size: int) -> NsmRefused:
    return NsmRefused(f"the request has {size} bytes, at most {REQUEST_BYTES_MAX}", code=NsmErrorCode.INPUT_TOO_LARGE)


def _closed() -> NsmUnavailable:
    return NsmUnavailable("the NSM client is closed", reason="nsm-closed")
