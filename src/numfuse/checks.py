import math
import operator


def real(name, value):
    """Whatever is a number to float(), such as an array without dimensions, as a float; TypeError for anything else.

    It may be NaN, and is infinite if it is too large.
    """
    if type(value) is float:
        return value
    try:
        # float() takes texts and truth values, too, which are mistakes, parts of complex numbers, and arrays of one.
        kind = value.dtype.kind if hasattr(value, "dtype") else "f"
        if isinstance(value, (bool, str, bytes, bytearray)) or kind not in "iuf" or getattr(value, "ndim", 0):
            raise TypeError
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, was {value!r}") from None


def finite(name, value):
    """`value` as a finite float of either sign; TypeError if it is no number, ValueError if it is not finite."""
    x = real(name, value)
    if not math.isfinite(x):
        raise ValueError(f"{name} must be finite, was {value!r}")
    return x


def number(name, value, high=math.inf, below=math.inf, positive=False):
    """`value` as a finite float of at least 0, or above it if `positive`, at most `high` and less than `below`.

    TypeError if it is no number, ValueError if it is another one; both begin with `name`.
    """
    x = real(name, value)
    if 0 <= x <= high and x < below and not (positive and x == 0):
        return x
    if positive:
        wanted = "> 0 and finite"
    elif high < math.inf:
        wanted = f"from 0 to {high}"
    else:
        wanted = ">= 0" if x < 0 else ">= 0 and finite" if below == math.inf else f">= 0 and < {below}"
    raise ValueError(f"{name} must be {wanted}, was {value!r}")


def integer(name, value, low):
    """`value` as an int of at least `low`; TypeError if it is no integer, ValueError if it is less."""
    try:
        n = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, was {value!r}") from None
    if n < low:
        raise ValueError(f"{name} must be at least {low}, was {n}")
    return n
