/* bias_forward, bias_backward: the bias after a matrix product, and its gradient.
 *
 *   y = x + bias
 *   grad_bias = sum of grad_y over the rows
 *
 * x, y, grad_y (rows, channels), bias, grad_bias (channels). Elements are taken by rows of `period` elements, a
 * multiple of the channels: the bias is read from a copy that goes on periodically for that long, and sums are kept
 * for each of them. Bytes per element in float32: 8; backward 4. */

/* By elements. */
static void TYPED(bias_forward)(const bias_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t i = begin, n; i < end; i += n) {
        ptrdiff_t column = i % a->period;
        const real *x = (const real *)a->x + i, *bias = (const real *)a->bias + column;
        real *y = (real *)a->y + i;
        n = a->period - column < end - i ? a->period - column : end - i;
#pragma omp simd
        for (ptrdiff_t j = 0; j < n; j++)
            y[j] = x[j] + bias[j];
    }
}

/* sums[l] += the sum of `rows` rows' values in column l; rows are `period` apart. */
INLINE void TYPED(add_rows)(double *restrict sums, const real *x, ptrdiff_t period, ptrdiff_t columns, int rows)
{
#pragma omp simd
    for (ptrdiff_t l = 0; l < columns; l++) {
        double sum = (double)x[l];
        for (int k = 1; k < rows; k++)
            sum += (double)x[l + k * period];
        sums[l] += sum;
    }
}

/* The same with `rows` as a constant, which makes better loops. */
INLINE void TYPED(add_some_rows)(double *sums, const real *x, ptrdiff_t period, ptrdiff_t columns, ptrdiff_t rows)
{
    if (rows == 4)
        TYPED(add_rows)(sums, x, period, columns, 4);
    else if (rows == 3)
        TYPED(add_rows)(sums, x, period, columns, 3);
    else if (rows == 2)
        TYPED(add_rows)(sums, x, period, columns, 2);
    else if (rows == 1)
        TYPED(add_rows)(sums, x, period, columns, 1);
}

/* The same of n elements, at most BIAS_ROWS_AT_ONCE rows, the last of which may be short. */
INLINE void TYPED(add_periods)(double *sums, const real *x, ptrdiff_t period, ptrdiff_t n)
{
    TYPED(add_some_rows)(sums, x, period, n % period, n / period + 1);
    TYPED(add_some_rows)(sums + n % period, x + n % period, period, period - n % period, n / period);
}

/* By blocks of BIAS_BLOCK_ROWS * period elements: partial[block] = sums of the block's elements that share a column. */
static void TYPED(bias_backward)(const bias_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t period = a->period, block = BIAS_BLOCK_ROWS * period;
    ptrdiff_t last = end * block < a->size ? end * block : a->size;
    memset(a->partial + begin * period, 0, (size_t)((end - begin) * period) * sizeof *a->partial);
    for (ptrdiff_t i = begin * block; i < last; i += BIAS_ROWS_AT_ONCE * period) {
        ptrdiff_t n = last - i < BIAS_ROWS_AT_ONCE * period ? last - i : BIAS_ROWS_AT_ONCE * period;
        TYPED(add_periods)(a->partial + i / block * period, (const real *)a->x + i, period, n);
    }
}

/* By channels: grad_bias from the blocks' sums. */
static void TYPED(bias_merge_sums)(const bias_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    double *restrict sum = a->partial;
    ptrdiff_t block = BIAS_BLOCK_ROWS * a->period, blocks = (a->size + block - 1) / block;
    for (ptrdiff_t row = 1; row < blocks * (a->period / a->channels); row++) {
        const double *restrict next = a->partial + row * a->channels;
#pragma omp simd
        for (ptrdiff_t c = begin; c < end; c++)
            sum[c] += next[c];
    }
    for (ptrdiff_t c = begin; c < end; c++)
        ((real *)a->grad_bias)[c] = (real)(blocks ? sum[c] : 0);
}
