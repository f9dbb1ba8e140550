/* Batch normalisation of arrays whose channels lie side by side, such as (N, C) and (N, H, W, C), in
 * three jobs: sums of blocks of rows; sums of blocks put together, by channels; the rows themselves.
 *
 * Bytes per element in float32: forward 12, inference 8, backward 20; 8 and 12 where x stays in cache. */

/* Sums take rows four at a time, which saves most of the loads and stores of what belongs to a channel, and
 * CHANNELS_AT_ONCE of their channels, whose sums stay in the first cache. The four are a quarter of the block apart:
 * each goes on where it was, so that the CPU sees four streams to fetch ahead. */
enum { TYPED(ROWS_AT_ONCE) = 4, TYPED(CHANNELS_AT_ONCE) = 1024 };

INLINE const real *TYPED(row)(view v, ptrdiff_t inner, ptrdiff_t index)
{
    /* A division takes as long as a hundred values, and one outer index mostly has all rows. */
    ptrdiff_t outer = index < inner ? 0 : index / inner;
    return (const real *)v.data + outer * v.outer_stride + (index - outer * inner) * v.inner_stride;
}

INLINE ptrdiff_t TYPED(block_end)(const batch_norm_args *a, ptrdiff_t block)
{
    ptrdiff_t rows = a->outer * a->inner, end = (block + 1) * BATCH_NORM_BLOCK_ROWS;
    return end < rows ? end : rows;
}

INLINE ptrdiff_t TYPED(channels_from)(const batch_norm_args *a, ptrdiff_t channel)
{
    return a->channels - channel < TYPED(CHANNELS_AT_ONCE) ? a->channels - channel : TYPED(CHANNELS_AT_ONCE);
}

/* shift = average of n rows of some channels, near their mean */
INLINE void TYPED(shift_of_rows)(const batch_norm_args *a, ptrdiff_t first, int n, ptrdiff_t channel,
                                 ptrdiff_t channels, real *restrict shift)
{
    memset(shift, 0, (size_t)channels * sizeof *shift);
    for (int k = 0; k < n; k++) {
        const real *x = TYPED(row)(a->x, a->inner, first + k) + channel;
        for (ptrdiff_t c = 0; c < channels; c++)
            shift[c] += x[c];
    }
    for (ptrdiff_t c = 0; c < channels; c++) {
        real average = shift[c] / (real)n;
        shift[c] = average - average == 0 ? average : 0; /* infinite, it would turn an infinite mean into NaN */
    }
}

INLINE void TYPED(add_row_moments)(const batch_norm_args *a, ptrdiff_t first, int n, ptrdiff_t apart, ptrdiff_t channel,
                                   ptrdiff_t channels, const real *restrict shift, double *restrict sum,
                                   double *restrict squares)
{
    const real *x[TYPED(ROWS_AT_ONCE)];
    for (int k = 0; k < n; k++)
        x[k] = TYPED(row)(a->x, a->inner, first + k * apart) + channel;
#pragma omp simd
    for (ptrdiff_t c = 0; c < channels; c++) {
        real s = 0, q = 0;
        for (int k = 0; k < n; k++) {
            real d = x[k][c] - shift[c];
            s = k ? s + d : d;
            q = k ? q + d * d : d * d;
        }
        sum[c] += (double)s;
        squares[c] += (double)q;
    }
}

/* A function of its own: beside other loops gcc makes no vectors of this one. */
static __attribute__((noinline)) void TYPED(add_four_moments)(const batch_norm_args *a, ptrdiff_t first,
                                                              ptrdiff_t apart, ptrdiff_t channel, ptrdiff_t channels,
                                                              const real *restrict shift, double *restrict sum,
                                                              double *restrict squares)
{
    TYPED(add_row_moments)(a, first, TYPED(ROWS_AT_ONCE), apart, channel, channels, shift, sum, squares);
}

