/* Batch normalisation of arrays whose channels lie side by side, such as (N, C) and (N, H, W, C), in
 * three jobs: sums of blocks of rows; sums of blocks put together, by channels; the rows themselves.
 *
 * Bytes per element in float32: forward 12, inference 8, backward 20; 8 and 12 where x stays in cache. */

/* Rows are added to a channel's running sum four at a time, which saves most of its loads and stores. */
enum { TYPED(ROWS_AT_ONCE) = 4 };

INLINE const real *TYPED(row)(view v, ptrdiff_t inner, ptrdiff_t index)
{
    return (const real *)v.data + index / inner * v.outer_stride + index % inner * v.inner_stride;
}

INLINE ptrdiff_t TYPED(block_end)(const batch_norm_args *a, ptrdiff_t block)
{
    ptrdiff_t rows = a->outer * a->inner, end = (block + 1) * BATCH_NORM_BLOCK_ROWS;
    return end < rows ? end : rows;
}

INLINE void TYPED(add_row_moments)(const batch_norm_args *a, ptrdiff_t first, int n, const real *restrict shift,
                                   double *restrict sum, double *restrict squares)
{
    const real *x[TYPED(ROWS_AT_ONCE)];
    for (int k = 0; k < n; k++)
        x[k] = TYPED(row)(a->x, a->inner, first + k);
#pragma omp simd
    for (ptrdiff_t c = 0; c < a->channels; c++) {
        double s = 0, q = 0, around = TYPED(shift_of)(shift[c]);
        for (int k = 0; k < n; k++) {
            double d = (double)x[k][c] - around;
            s += d;
            q += d * d;
        }
        sum[c] += s;
        squares[c] += q;
    }
}

/* By blocks of rows: partial[block] = means, and sums of squared deviations, of the block's channels. */
static void TYPED(batch_norm_row_moments)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    for (ptrdiff_t block = begin; block < end; block++) {
        double *restrict mean = a->partial + block * 2 * a->channels, *restrict squares = mean + a->channels;
        ptrdiff_t first = block * BATCH_NORM_BLOCK_ROWS, last = TYPED(block_end)(a, block), r = first;
        const real *shift = TYPED(row)(a->x, a->inner, first);
        memset(mean, 0, (size_t)(2 * a->channels) * sizeof *mean);
        for (; r + TYPED(ROWS_AT_ONCE) <= last; r += TYPED(ROWS_AT_ONCE))
            TYPED(add_row_moments)(a, r, TYPED(ROWS_AT_ONCE), shift, mean, squares);
        for (; r < last; r++)
            TYPED(add_row_moments)(a, r, 1, shift, mean, squares);
        for (ptrdiff_t c = 0; c < a->channels; c++) {
            TYPED(moments) m =
                TYPED(moments_around)(TYPED(shift_of)(shift[c]), (double)(last - first), mean[c], squares[c]);
            mean[c] = m.mean;
            squares[c] = m.squares;
        }
    }
}

INLINE void TYPED(store_affine)(const batch_norm_args *a, ptrdiff_t channel, TYPED(affine) c)
{
    real *coefficients = (real *)a->coefficients + channel;
    coefficients[0] = c.high;
    coefficients[a->channels] = c.low;
    coefficients[2 * a->channels] = c.scale;
    coefficients[3 * a->channels] = c.bias;
}

/* By channels: statistics and coefficients from the blocks' moments. */
static void TYPED(batch_norm_merge_moments)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    ptrdiff_t rows = a->outer * a->inner;
    double count = (double)rows;
    double *restrict mean = a->partial, *restrict squares = mean + a->channels;
    for (ptrdiff_t block = 1; block * BATCH_NORM_BLOCK_ROWS < rows; block++) {
        const double *restrict next_mean = a->partial + block * 2 * a->channels;
        const double *restrict next_squares = next_mean + a->channels;
        ptrdiff_t first = block * BATCH_NORM_BLOCK_ROWS;
        double before = (double)first, n = (double)(TYPED(block_end)(a, block) - first);
        for (ptrdiff_t c = begin; c < end; c++) {
            TYPED(moments) m = TYPED(merge)((TYPED(moments)){before, mean[c], squares[c]},
                                            (TYPED(moments)){n, next_mean[c], next_squares[c]});
            mean[c] = m.mean;
            squares[c] = m.squares;
        }
    }
    for (ptrdiff_t c = begin; c < end; c++)
        TYPED(store_affine)(
            a, c, TYPED(finish_moments)(a, c, (TYPED(moments)){count, rows ? mean[c] : 0, rows ? squares[c] : 0}));
}

/* By channels: coefficients from the running statistics. */
static void TYPED(batch_norm_prepare_inference)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    for (ptrdiff_t c = begin; c < end; c++)
        TYPED(store_affine)(a, c, TYPED(inference_affine)(a, c));
}

