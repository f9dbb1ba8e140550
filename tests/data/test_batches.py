import numpy as np
import pytest

from numfuse.data import batches, split_rows


@pytest.mark.parametrize("n, size, sizes", [
    (0, 4, []), (1, 4, [1]), (4, 4, [4]), (5, 4, [5]), (6, 4, [4, 2]), (9, 4, [4, 5]), (3, 1, [1, 2]),
])
def test_batches_never_end_with_one_row_alone(n, size, sizes):
    assert [len(y) for _, y in batches(np.zeros((n, 2)), np.zeros(n), size)] == sizes


def test_batches_hold_every_row_once_in_an_order_drawn_from_rng():
    x, y = np.arange(50)[:, None] * 2, np.arange(50)
    orders = []
    for seed in (0, 0, 1):
        parts = list(batches(x, y, 8, np.random.default_rng(seed)))
        assert all(np.array_equal(x[:, 0], y * 2) for x, y in parts)
        orders.append(np.concatenate([y for _, y in parts]))
        np.testing.assert_array_equal(np.sort(orders[-1]), y)
    assert np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[0], orders[2])


@pytest.mark.parametrize("n, share, taken", [(50, 0.2, 10), (53, 0.2, 10), (100, 0.29, 29), (10, 0.7, 7), (7, 0.5, 3)])
def test_a_share_of_every_label_is_set_aside(n, share, taken):
    y = np.random.default_rng(1).integers(3, size=n)
    kept, aside = split_rows(y, share, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.r_[kept, aside]), np.arange(n))
    assert len(aside) == taken and (np.diff(kept) > 0).all() and (np.diff(aside) > 0).all()
    # In sorted order a label covers a stretch of pieces of each of which one row is taken, and parts of two.
    assert (np.abs(np.bincount(y[aside], minlength=3) - np.bincount(y, minlength=3) * share) <= 2).all()
    other = split_rows(y, share, np.random.default_rng(1))[1]
    assert not np.array_equal(aside, other)


def test_every_row_of_a_piece_may_be_set_aside():
    """In the order of y, pieces of ten rows: over 20 seeds each place in them is taken from each half of the rows."""
    y = np.random.default_rng(0).permutation(100)
    places = set()
    for seed in range(20):
        taken = np.sort(y[split_rows(y, 0.1, np.random.default_rng(seed))[1]])
        np.testing.assert_array_equal(taken // 10, np.arange(10))
        places |= {(value // 50, value % 10) for value in taken.tolist()}
    assert len(places) == 20


@pytest.mark.parametrize("share", [0, 1, -0.5, 1.5, 0.01, float("nan")])
def test_a_share_of_no_row_or_all(share):
    with pytest.raises(ValueError, match="share of 10 rows .* must be below 1 and come to a row"):
        split_rows(np.zeros(10), share, np.random.default_rng(0))
