/* mse: the squared error.
 *
 *   value = sum or mean of (x - t)^2
 *   grad  = 2 (x - t) share                  share = 1, or 1 / n for the mean
 *
 * x prediction (n), t target (n) in, grad (n) out. Bytes per element in float32: 12. */

/* One term of the value. */
INLINE double TYPED(mse_term)(real x, real t, real twice_share, real *grad)
{
    real difference = x - t;
    *grad = difference * twice_share;
    return (double)difference * (double)difference;
}

/* By blocks of elements. */
static void TYPED(mse)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const loss_args *a = args;
    real twice_share = (real)loss_share(a, 2);
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first, i = 0;
        const real *restrict x = (const real *)a->prediction + first, *restrict t = (const real *)a->target + first;
        real *restrict grad = (real *)a->grad + first;
        double lane[LANES] = {0};
        for (; i + LANES <= n; i += LANES)
#pragma omp simd
            for (int l = 0; l < LANES; l++)
                lane[l] += TYPED(mse_term)(x[i + l], t[i + l], twice_share, grad + i + l);
        for (int l = 0; l < n - i; l++)
            lane[l] += TYPED(mse_term)(x[i + l], t[i + l], twice_share, grad + i + l);
        a->partial[block] = sum_lanes(lane);
    }
}
