"""Kubernetes quantities ("250m", "1.5Gi", "3e2") as exact integers of nano-units: no float, no rounding on the way in.

Source: the grammar of k8s.io/apimachinery/pkg/api/resource. Rounding happens once, where a total is taken: requests up,
capacities down.
"""

import re
from functools import lru_cache

from daas.placement.errors import QuantityError

#: Quantities are kept in billionths, the finest unit Kubernetes has.
NANO = 10**9
#: Nanos in a milli-unit: CPU is counted in millis, everything else in whole units.
NANO_PER_MILLI = 10**6
#: Exponents past this would only make numbers that are cut off anyway.
MAX_EXPONENT = 30

_QUANTITY = re.compile(r"([+-]?)([0-9]{1,40})?(?:\.([0-9]{0,40}))?(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?[0-9]{1,4}))?")
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


@lru_cache(maxsize=65536)
def parse_nano(text: str) -> int:
    """The quantity in nano-units; what is finer is rounded up, as Kubernetes does.

    Raises:
        QuantityError: `malformed-quantity`, or `negative-quantity`.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise QuantityError(f"{text!r} is not a Kubernetes quantity", reason="malformed-quantity")
    sign, whole, fraction, binary, decimal, exponent = match.groups()
    digits, places = int((whole or "") + (fraction or "")), len(fraction or "")
    power = _DECIMAL[decimal] if decimal else int(exponent) if exponent else 0
    if abs(power) > MAX_EXPONENT:
        raise QuantityError(f"the exponent of {text!r} is past {MAX_EXPONENT}", reason="malformed-quantity")
    if sign == "-" and digits:
        raise QuantityError(f"{text!r} is negative", reason="negative-quantity")
    if binary:
        digits <<= _BINARY[binary]
    shift = power - places + 9
    scale: int = 10 ** abs(shift)
    return digits * scale if shift >= 0 else -(-digits // scale)
