"""Philox4x32 in Python's integers."""

from functools import cache


@cache
def philox(counter, key, rounds=10):
    """Philox4x32 as Salmon et al. (2011) write it, for one counter, in Python's integers."""
    (a, b, c, d), (k, l) = counter, key
    for _ in range(rounds):
        high0, low0 = divmod(0xD2511F53 * a, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c, 2**32)
        a, b, c, d = high1 ^ b ^ k, low1, high0 ^ d ^ l, low0
        k, l = (k + 0x9E3779B9) % 2**32, (l + 0xBB67AE85) % 2**32
    return a, b, c, d
