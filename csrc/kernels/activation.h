/* activation_forward, activation_backward: y = f(x + bias), f sigmoid or tanh, and its gradient from y.
 *
 *   sigmoid'(x) = y (1 - y)       tanh'(x) = 1 - y^2
 *   grad_x      = grad_y f'(x)    grad_bias = sum of grad_x over the rows
 *
 * x, y, grad_y, grad_x (rows, channels), bias and grad_bias (channels) or NULL; without them the rows may
 * be single elements. Bytes per element in float32: forward 8, backward 12. */

/* Rows from this length on are looped over one by one; shorter ones first get their bias, in blocks that
 * stay in cache, and are then looped over together. */
enum { TYPED(LONG_ROW) = 128, TYPED(SHORT_ROWS_BLOCK) = 2048, TYPED(GRADIENT_ROWS) = 4 };

INLINE void TYPED(activate)(const real *x, const real *bias, real *y, ptrdiff_t n, bool biased, int function)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real shifted = biased ? x[i] + bias[i] : x[i];
        y[i] = function == SIGMOID ? TYPED(sigmoid)(shifted) : TYPED(tanh)(shifted);
    }
}

INLINE void TYPED(activate_rows)(const activation_args *a, ptrdiff_t begin, ptrdiff_t end, int function)
{
    const real *x = a->x, *bias = a->bias;
    real *y = a->y;
    ptrdiff_t channels = a->channels;
    if (!bias) {
        TYPED(activate)(x + begin * channels, NULL, y + begin * channels, (end - begin) * channels, false, function);
    } else if (channels >= TYPED(LONG_ROW)) {
        for (ptrdiff_t r = begin; r < end; r++)
            TYPED(activate)(x + r * channels, bias, y + r * channels, channels, true, function);
    } else {
        ptrdiff_t rows = TYPED(SHORT_ROWS_BLOCK) / channels;
        for (ptrdiff_t first = begin; first < end; first += rows) {
            ptrdiff_t last = end - first < rows ? end : first + rows;
            real *block = y + first * channels;
            for (ptrdiff_t r = first; r < last; r++)
#pragma omp simd
                for (ptrdiff_t c = 0; c < channels; c++)
                    y[r * channels + c] = x[r * channels + c] + bias[c];
            TYPED(activate)(block, NULL, block, (last - first) * channels, false, function);
        }
    }
}

/* By rows. */
static void TYPED(activation_forward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const activation_args *a = args;
    if (a->function == SIGMOID)
        TYPED(activate_rows)(a, begin, end, SIGMOID);
    else
        TYPED(activate_rows)(a, begin, end, TANH);
}

INLINE real TYPED(activation_gradient)(real grad_y, real y, int function)
{
    return grad_y * (function == SIGMOID ? y * (1 - y) : 1 - y * y);
}

INLINE void TYPED(grad_elements)(const activation_args *a, ptrdiff_t begin, ptrdiff_t end, int function)
{
    const real *y = a->y, *grad_y = a->grad_y;
    real *grad_x = a->grad_x;
#pragma omp simd
    for (ptrdiff_t i = begin; i < end; i++)
        grad_x[i] = TYPED(activation_gradient)(grad_y[i], y[i], function);
}

/* By rows: grad_x. */
static void TYPED(activation_backward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const activation_args *a = args;
    if (a->function == SIGMOID)
        TYPED(grad_elements)(a, begin * a->channels, end * a->channels, SIGMOID);
    else
        TYPED(grad_elements)(a, begin * a->channels, end * a->channels, TANH);
}

/* `n` rows of grad_x, and their sum added to `sum`. */
INLINE void TYPED(grad_and_sum)(const activation_args *a, ptrdiff_t first, int n, int function, double *restrict sum)
{
    ptrdiff_t channels = a->channels;
    const real *y = (const real *)a->y + first * channels, *grad_y = (const real *)a->grad_y + first * channels;
    real *grad_x = (real *)a->grad_x + first * channels;
#pragma omp simd
    for (ptrdiff_t c = 0; c < channels; c++) {
        double s = 0;
        for (int k = 0; k < n; k++) {
            ptrdiff_t i = k * channels + c;
            real g = TYPED(activation_gradient)(grad_y[i], y[i], function);
            grad_x[i] = g;
            s += (double)g;
        }
        sum[c] += s;
    }
}

INLINE void TYPED(sum_block)(const activation_args *a, ptrdiff_t block, int function)
{
    double *sum = a->partial + block * a->channels;
    ptrdiff_t r = block * ACTIVATION_BLOCK_ROWS, last = r + ACTIVATION_BLOCK_ROWS;
    last = last < a->rows ? last : a->rows;
    memset(sum, 0, (size_t)a->channels * sizeof *sum);
    for (; r + TYPED(GRADIENT_ROWS) <= last; r += TYPED(GRADIENT_ROWS))
        TYPED(grad_and_sum)(a, r, TYPED(GRADIENT_ROWS), function, sum);
    for (; r < last; r++)
        TYPED(grad_and_sum)(a, r, 1, function, sum);
}

/* By blocks of rows: grad_x, and partial[block] = its sums. */
static void TYPED(activation_row_sums)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const activation_args *a = args;
    for (ptrdiff_t block = begin; block < end; block++)
        if (a->function == SIGMOID)
            TYPED(sum_block)(a, block, SIGMOID);
        else
            TYPED(sum_block)(a, block, TANH);
}

/* By channels: grad_bias from the blocks' sums. */
static void TYPED(activation_merge_sums)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const activation_args *a = args;
    double *restrict sum = a->partial;
    real *grad_bias = a->grad_bias;
    for (ptrdiff_t block = 1; block * ACTIVATION_BLOCK_ROWS < a->rows; block++) {
        const double *restrict next = a->partial + block * a->channels;
#pragma omp simd
        for (ptrdiff_t c = begin; c < end; c++)
            sum[c] += next[c];
    }
#pragma omp simd
    for (ptrdiff_t c = begin; c < end; c++)
        grad_bias[c] = (real)(a->rows > 0 ? sum[c] : 0);
}
