/* bce_with_logits: the binary cross-entropy of sigmoid(x) with t from 0 to 1.
 *
 *   value = sum or mean of (1 - t) max(x, 0) + t max(-x, 0) + log(1 + exp(-|x|))
 *   grad  = (sigmoid(x) - t) share           share = 1, or 1 / n for the mean
 *
 * x prediction (n), t target (n) in, grad (n) out. Bytes per element in float32: 12, and 4 to look at
 * the targets beforehand. */

/* One term of the value. */
INLINE real TYPED(bce_term)(real x, real t, real share, real *grad)
{
    real size = ABS(x), small = TYPED(exp)(-size);
    real against = x > 0 ? 1 - t : t;
    /* Where the target agrees with an infinite x, nothing is lost, rather than 0 times infinity. */
    real linear = against * size;
    linear = against == 0 ? 0 : linear;
    *grad = ((x < 0 ? small : 1) / (1 + small) - t) * share;
    return linear + TYPED(log1p)(small);
}

/* By blocks: partial[block] = how many of its targets are not from 0 to 1, NaN aside. */
static void TYPED(count_outside)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const loss_args *a = args;
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
static void TYPED(bce_with_logits)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const loss_args *a = args;
    real share = (real)loss_share(a, 1), term[LOSS_BLOCK];
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first;
        const real *restrict x = (const real *)a->prediction + first, *restrict t = (const real *)a->target + first;
        real *restrict grad = (real *)a->grad + first;
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            term[i] = TYPED(bce_term)(x[i], t[i], share, grad + i);
        a->partial[block] = TYPED(sum)(term, n);
    }
}
