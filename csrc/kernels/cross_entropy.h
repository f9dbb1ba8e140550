/* cross_entropy: softmax cross-entropy with integer labels t.
 *
 *   value      = sum or mean over rows of  log(sum_c exp(x_c - m)) - (x_t - m),  m = max_c x_c
 *   grad_c     = softmax_c share             share = 1, or 1 / N for the mean
 *   grad_t    -= share
 *
 * x prediction (N, C), t target (N) in, grad (N, C) out. Bytes per element in float32: 8. */

/* For n >= LANES. */
INLINE real TYPED(row_max)(const real *restrict x, ptrdiff_t n)
{
    real lane[LANES];
    ptrdiff_t i = LANES;
    memcpy(lane, x, sizeof lane);
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (int l = 0; l < n - i; l++)
        lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] = lane[l] > lane[l + half] ? lane[l] : lane[l + half];
    return lane[0];
}

/* What a block of n rows comes to: y = exp(x - m), its sum `total` and `chosen` = x_t - m of each row. */
INLINE void TYPED(exp_rows)(const real *restrict x, const int64_t *restrict target, ptrdiff_t n, ptrdiff_t classes,
                            real *restrict y, real *restrict total, real *restrict chosen)
{
    for (ptrdiff_t r = 0; r < n; r++) {
        real most = TYPED(row_max)(x + r * classes, classes);
        chosen[r] = x[r * classes + target[r]] - most;
        for (ptrdiff_t c = 0; c < classes; c++)
            y[r * classes + c] = TYPED(exp)(x[r * classes + c] - most);
        total[r] = (real)TYPED(sum)(y + r * classes, classes);
    }
}

/* The same of short rows, with y as (classes, n): loops over rows are long. */
INLINE void TYPED(exp_columns)(const real *restrict x, const int64_t *restrict target, ptrdiff_t n, ptrdiff_t classes,
                               real *restrict y, real *restrict total, real *restrict chosen)
{
    real most[LOSS_BLOCK_ROWS];
    double sum[LOSS_BLOCK_ROWS] = {0};
    for (ptrdiff_t c = 0; c < classes; c++)
        for (ptrdiff_t r = 0; r < n; r++)
            y[c * n + r] = x[r * classes + c];
    memcpy(most, y, (size_t)n * sizeof *most);
    for (ptrdiff_t c = 1; c < classes; c++)
        for (ptrdiff_t r = 0; r < n; r++)
            most[r] = y[c * n + r] > most[r] ? y[c * n + r] : most[r];
    for (ptrdiff_t r = 0; r < n; r++)
        chosen[r] = y[target[r] * n + r] - most[r];
    for (ptrdiff_t c = 0; c < classes; c++)
        for (ptrdiff_t r = 0; r < n; r++) {
            y[c * n + r] = TYPED(exp)(y[c * n + r] - most[r]);
            sum[r] += (double)y[c * n + r];
        }
    for (ptrdiff_t r = 0; r < n; r++)
        total[r] = (real)sum[r];
}

/* By blocks of rows. */
static void TYPED(cross_entropy)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const loss_args *a = args;
    ptrdiff_t classes = a->classes;
    real share = (real)loss_share(a, 1), y[LOSS_BLOCK], total[LOSS_BLOCK_ROWS], term[LOSS_BLOCK_ROWS];
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first;
        const real *x = (const real *)a->prediction + first * classes;
        const int64_t *target = (const int64_t *)a->target + first;
        real *restrict grad = (real *)a->grad + first * classes;
        bool columns = classes < LANES;
        if (columns)
            TYPED(exp_columns)(x, target, n, classes, y, total, term);
        else
            TYPED(exp_rows)(x, target, n, classes, grad, total, term);
        for (ptrdiff_t r = 0; r < n; r++)
            term[r] = TYPED(log)(total[r]) - term[r];
        a->partial[block] = TYPED(sum)(term, n);
        for (ptrdiff_t r = 0; r < n; r++)
            total[r] = share / total[r];
        if (columns)
            for (ptrdiff_t c = 0; c < classes; c++)
                for (ptrdiff_t r = 0; r < n; r++)
                    grad[r * classes + c] = y[c * n + r] * total[r];
        else
            for (ptrdiff_t r = 0; r < n; r++)
                for (ptrdiff_t c = 0; c < classes; c++)
                    grad[r * classes + c] *= total[r];
        for (ptrdiff_t r = 0; r < n; r++)
            grad[r * classes + target[r]] -= share;
    }
}
