import numpy as np

from numfuse.data.rows import Rows


def test_rows_of_quantities_are_split_by_their_first_column():
    y = np.random.default_rng(0).standard_normal((100, 2))
    kept, aside = Rows(None, np.arange(100.0)[:, None], y).split(0.1, np.random.default_rng(0))
    assert (len(kept), len(aside)) == (90, 10)
    # One of every ten in sorted order.
    order = np.argsort(np.argsort(y[:, 0]))[aside.x[:, 0].astype(int)]
    assert sorted(order // 10) == list(range(10))