/* By rows: y from x and the coefficients. */
static void TYPED(batch_norm_normalize_rows)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    const real *high = a->coefficients, *low = high + a->channels, *scale = low + a->channels,
               *bias = scale + a->channels;
    for (ptrdiff_t r = begin; r < end; r++) {
        const real *x = TYPED(row)(a->x, a->inner, r);
        real *y = (real *)TYPED(row)(a->y, a->inner, r);
        if (a->bias) {
#pragma omp simd
            for (ptrdiff_t c = 0; c < a->channels; c++)
                y[c] = ((x[c] - high[c]) - low[c]) * scale[c] + bias[c];
        } else {
#pragma omp simd
            for (ptrdiff_t c = 0; c < a->channels; c++)
                y[c] = ((x[c] - high[c]) - low[c]) * scale[c];
        }
    }
}

INLINE void TYPED(add_row_products)(const batch_norm_args *a, ptrdiff_t first, int n, double *restrict sum,
                                    double *restrict product)
{
    const real *x[TYPED(ROWS_AT_ONCE)], *g[TYPED(ROWS_AT_ONCE)];
    const double *restrict mean = a->mean;
    for (int k = 0; k < n; k++) {
        x[k] = TYPED(row)(a->x, a->inner, first + k);
        g[k] = TYPED(row)(a->grad_y, a->inner, first + k);
    }
#pragma omp simd
    for (ptrdiff_t c = 0; c < a->channels; c++) {
        double s = 0, q = 0;
        for (int k = 0; k < n; k++) {
            double gradient = (double)g[k][c];
            s += gradient;
            q += gradient * ((double)x[k][c] - mean[c]);
        }
        sum[c] += s;
        product[c] += q;
    }
}

/* By blocks of rows: partial[block] = sums of g, and of g * (x - mean), of the block's channels. */
static void TYPED(batch_norm_row_sums)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    for (ptrdiff_t block = begin; block < end; block++) {
        double *restrict sum = a->partial + block * 2 * a->channels, *restrict product = sum + a->channels;
        ptrdiff_t r = block * BATCH_NORM_BLOCK_ROWS, last = TYPED(block_end)(a, block);
        memset(sum, 0, (size_t)(2 * a->channels) * sizeof *sum);
        for (; r + TYPED(ROWS_AT_ONCE) <= last; r += TYPED(ROWS_AT_ONCE))
            TYPED(add_row_products)(a, r, TYPED(ROWS_AT_ONCE), sum, product);
        for (; r < last; r++)
            TYPED(add_row_products)(a, r, 1, sum, product);
    }
}

/* By channels: grad_weight, grad_bias and coefficients from the blocks' sums. */
static void TYPED(batch_norm_merge_sums)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    ptrdiff_t rows = a->outer * a->inner;
    double *restrict sum = a->partial, *restrict product = sum + a->channels;
    for (ptrdiff_t block = 1; block * BATCH_NORM_BLOCK_ROWS < rows; block++) {
        const double *restrict next = a->partial + block * 2 * a->channels;
        for (ptrdiff_t c = begin; c < end; c++) {
            sum[c] += next[c];
            product[c] += next[a->channels + c];
        }
    }
    for (ptrdiff_t c = begin; c < end; c++) {
        TYPED(gradient) g = TYPED(finish_sums)(a, c, rows ? sum[c] : 0, rows ? product[c] : 0);
        real *coefficients = (real *)a->coefficients + c;
        coefficients[0] = g.high;
        coefficients[a->channels] = g.low;
        coefficients[2 * a->channels] = g.average;
        coefficients[3 * a->channels] = g.slope;
        coefficients[4 * a->channels] = g.scale;
    }
}

/* By rows: grad_x from grad_y, x and the coefficients. */
static void TYPED(batch_norm_grad_rows)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    const real *high = a->coefficients, *low = high + a->channels, *average = low + a->channels;
    const real *slope = average + a->channels, *scale = slope + a->channels;
    for (ptrdiff_t r = begin; r < end; r++) {
        const real *x = TYPED(row)(a->x, a->inner, r), *g = TYPED(row)(a->grad_y, a->inner, r);
        real *y = (real *)TYPED(row)(a->grad_x, a->inner, r);
        if (!a->training) {
#pragma omp simd
            for (ptrdiff_t c = 0; c < a->channels; c++)
                y[c] = g[c] * scale[c];
            continue;
        }
#pragma omp simd
        for (ptrdiff_t c = 0; c < a->channels; c++) {
            real d = (x[c] - high[c]) - low[c];
            y[c] = ((g[c] - average[c]) - d * slope[c]) * scale[c];
        }
    }
}
