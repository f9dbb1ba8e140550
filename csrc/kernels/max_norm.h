/* max_norm: the incoming weights of every unit, a row, scaled down to an L2 norm (Srivastava et al. 2014, section 5.1).
 *
 *   n = sqrt(sum(p * p))
 *   p = p * (max_norm / n)                      (where n > max_norm)
 *   e = e + (1 - ema_decay) * (p - e)           (with ema_params)
 *
 * Arrays that are not limited have their averages taken only.
 *
 * param p (rows, length) in and out, ema_param e (rows, length) in and out.
 * Bytes per element in float32: 4, in cache 4 more; of rows that are scaled 8; 8 more with ema_params. */

INLINE void TYPED(scale_row)(real *restrict p, ptrdiff_t n, double factor)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        p[i] *= (real)factor;
}

INLINE void TYPED(limit_row)(real *restrict p, ptrdiff_t n, double max_norm)
{
    const double unit = 0x1p-600; /* of rows whose squares overflow */
    double norm = sqrt(TYPED(sum_of_squares)(p, n, 1)), limit = max_norm;
    bool is_huge = norm == INFINITY;
    if (is_huge) {
        norm = sqrt(TYPED(sum_of_squares)(p, n, unit));
        limit *= unit;
    }
    if (!(norm > limit))
        return;
    if (is_huge)
        TYPED(scale_row)(p, n, unit);
    TYPED(scale_row)(p, n, max_norm / norm);
}

static void TYPED(max_norm)(const max_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    real gain = (real)(1 - a->ema_decay);
    ptrdiff_t i = find_tensor(&a->rows, begin);
    for (ptrdiff_t row = begin; row < end; row++) {
        while (row >= a->rows.offsets[i + 1])
            i++;
        ptrdiff_t n = a->lengths[i];
        tensor_part part = {i, (row - a->rows.offsets[i]) * n, n};
        real *p = TYPED(array_from)(a->params, part), *e = TYPED(array_from)(a->ema_params, part);
        if (a->limited[i])
            TYPED(limit_row)(p, n, a->max_norm);
        if (e)
            TYPED(average)(e, p, n, gain);
    }
}
