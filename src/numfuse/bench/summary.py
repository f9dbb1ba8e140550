"""The outcome of a run in a few sentences, those that tell against numfuse first."""

import numpy as np

from .results import ONE_GROUP, ratio, rivals
from .texts import NAMES, few, ratio_text, row_text

NUMPY = "textbook", "in_place"


def summary(run):
    """A line for NumPy, which names all rows where it is faster, and one for each other library."""
    rows = [row for row in run["rows"] if not row["busy"] and "native" in row.get("seconds", {})]
    lines, sources = [], {}
    for rival in rivals(*rows):
        if rival != ONE_GROUP:
            sources.setdefault("numpy" if rival in NUMPY else rival.split()[0], []).append(rival)
    for source, forms in sources.items():
        ratios = {}
        for row in rows:
            known = [ratio(row, form)[0] for form in forms if form in row["seconds"]]
            if known:
                ratios[row_text(row, rows)] = min(known)
        ahead = [f"{row} ({ratio_text(factor)})" for row, factor in ratios.items() if factor < 1]
        which = f": {', '.join(ahead) if source == 'numpy' else few(ahead)}" if ahead else ""
        lines.append(f"{NAMES.get(source, source)} is faster in {len(ahead) or 'none'} of {len(ratios)} rows{which}. "
                     f"In the median it takes {ratio_text(float(np.median([*ratios.values()])))} numfuse's time.")
    return lines
