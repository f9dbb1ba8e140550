"""Which columns of a table a narrow terminal shows."""

from .results import ONE_GROUP, ONE_THREAD

CLOSEST = "closest rival"
LIMIT, WHICH = "of limit", "which limit"
# The order in which columns make room. When a rival's has gone, CLOSEST stands for all rivals.
DISPENSABLE = ["+-", "data", "torch foreach", "in place", "sklearn", "numba", "torch fused", "jax", "torch",
               "NumPy", ONE_GROUP, ONE_THREAD, "vs NumPy"]
OURSELVES = f"vs {ONE_THREAD}", f"vs {ONE_GROUP}"


def is_ahead(heading, cell):
    """Whether the cell is the ratio of someone faster."""
    return bool(cell) and heading.startswith(("vs ", CLOSEST)) and _factor(cell) < 1


def choose(columns, width, width_of):
    """The columns, {heading: cells}, that fit into that many characters, and a list of what was left out.

    width_of : (heading, cells) -> characters that the column takes
    """
    order = sorted((heading for heading in columns if _place(heading) is not None), key=_place)
    for count in range(len(order) + 1):
        chosen = _without(columns, order[:count])
        if sum(width_of(*pair) + 1 for pair in chosen.items()) - 1 <= width:
            return chosen, order[:count]
    if LIMIT in chosen:
        chosen[LIMIT] = [cell.partition(" ")[0] if "%" in cell else "?" * bool(cell) for cell in chosen[LIMIT]]
        order.append(WHICH)
    return chosen, order


def _place(heading):
    for name in (heading, heading.removeprefix("vs ")):
        if name in DISPENSABLE:
            return DISPENSABLE.index(name)


def _without(columns, left_out):
    chosen = {}
    for heading, cells in columns.items():
        if heading.startswith("vs ") and CLOSEST not in chosen and any(map(_is_rival, left_out)):
            chosen[CLOSEST] = _closest(columns)
        if heading not in left_out:
            chosen[heading] = cells
    return chosen


def _closest(columns):
    """The name and the ratio of each row's fastest rival."""
    names = [heading for heading in columns if _is_rival(heading)]
    rows = [[(_factor(cell), f"{name.removeprefix('vs ')} {cell}") for name, cell in zip(names, cells) if cell]
            for cells in zip(*(columns[name] for name in names))]
    return [min(row, default=(0, ""))[1] for row in rows]


def _is_rival(heading):
    return heading.startswith("vs ") and heading not in OURSELVES


def _factor(cell):
    return float(cell.split()[-1].removesuffix("x"))