/* By blocks of rows: partial[block] = means, and sums of squared deviations, of the block's channels. */
static void TYPED(batch_norm_row_moments)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * BATCH_NORM_BLOCK_ROWS, last = TYPED(block_end)(a, block), n;
        int rows = TYPED(ROWS_AT_ONCE), some = last - first < rows ? (int)(last - first) : rows;
        for (ptrdiff_t channel = 0; channel < a->channels; channel += n) {
            real shift[TYPED(CHANNELS_AT_ONCE)];
            double sum[TYPED(CHANNELS_AT_ONCE)], squares[TYPED(CHANNELS_AT_ONCE)];
            double *mean = a->partial + block * 2 * a->channels + channel;
            ptrdiff_t r = first;
            n = TYPED(channels_from)(a, channel);
            memset(sum, 0, (size_t)n * sizeof *sum);
            memset(squares, 0, (size_t)n * sizeof *squares);
            TYPED(shift_of_rows)(a, first, some, channel, n, shift);
            ptrdiff_t apart = (last - first) / rows;
            for (; r < first + apart; r++)
                TYPED(add_four_moments)(a, r, apart, channel, n, shift, sum, squares);
            for (r = first + rows * apart; r < last; r++)
                TYPED(add_row_moments)(a, r, 1, 1, channel, n, shift, sum, squares);
#pragma omp simd
            for (ptrdiff_t c = 0; c < n; c++) {
                TYPE(moments) m = TYPED(moments_around)((double)shift[c], (double)(last - first), sum[c], squares[c]);
                mean[c] = m.mean;
                mean[a->channels + c] = m.squares;
            }
        }
    }
}

INLINE void TYPED(store_affine)(const batch_norm_args *a, ptrdiff_t channel, TYPE(affine) c)
{
    real *coefficients = (real *)a->coefficients + channel;
    coefficients[0] = c.high;
    coefficients[a->channels] = c.low;
    coefficients[2 * a->channels] = c.scale;
    coefficients[3 * a->channels] = c.bias;
}

/* By channels: statistics and coefficients from the blocks' moments. */
static void TYPED(batch_norm_merge_moments)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t rows = a->outer * a->inner;
    double count = (double)rows;
    double *restrict mean = a->partial, *restrict squares = mean + a->channels;
    for (ptrdiff_t block = 1; block * BATCH_NORM_BLOCK_ROWS < rows; block++) {
        const double *restrict next_mean = a->partial + block * 2 * a->channels;
        const double *restrict next_squares = next_mean + a->channels;
        ptrdiff_t first = block * BATCH_NORM_BLOCK_ROWS;
        double before = (double)first, n = (double)(TYPED(block_end)(a, block) - first);
        for (ptrdiff_t c = begin; c < end; c++) {
            TYPE(moments) m = TYPED(merge)((TYPE(moments)){before, mean[c], squares[c]},
                                           (TYPE(moments)){n, next_mean[c], next_squares[c]});
            mean[c] = m.mean;
            squares[c] = m.squares;
        }
    }
    for (ptrdiff_t c = begin; c < end; c++) {
        TYPE(moments) total = {count, rows ? mean[c] : 0, rows ? squares[c] : 0};
        TYPED(store_affine)(a, c, TYPED(finish_moments)(a, c, total));
    }
}

/* By channels: coefficients from the running statistics. */
static void TYPED(batch_norm_prepare_inference)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    batch_norm_args own = *a; /* whose fields no store may change */
#pragma omp simd
    for (ptrdiff_t c = begin; c < end; c++)
        TYPED(store_affine)(&own, c, TYPED(inference_affine)(&own, c));
}

/* Whether the elements of all rows follow one another in memory. */
INLINE bool TYPED(is_dense)(const batch_norm_args *a, view v)
{
    bool rows = v.inner_stride == a->channels || a->inner == 1;
    return rows && (v.outer_stride == a->inner * a->channels || a->outer == 1);
}

