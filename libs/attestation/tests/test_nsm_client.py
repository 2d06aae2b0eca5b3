"""The NSM client: byte for byte the exchanges of the real API, and a typed error for everything else.

The recorded exchanges follow aws-nitro-enclaves-nsm-api src/api/mod.rs as its CBOR library encodes it: requests
without fields are text, others a map of one pair with the fields in the order of the source.
"""

import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from daas.attestation import NsmClient, NsmErrorCode, NsmProtocolError, NsmRefused, NsmUnavailable, PcrState
from daas.attestation.nsm_transport import RESPONSE_BYTES_MAX, DeviceTransport, SocketTransport

PCR = bytes(range(48))


def _text(value: str) -> bytes:
    assert len(value) < 24
    return bytes([0x60 + len(value)]) + value.encode()


# (call, request, response, result), each encoding written out by hand
Exchange: TypeAlias = tuple[Callable[[NsmClient], object], bytes, bytes, object]
EXCHANGES: list[Exchange] = [
    (
        lambda nsm: nsm.describe_pcr(3),
        b"\xa1" + _text("DescribePCR") + b"\xa1" + _text("index") + b"\x03",
        b"\xa1" + _text("DescribePCR") + b"\xa2" + _text("lock") + b"\xf5" + _text("data") + b"\x58\x30" + PCR,
        PcrState(locked=True, data=PCR),
    ),
    (
        lambda nsm: nsm.extend_pcr(16, b"\x01\x02"),
        b"\xa1" + _text("ExtendPCR") + b"\xa2" + _text("index") + b"\x10" + _text("data") + b"\x42\x01\x02",
        b"\xa1" + _text("ExtendPCR") + b"\xa1" + _text("data") + b"\x58\x30" + PCR,
        PCR,
    ),
    (
        lambda nsm: nsm.lock_pcr(16),
        b"\xa1" + _text("LockPCR") + b"\xa1" + _text("index") + b"\x10",
        _text("LockPCR"),
        None,
    ),
    (
        lambda nsm: nsm.lock_pcrs(17),
        b"\xa1" + _text("LockPCRs") + b"\xa1" + _text("range") + b"\x11",
        _text("LockPCRs"),
        None,
    ),
    (
        lambda nsm: nsm.attestation(nonce=b"\x07", public_key=b"\x08\x09"),
        b"\xa1"
        + _text("Attestation")
        + b"\xa3"
        + _text("user_data")
        + b"\xf6"
        + _text("nonce")
        + b"\x41\x07"
        + _text("public_key")
        + b"\x42\x08\x09",
        b"\xa1" + _text("Attestation") + b"\xa1" + _text("document") + b"\x43\x84\x44\xa1",
        b"\x84\x44\xa1",
    ),
    (
        lambda nsm: nsm.get_random(2),
        _text("GetRandom"),
        b"\xa1" + _text("GetRandom") + b"\xa1" + _text("random") + b"\x44abcd",
        b"ab",
    ),
    (
        lambda nsm: nsm.describe().module_id,
        _text("DescribeNSM"),
        b"\xa1"
        + _text("DescribeNSM")
        + b"\xa7"
        + _text("version_major")
        + b"\x01"
        + _text("version_minor")
        + b"\x00"
        + _text("version_patch")
        + b"\x00"
        + _text("module_id")
        + _text("i-0-enc0")
        + _text("max_pcrs")
        + b"\x18\x20"
        + _text("locked_pcrs")
        + b"\x82\x00\x01"
        + _text("digest")
        + _text("SHA384"),
        "i-0-enc0",
    ),
]


class KernelNsm:
    """The kernel's half of the device: reads the request and writes the response through the iovecs of the ioctl."""

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self._answer = answer

    def ioctl(self, descriptor: int, number: int, argument: bytearray) -> int:
        assert number == 0xC0200A00
        request_at, request_length, response_at, response_capacity = struct.unpack("=QQQQ", argument)
        response = self._answer(ctypes.string_at(request_at, request_length))
        assert len(response) <= response_capacity == 0x3000
        ctypes.memmove(response_at, response, len(response))
        argument[24:32] = struct.pack("=Q", len(response))
        return 0


