"""Words and numbers for people, of a run, its rows and its rivals."""

from .results import ARITHMETIC, KNOWN, PRODUCTS, data, limit, share_of_limit

LABELS = {"native": "numfuse", "textbook": "NumPy", "in_place": "in place"}
NAMES = {"numpy": "NumPy", "python": "Python", "textbook": "NumPy", "in_place": "NumPy in place",
         "torch": "PyTorch", "jax": "JAX", "numba": "Numba", "sklearn": "scikit-learn", "keras": "Keras"}


def machine_line(run):
    """CPU, system and versions in one line."""
    versions = ", ".join(f"{NAMES.get(name, name)} {version}" for name, version in run["versions"].items())
    return f"{run['machine']['cpu']}, {run['machine'].get('system', '')}; {versions}"


def fixed(rows, name):
    """What all rows have under that name, or None where they differ."""
    values = {row[name] for row in rows}
    return values.pop() if len(values) == 1 else None


def ordered(rows):
    """The rows of each case together, by size and threads."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    return sorted(rows, key=lambda row: (cases.index(row["case"]), row["elements"], row["threads"]))


def label(rival):
    """What a rival is called in a heading or a legend."""
    return LABELS.get(rival, rival)


def shape_text(row):
    """The row's shape for people: 64 Ki, 1024x1024, or the layers' sizes of a net."""
    shape = row["shape"]
    if row["group"] == "training steps":
        return f"{'-'.join(map(str, shape[1:]))} batch {shape[0]}"
    if len(shape) != 1 or shape[0] < 1024:
        return "x".join(map(str, shape))
    for unit, name in ((1 << 30, " Gi"), (1 << 20, " Mi"), (1 << 10, " Ki"), (1, "")):
        if shape[0] % unit == 0:
            return f"{shape[0] // unit}{name}"


def row_text(row, rows):
    """What sets a row apart from the others: case, shape, and what of the rest is not the same in all."""
    words = [row["case"], shape_text(row)]
    words += [row[name] for name in ("dtype", "isa") if fixed(rows, name) is None]
    return " ".join(words + ([f"threads {row['threads']}"] if fixed(rows, "threads") is None else []))


def time_text(seconds):
    """A time with three digits and its unit."""
    if seconds is None:
        return ""
    for unit, name in ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms")):
        if seconds < 999.5 * unit:
            return f"{_digits(seconds / unit)} {name}"
    return f"{_digits(seconds)} s"


def ratio_text(value):
    """A ratio with three digits, or none."""
    return "" if value is None else f"{_digits(value)}x"


def limit_text(row):
    """The share of the limit that a row reaches, and which one it is."""
    share, name = share_of_limit(row), limit(row)
    if share is None:
        return ""
    if share > KNOWN:
        return "not known"
    names = {ARITHMETIC: "arithmetic", PRODUCTS: "products"}
    return f"{percent_text(share)} {names.get(name) or data(row) or 'memory'}"


def percent_text(share):
    """A share as a percentage, or none."""
    return "" if share is None else f"{share:.0%}"


def _digits(value):
    return f"{value:#.3g}" if value < 99.95 else f"{value:.0f}"


def few(names):
    """The first of some names."""
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} more"