/* The number of rows from `row` on, or 1 and a part of its channels from `channel` on, that fit in a tile. */
INLINE ptrdiff_t TYPED(rows_in_tile)(const batch_norm_args *a, ptrdiff_t row, ptrdiff_t end)
{
    ptrdiff_t fit = TYPED(TILE) / a->channels;
    fit = fit < end - row ? fit : end - row;
    return fit > 1 ? fit : 1;
}

INLINE ptrdiff_t TYPED(channels_in_tile)(const batch_norm_args *a, ptrdiff_t channel)
{
    return a->channels - channel < TYPED(TILE) ? a->channels - channel : TYPED(TILE);
}

/* Coefficients of which each kind is `apart` from the one before, and the rows that they are there for, one after the
 * other. */
typedef struct {
    const real *first;
    ptrdiff_t apart, rows;
} TYPE(coefficients);

enum { TYPED(REPEATED) = 2048 / sizeof(real) };

/* The first `kinds` of the coefficients. Where rows are short and follow one another, they are repeated for as many as
 * fit in REPEATED elements, if there are several times as many. */
INLINE TYPE(coefficients) TYPED(repeat)(const batch_norm_args *a, int kinds, ptrdiff_t rows, bool dense, real *repeated)
{
    ptrdiff_t n = rows / 4;
    if (dense && n > 1 && n > TYPED(REPEATED) / a->channels)
        n = TYPED(REPEATED) / a->channels;
    if (!dense || n < 2)
        return (TYPE(coefficients)){a->coefficients, a->channels, 1};
    for (int kind = 0; kind < kinds; kind++) {
        real *to = repeated + kind * TYPED(REPEATED);
        memcpy(to, (const real *)a->coefficients + kind * a->channels, (size_t)a->channels * sizeof *to);
        for (ptrdiff_t done = a->channels, more; done < n * a->channels; done += more) {
            more = n * a->channels - done < done ? n * a->channels - done : done;
            memcpy(to + done, to, (size_t)more * sizeof *to);
        }
    }
    return (TYPE(coefficients)){repeated, TYPED(REPEATED), n};
}

/* `low` and `bias` are constants. */
INLINE void TYPED(normalize_values_of_row)(TYPE(coefficients) c, const real *x, real *y, ptrdiff_t n, bool low,
                                           bool bias)
{
    const real *high = c.first, *lows = high + c.apart, *scale = lows + c.apart, *biases = scale + c.apart;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real d = x[i] - high[i];
        d = (low ? d - lows[i] : d) * scale[i];
        y[i] = bias ? d + biases[i] : d;
    }
}

/* n values from channel number `channel` on. A function of its own, for the registers' sake. */
static void TYPED(normalize_row)(TYPE(coefficients) c, const real *x, real *y, ptrdiff_t channel, ptrdiff_t n, bool low,
                                 bool bias)
{
    c.first += channel;
    if (low && bias)
        TYPED(normalize_values_of_row)(c, x, y, n, true, true);
    else if (low)
        TYPED(normalize_values_of_row)(c, x, y, n, true, false);
    else if (bias)
        TYPED(normalize_values_of_row)(c, x, y, n, false, true);
    else
        TYPED(normalize_values_of_row)(c, x, y, n, false, false);
}

