/* bce_with_logits: the binary cross-entropy of sigmoid(x) with t from 0 to 1, whose part t weighs p.
 *
 *   value = sum or mean of w ((1 - t) max(x, 0) + p t max(-x, 0) + m log(1 + exp(-|x|))),  m = 1 + (p - 1) t
 *   grad  = (sigmoid(x) m - p t) share       share = w, or w / sum of w for the mean
 *
 * Arrays and bytes are those of mse, and 4 bytes more to look at the targets beforehand; p = 1, or that of the
 * element's class from weight (classes). */

/* One term of the value. */
INLINE double TYPED(bce_term)(real x, real t, real p, real *slope)
{
    real size = ABS(x), small = TYPED(exp)(-size);
    real positive = p * t, mixed = p == 1 ? 1 : 1 + (p - 1) * t;
    real against = x > 0 ? 1 - t : positive;
    /* Where the target agrees with an infinite x, nothing is lost, rather than 0 times infinity. */
    real linear = against * size;
    linear = against == 0 ? 0 : linear;
    *slope = (x < 0 ? small : 1) / (1 + small) * mixed - positive;
    return (double)(linear + mixed * TYPED(log1p)(small));
}

/* By blocks: partial[block] = how many of its targets are not from 0 to 1, NaN aside. */
static void TYPED(bce_with_logits_count_outside)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t block = begin; block < end; block++) {
        const real *t = a->target;
        ptrdiff_t last = loss_block_end(a, block);
        int count = 0;
        for (ptrdiff_t i = block * a->block_rows; i < last; i++)
            count += (t[i] < 0) | (t[i] > 1);
        a->partial[block] = count;
    }
}

/* By blocks of elements. */
static void TYPED(bce_with_logits)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(element_loss)(a, begin, end, TYPED(bce_term), true, 1, 1);
}