@contextmanager
def _device(answer: Callable[[bytes], bytes]) -> Iterator[NsmClient]:
    with NsmClient(DeviceTransport(os.open(os.devnull, os.O_RDWR), KernelNsm(answer).ioctl)) as nsm:
        yield nsm


@contextmanager
def _socket(answer: Callable[[bytes], bytes]) -> Iterator[NsmClient]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(10)

    def serve() -> None:
        with theirs, theirs.makefile("rwb") as stream:
            while header := stream.read(4):
                response = answer(stream.read(int.from_bytes(header, "little")))
                stream.write(len(response).to_bytes(4, "little") + response)
                stream.flush()

    thread = threading.Thread(target=serve)
    thread.start()
    with NsmClient(SocketTransport(ours)) as nsm:
        yield nsm
    thread.join(10)


_WAYS = [pytest.param(_device, id="device"), pytest.param(_socket, id="socket")]
Way: TypeAlias = Callable[[Callable[[bytes], bytes]], AbstractContextManager[NsmClient]]


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_device_and_socket_carry_the_recorded_bytes(way: Way, exchange: Exchange) -> None:
    call, request, response, result = exchange
    seen: list[bytes] = []

    def answer(received: bytes) -> bytes:
        seen.append(received)
        return response

    with way(answer) as nsm:
        assert call(nsm) == result
    assert seen == [request]


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("code", list(NsmErrorCode))
def test_an_error_code_becomes_a_refusal_that_carries_it(way: Way, code: NsmErrorCode) -> None:
    with way(lambda _: b"\xa1" + _text("Error") + _text(code.value)) as nsm, pytest.raises(NsmRefused) as refused:
        nsm.extend_pcr(0, b"")
    assert refused.value.code is code
    assert refused.value.reason.startswith("nsm-")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\xf6",
        b"\xa0",
        _text("LockPCR"),
        b"\xa1" + _text("Error") + _text("NoSuchCode"),
        b"\xa1" + _text("Error") + b"\x01",
        b"\xa1" + _text("DescribePCR") + b"\xf6",
        b"\xa1" + _text("ExtendPCR") + b"\xa1" + _text("data") + b"\x58\x30" + PCR,
        b"\xa1" + _text("DescribePCR") + b"\xa2" + _text("lock") + b"\x01" + _text("data") + b"\x58\x30" + PCR,
        b"\xa1" + _text("DescribePCR") + b"\xa2" + _text("lock") + b"\xf5" + _text("data") + b"\x41\x00",
        b"\xa1" + _text("DescribePCR") + b"\xa1" + _text("lock") + b"\xf5",
        b"\xa1" + _text("DescribePCR") + b"\xa0\x00",
    ],
)
@pytest.mark.parametrize("way", _WAYS)
def test_an_answer_to_something_else_is_a_protocol_error(way: Way, response: bytes) -> None:
    with way(lambda _: response) as nsm, pytest.raises(NsmProtocolError):
        nsm.describe_pcr(0)


@pytest.mark.parametrize("way", _WAYS)
def test_a_request_longer_than_the_driver_takes_is_refused_before_it_is_sent(way: Way) -> None:
    def answer(_: bytes) -> bytes:
        raise AssertionError("nothing should arrive")

    with way(answer) as nsm, pytest.raises(NsmRefused) as refused:
        nsm.extend_pcr(16, bytes(0x1000))
    assert refused.value.code is NsmErrorCode.INPUT_TOO_LARGE


@pytest.mark.parametrize("way", _WAYS)
def test_random_bytes_are_collected_over_several_calls(way: Way) -> None:
    with way(lambda _: b"\xa1" + _text("GetRandom") + b"\xa1" + _text("random") + b"\x44abcd") as nsm:
        assert nsm.get_random(10) == b"abcdabcdab"


