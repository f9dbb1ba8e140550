/* softmax_forward, softmax_backward: y_c = exp(x_c - m) / sum_k exp(x_k - m), m = max_c x_c, and its gradient.
 *
 *   grad_x_c = y_c (grad_y_c - sum_k grad_y_k y_k)
 *
 * x, y, grad_y, grad_x (rows, channels). Sums are taken in double, and short rows as in exp_rows.h, forward as
 * columns. Bytes per element in float32: forward 8, backward 12. */

INLINE void TYPED(softmax_row)(const real *x, real *y, ptrdiff_t channels)
{
    real share = 1 / TYPED(exp_row)(x, TYPED(row_max)(x, channels), channels, y);
#pragma omp simd
    for (ptrdiff_t c = 0; c < channels; c++)
        y[c] *= share;
}

INLINE void TYPED(softmax_columns)(const real *x, real *y, ptrdiff_t n, ptrdiff_t channels)
{
    real column[LOSS_BLOCK], most[LOSS_BLOCK_ROWS], share[LOSS_BLOCK_ROWS];
    TYPED(to_columns)(x, n, channels, column);
    TYPED(column_max)(column, n, channels, most);
    TYPED(exp_columns)(column, most, n, channels, share);
    for (ptrdiff_t r = 0; r < n; r++)
        share[r] = 1 / share[r];
    for (ptrdiff_t c = 0; c < channels; c++)
        for (ptrdiff_t r = 0; r < n; r++)
            y[r * channels + c] = column[c * n + r] * share[r];
}

/* How many of the rows are taken together. */
INLINE ptrdiff_t TYPED(softmax_rows)(ptrdiff_t rows, ptrdiff_t channels)
{
    ptrdiff_t most = channels < LANES ? LOSS_BLOCK / channels : 1;
    most = most < LOSS_BLOCK_ROWS ? most : LOSS_BLOCK_ROWS;
    return rows < most ? rows : most;
}

/* By rows. */
static void TYPED(softmax_forward)(const softmax_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t channels = a->channels, n;
    for (ptrdiff_t r = begin; r < end; r += n) {
        const real *x = (const real *)a->x + r * channels;
        real *y = (real *)a->y + r * channels;
        n = TYPED(softmax_rows)(end - r, channels);
        if (channels < LANES)
            TYPED(softmax_columns)(x, y, n, channels);
        else
            TYPED(softmax_row)(x, y, channels);
    }
}

/* The sum of n products in double, in lanes. */
INLINE double TYPED(dot)(const real *a, const real *b, ptrdiff_t n)
{
    wide_double lanes[LANES / WIDE_DOUBLES];
    double sums[LANES];
    ptrdiff_t i = 0;
    for (int v = 0; v < LANES / WIDE_DOUBLES; v++)
        lanes[v] = (wide_double){0};
    for (; i + LANES <= n; i += LANES)
#pragma GCC unroll 16
        for (int v = 0; v < LANES / WIDE_DOUBLES; v++)
            lanes[v] += TYPED(load_wide)(a + i + v * WIDE_DOUBLES) * TYPED(load_wide)(b + i + v * WIDE_DOUBLES);
    memcpy(sums, lanes, sizeof sums);
    for (int l = 0; l < n - i; l++)
        sums[l] += (double)a[i + l] * (double)b[i + l];
    return sum_lanes(sums);
}

INLINE void TYPED(softmax_gradient_row)(const real *y, const real *grad_y, real *grad_x, ptrdiff_t channels)
{
    real sum = (real)TYPED(dot)(grad_y, y, channels);
#pragma omp simd
    for (ptrdiff_t c = 0; c < channels; c++)
        grad_x[c] = y[c] * (grad_y[c] - sum);
}

/* The sums of n short rows, each in the place of every number of its row. They are written `at_once`, a constant, at a
 * time, the last ones over the beginning of the row that comes next. */
INLINE void TYPED(sums_of_short_rows)(const double *restrict product, ptrdiff_t n, ptrdiff_t channels, int at_once,
                                      real *restrict sums)
{
    for (ptrdiff_t r = 0; r < n; r++, product += channels, sums += channels) {
        double sum = 0;
        for (ptrdiff_t c = 0; c < channels; c++)
            sum += product[c];
        for (ptrdiff_t c = 0; c < channels; c += at_once)
            for (int k = 0; k < at_once; k++)
                sums[c + k] = (real)sum;
    }
}

INLINE void TYPED(softmax_gradient_short)(const real *y, const real *grad_y, real *grad_x, ptrdiff_t n,
                                          ptrdiff_t channels)
{
    double product[LOSS_BLOCK];
    real sums[LOSS_BLOCK + 8];
#pragma omp simd
    for (ptrdiff_t i = 0; i < n * channels; i++)
        product[i] = (double)grad_y[i] * (double)y[i];
    if (channels == 2)
        TYPED(sums_of_short_rows)(product, n, 2, 2, sums);
    else
        TYPED(sums_of_short_rows)(product, n, channels, 8, sums);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n * channels; i++)
        grad_x[i] = y[i] * (grad_y[i] - sums[i]);
}

/* By rows. */
static void TYPED(softmax_backward)(const softmax_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t channels = a->channels, n;
    for (ptrdiff_t r = begin; r < end; r += n) {
        const real *y = (const real *)a->y + r * channels, *grad_y = (const real *)a->grad_y + r * channels;
        real *grad_x = (real *)a->grad_x + r * channels;
        n = TYPED(softmax_rows)(end - r, channels);
        if (channels < LANES)
            TYPED(softmax_gradient_short)(y, grad_y, grad_x, n, channels);
        else
            TYPED(softmax_gradient_row)(y, grad_y, grad_x, channels);
    }
}
