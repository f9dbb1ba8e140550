/* exp(x_c - m) and its sum over the channels, m = max_c x_c, of rows (n, channels), as softmax and cross-entropy
 * start. Sums are taken in double: those of short rows, of fewer than LANES channels, from the first channel to the
 * last, of others in lanes. Short rows are copied to columns (channels, n), over which loops are long; n is at most
 * LOSS_BLOCK_ROWS. */

/* For n >= LANES. */
INLINE real TYPED(row_max)(const real *x, ptrdiff_t n)
{
    real lane[LANES];
    ptrdiff_t i = LANES;
    memcpy(lane, x, sizeof lane);
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (int l = 0; l < n - i; l++)
        lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
#pragma GCC unroll 8
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] = lane[l] > lane[l + half] ? lane[l] : lane[l + half];
    return lane[0];
}

/* y = exp(x - most); returns its sum. y may be x. */
INLINE real TYPED(exp_row)(const real *x, real most, ptrdiff_t n, real *y)
{
#pragma omp simd
    for (ptrdiff_t c = 0; c < n; c++)
        y[c] = TYPED(exp)(x[c] - most);
    return (real)TYPED(sum)(y, n);
}

INLINE void TYPED(to_columns)(const real *restrict x, ptrdiff_t n, ptrdiff_t channels, real *restrict column)
{
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t r = 0; r < n; r++)
            column[c * n + r] = x[r * channels + c];
}

INLINE void TYPED(column_max)(const real *restrict column, ptrdiff_t n, ptrdiff_t channels, real *restrict most)
{
    memcpy(most, column, (size_t)n * sizeof *most);
    for (ptrdiff_t c = 1; c < channels; c++)
        for (ptrdiff_t r = 0; r < n; r++)
            most[r] = column[c * n + r] > most[r] ? column[c * n + r] : most[r];
}

/* column = exp(column - most), and its sums. */
INLINE void TYPED(exp_columns)(real *restrict column, const real *restrict most, ptrdiff_t n, ptrdiff_t channels,
                               real *restrict total)
{
    double sum[LOSS_BLOCK_ROWS] = {0};
    for (ptrdiff_t c = 0; c < channels; c++)
#pragma omp simd
        for (ptrdiff_t r = 0; r < n; r++) {
            column[c * n + r] = TYPED(exp)(column[c * n + r] - most[r]);
            sum[r] += (double)column[c * n + r];
        }
    for (ptrdiff_t r = 0; r < n; r++)
        total[r] = (real)sum[r];
}