def test_random_that_never_comes_is_given_up() -> None:
    empty = b"\xa1" + _text("GetRandom") + b"\xa1" + _text("random") + b"\x40"
    with _device(lambda _: empty) as nsm, pytest.raises(NsmProtocolError):
        nsm.get_random(1)
    with _device(lambda _: b"\xa1" + _text("GetRandom") + b"\xa1" + _text("random") + b"\x41a") as nsm:
        with pytest.raises(NsmProtocolError, match="256 calls"):
            nsm.get_random(4096)
        with pytest.raises(ValueError, match="1 to 4096"):
            nsm.get_random(0)


def test_message_too_long_from_the_driver_means_input_too_large() -> None:
    def ioctl(descriptor: int, number: int, argument: bytearray) -> int:
        raise OSError(errno.EMSGSIZE, "Message too long")

    with NsmClient(DeviceTransport(os.open(os.devnull, os.O_RDWR), ioctl)) as nsm, pytest.raises(NsmRefused) as refused:
        nsm.describe()
    assert refused.value.code is NsmErrorCode.INPUT_TOO_LARGE


def test_a_length_beyond_the_buffer_is_not_believed() -> None:
    def ioctl(descriptor: int, number: int, argument: bytearray) -> int:
        argument[24:32] = struct.pack("=Q", RESPONSE_BYTES_MAX + 1)
        return 0

    with NsmClient(DeviceTransport(os.open(os.devnull, os.O_RDWR), ioctl)) as nsm, pytest.raises(NsmProtocolError):
        nsm.describe()


def test_a_character_device_that_is_no_nsm_is_told_by_its_ioctl() -> None:
    with NsmClient.open(os.devnull) as nsm:
        assert not nsm.simulated
        with pytest.raises(NsmUnavailable) as refused:
            nsm.describe()
    assert refused.value.reason == "nsm-ioctl-failed"


def test_a_path_with_nothing_or_a_file_or_a_dead_socket_is_no_nsm(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    for path, reason in (
        (tmp_path / "nothing", "nsm-unavailable"),
        (file, "nsm-not-a-device"),
        (dead, "nsm-unavailable"),
    ):
        with pytest.raises(NsmUnavailable) as refused:
            NsmClient.open(path)
        assert (refused.value.reason, str(path) in str(refused.value)) == (reason, True)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "nsm-connection-lost"),
        (b"\x05\x00", "nsm-connection-lost"),
        (b"\x05\x00\x00\x00ab", "nsm-connection-lost"),
    ],
)
def test_a_socket_that_ends_in_the_middle_is_lost_and_stays_closed(sent: bytes, reason: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs, NsmClient(SocketTransport(ours)) as nsm:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(NsmUnavailable) as lost:
            nsm.describe()
        assert lost.value.reason == reason
        with pytest.raises(NsmUnavailable) as closed:
            nsm.describe()
        assert closed.value.reason == "nsm-closed"


@pytest.mark.parametrize("length", [0, RESPONSE_BYTES_MAX + 1, 0xFFFFFFFF])
def test_a_frame_of_an_impossible_length_is_not_read(length: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs, NsmClient(SocketTransport(ours)) as nsm:
        theirs.sendall(length.to_bytes(4, "little"))
        with pytest.raises(NsmProtocolError):
            nsm.describe()


def test_a_socket_that_does_not_answer_times_out() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.settimeout(0.01)
    with theirs, NsmClient(SocketTransport(ours)) as nsm, pytest.raises(NsmUnavailable) as refused:
        nsm.describe()
    assert refused.value.reason == "nsm-timeout"


def test_a_client_may_be_closed_twice_and_is_of_no_use_then() -> None:
    with _device(lambda _: b"") as nsm:
        nsm.close()
        nsm.close()
        with pytest.raises(NsmUnavailable) as refused:
            nsm.describe()
    assert refused.value.reason == "nsm-closed"