/* y from x and the coefficients, of which `low` is left out where it is 0. */
INLINE void TYPED(normalize_rows)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end, bool low)
{
    bool dense = TYPED(is_dense)(a, a->y), around = TYPED(use_nontemporal)(a, a->x, a->y) && dense;
    _Alignas(64) real repeated[4 * TYPED(REPEATED)];
    TYPE(coefficients) all = TYPED(repeat)(a, 4, end - begin, dense && TYPED(is_dense)(a, a->x), repeated);
    if (!around && !a->relu && !a->mask) {
        for (ptrdiff_t r = begin, rows; r < end; r += rows) {
            real *y = (real *)TYPED(row)(a->y, a->inner, r);
            rows = all.rows < end - r ? all.rows : end - r;
            TYPED(normalize_row)(all, TYPED(row)(a->x, a->inner, r), y, 0, rows * a->channels, low, a->bias);
        }
        return;
    }
    for (ptrdiff_t r = begin, rows; r < end; r += rows) {
        rows = TYPED(rows_in_tile)(a, r, end);
        for (ptrdiff_t c = 0, n; c < a->channels; c += n) {
            real tile[TYPED(TILE)], *y = (real *)TYPED(row)(a->y, a->inner, r) + c, *target = around ? tile : y;
            n = TYPED(channels_in_tile)(a, c);
            for (ptrdiff_t k = 0, some; k < rows; k += some) {
                const real *x = TYPED(row)(a->x, a->inner, r + k) + c;
                some = all.rows < rows - k ? all.rows : rows - k;
                TYPED(normalize_row)(all, x, target + k * n, c, some * n, low, a->bias);
            }
            TYPED(relu_dropout_tile_forward)(a, target, r * a->channels + c, rows * n);
            if (around)
                copy_nontemporal(y, tile, (size_t)(rows * n) * sizeof(real));
        }
    }
    if (around)
        finish_nontemporal();
}

/* By rows. */
static void TYPED(batch_norm_normalize_rows)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(normalize_rows)(a, begin, end, true);
}

/* By rows: the same in inference. */
static void TYPED(batch_norm_inference_rows)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(normalize_rows)(a, begin, end, false);
}

INLINE void TYPED(add_row_products)(const batch_norm_args *a, ptrdiff_t first, int n, ptrdiff_t apart,
                                    ptrdiff_t channel, ptrdiff_t channels, const real *restrict high,
                                    const real *restrict low, double *restrict sum, double *restrict product)
{
    real passed[TYPED(ROWS_AT_ONCE)][TYPED(CHANNELS_AT_ONCE)];
    const real *x[TYPED(ROWS_AT_ONCE)], *g[TYPED(ROWS_AT_ONCE)];
    for (int k = 0; k < n; k++) {
        x[k] = TYPED(row)(a->x, a->inner, first + k * apart) + channel;
        g[k] = TYPED(row)(a->grad_y, a->inner, first + k * apart) + channel;
        if (a->mask) {
            ptrdiff_t index = (first + k * apart) * a->channels + channel;
            TYPED(relu_dropout_tile_backward)(a, g[k], index, channels, passed[k]);
            g[k] = passed[k];
        }
    }
#pragma omp simd
    for (ptrdiff_t c = 0; c < channels; c++) {
        real s = 0, q = 0;
        for (int k = 0; k < n; k++) {
            real gradient = g[k][c], d = gradient * ((x[k][c] - high[c]) - low[c]);
            s = k ? s + gradient : gradient;
            q = k ? q + d : d;
        }
        sum[c] += (double)s;
        product[c] += (double)q;
    }
}

/* By blocks of rows: partial[block] = sums of g, and of g * (x - mean), of the block's channels. */
static void TYPED(batch_norm_row_sums)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * BATCH_NORM_BLOCK_ROWS, last = TYPED(block_end)(a, block), n;
        int rows = TYPED(ROWS_AT_ONCE);
        for (ptrdiff_t channel = 0; channel < a->channels; channel += n) {
            real high[TYPED(CHANNELS_AT_ONCE)], low[TYPED(CHANNELS_AT_ONCE)];
            double sum[TYPED(CHANNELS_AT_ONCE)], product[TYPED(CHANNELS_AT_ONCE)];
            double *partial = a->partial + block * 2 * a->channels + channel;
            ptrdiff_t r = first;
            n = TYPED(channels_from)(a, channel);
            memset(sum, 0, (size_t)n * sizeof *sum);
            memset(product, 0, (size_t)n * sizeof *product);
            for (ptrdiff_t c = 0; c < n; c++) {
                high[c] = (real)a->mean[channel + c];
                low[c] = (real)(a->mean[channel + c] - high[c]);
            }
            ptrdiff_t apart = (last - first) / rows;
            for (; r < first + apart; r++)
                TYPED(add_row_products)(a, r, rows, apart, channel, n, high, low, sum, product);
            for (r = first + rows * apart; r < last; r++)
                TYPED(add_row_products)(a, r, 1, 1, channel, n, high, low, sum, product);
            for (ptrdiff_t c = 0; c < n; c++) {
                partial[c] = sum[c];
                partial[a->channels + c] = product[c];
            }
        }
    }
}

