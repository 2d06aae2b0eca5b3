"""Natural logarithms of whole numbers in fixed point, from a table of 33 constants and integer arithmetic only.

kube-scheduler weighs soft topology spread by ln(domains + 2) in floating point. Here the classical shift-and-add method
is used: the number is brought down to 1 by factors (1 + 2^-k) whose logarithms stand in the table.
"""

from functools import lru_cache

#: Binary places of the result.
PLACES = 20
_SCALE = 40
_LN_2 = 762123384786
#: round(2^40 * ln(1 + 2^-k)) for k = 1 .. 32
_LN_FACTORS = (
    445813601022,
    245348929333,
    129503817259,
    66657476617,
    33833796510,
    17047033376,
    8556553905,
    4286600470,
    2145389223,
    1073217877,
    536739883,
    268402693,
    134209537,
    67106816,
    33553920,
    16777088,
    8388576,
    4194296,
    2097150,
    1048576,
    524288,
    262144,
    131072,
    65536,
    32768,
    16384,
    8192,
    4096,
    2048,
    1024,
    512,
    256,
)


@lru_cache(maxsize=65536)
def logarithm(number: int) -> int:
    """floor(2^20 * ln(number)), right to within 2, for 1 <= number < 2^32."""
    assert 1 <= number < 1 << 32
    exponent = number.bit_length() - 1
    rest = number << (_SCALE + 20 - exponent)
    total, product = exponent * _LN_2, 1 << (_SCALE + 20)
    for k, value in enumerate(_LN_FACTORS, 1):
        grown = product + (product >> k)
        if grown <= rest:
            product = grown
            total += value
    return total >> (_SCALE - PLACES)
