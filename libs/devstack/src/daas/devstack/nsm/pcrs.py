"""The platform configuration registers of a simulated enclave: 32 of 48 bytes, 0 to 15 locked at boot."""

import hashlib
from collections.abc import Sequence

from daas.attestation import Measurement
from daas.attestation.document import PCR_BYTES, PCR_COUNT_MAX
from daas.devstack.nsm.certificates import ORGANIZATION

PCR_LOCKED_AT_BOOT = 16
DEFAULT_IMAGE_MEASURE = ("image", "kernel", "application")
_ZERO = bytes(PCR_BYTES)


def measure(content: bytes) -> bytes:
    """A register that was extended once with the hash of `content`: SHA384(48 zero bytes || SHA384(content))."""
    return hashlib.sha384(_ZERO + hashlib.sha384(content).digest()).digest()


def development_measurement(image_measure: Sequence[str] = ()) -> Measurement:
    """PCR0, 1 and 2 for up to three strings; missing ones are "image", "kernel", "application".

    The strings stand for what a real NSM measures, so equal strings give equal registers on every machine and an
    operator can allow them. A prefix keeps them apart from the measurements of anything that exists.

    Raises:
        ValueError: more than three strings.
    """
    if len(image_measure) > len(DEFAULT_IMAGE_MEASURE):
        raise ValueError(f"at most {len(DEFAULT_IMAGE_MEASURE)} strings, got {len(image_measure)}")
    strings = (*image_measure, *DEFAULT_IMAGE_MEASURE[len(image_measure) :])
    return Measurement(
        *(measure(f"{ORGANIZATION} PCR{index} {string}".encode()) for index, string in enumerate(strings))
    )


class PcrBank:
    """The registers of one enclave.

    Args:
        measurement: PCR0, 1 and 2; None for an enclave in debug mode, whose registers stay zero.
        instance_id: measured into PCR4, in debug mode too, as AWS does.
    """

    def __init__(self, measurement: Measurement | None, instance_id: str) -> None:
        self._values = [_ZERO] * PCR_COUNT_MAX
        if measurement is not None:
            self._values[:3] = [measurement.pcr0, measurement.pcr1, measurement.pcr2]
        self._values[4] = measure(instance_id.encode())
        self._locked = set(range(PCR_LOCKED_AT_BOOT))

    def value(self, index: int) -> bytes:
        """48 bytes."""
        return self._values[index]

    def is_locked(self, index: int) -> bool:
        """True when the register can't change any more."""
        return index in self._locked

    def extend(self, index: int, data: bytes) -> bytes:
        """SHA384(old || data); the register must not be locked."""
        assert index not in self._locked, f"PCR{index} is locked"
        self._values[index] = hashlib.sha384(self._values[index] + data).digest()
        return self._values[index]

    def lock(self, index: int) -> None:
        """For the life of the enclave."""
        assert 0 <= index < PCR_COUNT_MAX, f"no PCR{index}"
        self._locked.add(index)

    def locked(self) -> dict[int, bytes]:
        """The registers that an attestation document shows, in order."""
        return {index: self._values[index] for index in sorted(self._locked)}