/* By channels: grad_weight, grad_bias and coefficients from the blocks' sums. */
static void TYPED(batch_norm_merge_sums)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
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
        TYPE(gradient) g = TYPED(finish_sums)(a, c, rows ? sum[c] : 0, rows ? product[c] : 0);
        real *coefficients = (real *)a->coefficients + c;
        coefficients[0] = g.high;
        coefficients[a->channels] = g.low;
        coefficients[2 * a->channels] = g.average;
        coefficients[3 * a->channels] = g.slope;
        coefficients[4 * a->channels] = g.scale;
    }
}

/* n values from channel number `channel` on. */
static void TYPED(gradient_row)(TYPE(coefficients) all, const real *x, const real *g, real *y, ptrdiff_t channel,
                                ptrdiff_t n, bool training)
{
    const real *high = all.first + channel, *low = high + all.apart, *average = low + all.apart;
    const real *slope = average + all.apart, *scale = slope + all.apart;
    if (!training) {
#pragma omp simd
        for (ptrdiff_t c = 0; c < n; c++)
            y[c] = g[c] * scale[c];
        return;
    }
#pragma omp simd
    for (ptrdiff_t c = 0; c < n; c++) {
        real d = (x[c] - high[c]) - low[c];
        y[c] = ((g[c] - average[c]) - d * slope[c]) * scale[c];
    }
}

/* By rows: grad_x from grad_y, x and the coefficients. */
static void TYPED(batch_norm_grad_rows)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    bool dense = TYPED(is_dense)(a, a->grad_x), around = TYPED(use_nontemporal)(a, a->grad_y, a->grad_x) && dense;
    bool all_dense = dense && TYPED(is_dense)(a, a->x) && TYPED(is_dense)(a, a->grad_y);
    _Alignas(64) real repeated[5 * TYPED(REPEATED)];
    TYPE(coefficients) all = TYPED(repeat)(a, 5, end - begin, all_dense, repeated);
    if (!around && !a->mask) {
        for (ptrdiff_t r = begin, rows; r < end; r += rows) {
            const real *x = TYPED(row)(a->x, a->inner, r), *g = TYPED(row)(a->grad_y, a->inner, r);
            real *y = (real *)TYPED(row)(a->grad_x, a->inner, r);
            rows = all.rows < end - r ? all.rows : end - r;
            TYPED(gradient_row)(all, x, g, y, 0, rows * a->channels, a->training);
        }
        return;
    }
    for (ptrdiff_t r = begin, rows; r < end; r += rows) {
        rows = TYPED(rows_in_tile)(a, r, end);
        for (ptrdiff_t c = 0, n; c < a->channels; c += n) {
            real tile[TYPED(TILE)], passed[TYPED(TILE)], *y = (real *)TYPED(row)(a->grad_x, a->inner, r) + c;
            const real *grad_y = TYPED(row)(a->grad_y, a->inner, r) + c;
            real *target = around ? tile : y;
            n = TYPED(channels_in_tile)(a, c);
            if (a->mask)
                TYPED(relu_dropout_tile_backward)(a, grad_y, r * a->channels + c, rows * n, passed);
            for (ptrdiff_t k = 0, some; k < rows; k += some) {
                const real *g = a->mask ? passed + k * n : TYPED(row)(a->grad_y, a->inner, r + k) + c;
                const real *x = TYPED(row)(a->x, a->inner, r + k) + c;
                some = all.rows < rows - k ? all.rows : rows - k;
                TYPED(gradient_row)(all, x, g, target + k * n, c, some * n, a->training);
            }
            if (around)
                copy_nontemporal(y, tile, (size_t)(rows * n) * sizeof(real));
        }
    }
    if (around)
        finish_nontemporal();
}
