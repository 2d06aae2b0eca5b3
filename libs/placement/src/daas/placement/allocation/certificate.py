"""An allocation with its certificate: where pods go, and prices that bound what any allocation could be worth.

The encoding is BCS; `pack` adds deflate for storage and transport. Digests are over the BCS.
"""

import sys
import zlib
from array import array
from collections.abc import Sequence

import msgspec

from daas.common import bcs, merkle
from daas.common.errors import DecodeError
from daas.placement.allocation.errors import CertificateFormatError
from daas.placement.allocation.objective import Objective

#: Prices are per pod and per rounded unit of a resource, times this.
PRICE_SCALE = 1 << 20
#: A certificate of the largest problem stays below it; a deflated one may not unfold further.
MAX_BYTES = 64 << 20
#: Prices above it gain nothing: a value times PRICE_SCALE stays below 2^45.
MAX_PRICE = 1 << 60

_DOMAIN = "k3s-daas/allocation/1"


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What is published with an allocation.

    Attributes:
        cluster: digest of the cluster it speaks of, 32 bytes.
        objective: what is maximised.
        places: (class, node, pods), by class and node: indices into the model's, and how many pods, at least one.
        pod_prices: one a class; node_prices: one a node and resource, nodes first. Integers >= 0, times PRICE_SCALE.
        value: what the allocation is worth. bound: what no allocation can exceed.
    """

    cluster: bytes
    objective: Objective
    places: tuple[tuple[int, int, int], ...]
    pod_prices: tuple[int, ...]
    node_prices: tuple[int, ...]
    value: int
    bound: int

    @property
    def gap(self) -> int:
        """How much better than this any allocation could be at most. Only verified certificates mean it."""
        return self.bound - self.value

    def to_bcs(self) -> bytes:
        """The bytes under the digest."""
        return b"".join(
            (
                bcs.string(_DOMAIN),
                bcs.bytes_(self.cluster),
                self.objective.to_bcs(),
                bcs.uleb128(len(self.places)),
                _words("I", [part for place in self.places for part in place]),
                bcs.uleb128(len(self.pod_prices)),
                _words("Q", self.pod_prices),
                bcs.uleb128(len(self.node_prices)),
                _words("Q", self.node_prices),
                bcs.u64(self.value),
                bcs.u64(self.bound),
            )
        )

    def digest(self) -> bytes:
        """blake2b-256 of the BCS, 32 bytes."""
        return merkle.digest(self.to_bcs())

    def pack(self) -> bytes:
        """Deflated BCS."""
        return zlib.compress(self.to_bcs(), 9)

    @classmethod
    def from_bcs(cls, data: bytes) -> "Certificate":
        """The certificate back.

        Raises:
            CertificateFormatError: `malformed-certificate`.
        """
        try:
            return cls._read(bcs.Reader(data))
        except DecodeError as error:
            raise CertificateFormatError(f"not a certificate: {error}", reason="malformed-certificate") from None

    @classmethod
    def unpack(cls, data: bytes) -> "Certificate":
        """The certificate back from its deflated form.

        Raises:
            CertificateFormatError: `malformed-certificate` or `certificate-size`.
        """
        inflater = zlib.decompressobj()
        try:
            plain = inflater.decompress(data, MAX_BYTES + 1)
        except zlib.error as error:
            raise CertificateFormatError(f"not deflated: {error}", reason="malformed-certificate") from None
        if len(plain) > MAX_BYTES:
            raise CertificateFormatError(f"more than {MAX_BYTES} bytes", reason="certificate-size")
        if not inflater.eof or inflater.unused_data:
            raise CertificateFormatError(
                "the deflated stream does not end where it should", reason="malformed-certificate"
            )
        return cls.from_bcs(plain)

    @classmethod
    def _read(cls, reader: bcs.Reader) -> "Certificate":
        domain = reader.string()
        if domain != _DOMAIN:
            raise CertificateFormatError(f"expected {_DOMAIN!r}, not {domain!r}", reason="malformed-certificate")
        cluster = reader.bytes_()
        objective = Objective.read(reader)
        flat = _read_words(reader, "I", 3)
        certificate = cls(
            cluster=cluster,
            objective=objective,
            places=tuple(zip(flat[::3], flat[1::3], flat[2::3], strict=True)),
            pod_prices=tuple(_read_words(reader, "Q", 1)),
            node_prices=tuple(_read_words(reader, "Q", 1)),
            value=reader.u64(),
            bound=reader.u64(),
        )
        reader.end()
        return certificate


def _words(kind: str, values: Sequence[int]) -> bytes:
    """Little-endian words without a length; `I` has 4 bytes and `Q` has 8.

    Raises:
        CertificateFormatError: `certificate-range`.
    """
    try:
        words = array(kind, values)
    except OverflowError:
        raise CertificateFormatError("a price or index does not fit its word", reason="certificate-range") from None
    if sys.byteorder == "big":
        words.byteswap()
    return words.tobytes()


def _read_words(reader: bcs.Reader, kind: str, each: int) -> Sequence[int]:
    words = array(kind)
    words.frombytes(reader.take(reader.uleb128() * each * words.itemsize))
    if sys.byteorder == "big":
        words.byteswap()
    return words
