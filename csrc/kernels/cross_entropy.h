/* cross_entropy: softmax cross-entropy with integer labels t.
 *
 *   value      = sum or mean over rows of  log(sum_c exp(x_c - m)) - (x_t - m),  m = max_c x_c
 *   grad_c     = softmax_c share             share = 1, or 1 / N for the mean
 *   grad_t    -= share
 *
 * x prediction (N, C), t target (N) in, grad (N, C) out. Rows may be short: exp and log, the work, run
 * over a block of rows as over one. Bytes per element in float32: 8. */

INLINE real TYPED(row_max)(const real *restrict x, ptrdiff_t n)
{
    real lane[LOSS_LANES], most = x[0];
    ptrdiff_t i = LOSS_LANES;
    if (n < LOSS_LANES)
        i = 1;
    else {
        memcpy(lane, x, sizeof lane);
        for (; i + LOSS_LANES <= n; i += LOSS_LANES)
            for (int l = 0; l < LOSS_LANES; l++)
                lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
        for (int half = LOSS_LANES / 2; half > 0; half /= 2)
            for (int l = 0; l < half; l++)
                lane[l] = lane[l] > lane[l + half] ? lane[l] : lane[l + half];
        most = lane[0];
    }
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

INLINE double TYPED(sum)(const real *restrict x, ptrdiff_t n)
{
    double lane[LOSS_LANES] = {0}, sum = 0;
    ptrdiff_t i = 0;
    if (n >= LOSS_LANES) {
        for (; i + LOSS_LANES <= n; i += LOSS_LANES)
            for (int l = 0; l < LOSS_LANES; l++)
                lane[l] += (double)x[i + l];
        sum = sum_lanes(lane);
    }
    for (; i < n; i++)
        sum += (double)x[i];
    return sum;
}

/* By blocks of rows. */
static void TYPED(cross_entropy)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const loss_args *a = args;
    ptrdiff_t classes = a->classes;
    real share = (real)loss_share(a, 1), total[LOSS_BLOCK_ROWS], term[LOSS_BLOCK_ROWS];
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first;
        const real *restrict x = (const real *)a->prediction + first * classes;
        const int64_t *restrict target = (const int64_t *)a->target + first;
        real *restrict grad = (real *)a->grad + first * classes;
        for (ptrdiff_t r = 0; r < n; r++) {
            real most = TYPED(row_max)(x + r * classes, classes);
            for (ptrdiff_t c = 0; c < classes; c++)
                grad[r * classes + c] = x[r * classes + c] - most;
            term[r] = grad[r * classes + target[r]];
        }
        for (ptrdiff_t i = 0; i < n * classes; i++)
            grad[i] = TYPED(exp)(grad[i]);
        for (ptrdiff_t r = 0; r < n; r++)
            total[r] = (real)TYPED(sum)(grad + r * classes, classes);
        for (ptrdiff_t r = 0; r < n; r++)
            term[r] = TYPED(log)(total[r]) - term[r];
        a->partial[block] = TYPED(sum)(term, n);
        for (ptrdiff_t r = 0; r < n; r++) {
            real scale = share / total[r];
            for (ptrdiff_t c = 0; c < classes; c++)
                grad[r * classes + c] *= scale;
            grad[r * classes + target[r]] -= share;
        }
    }
}
