/* batch_norm_forward, batch_norm_inference, batch_norm_backward, one channel after the other: for
 * arrays whose inner axis is contiguous, such as (N, C, H, W); other strides work and are slower.
 * A job's parts are ranges of channels.
 *
 * Bytes per element in float32: inference 8; forward 8 and backward 12 if a channel stays in cache
 * between the pass that sums and the pass that writes, else 12 and 20. */

/* A sum is LANES running sums in double. Up to GROUP values, LANES apart, are put together in the arrays' type
 * before, which halves the work. A block is BLOCK_VALUES values of the channel in the order of memory, in runs that
 * end where the inner axis does. Its values are summed around the mean of the first ones of its first run. */
enum { TYPED(GROUP) = 4, TYPED(BLOCK_VALUES) = 2048 };

INLINE const real *TYPED(at)(view v, ptrdiff_t outer, ptrdiff_t channel)
{
    return (const real *)v.data + outer * v.outer_stride + channel * v.channel_stride;
}

/* Asks for the run that is RUNS_AHEAD of this one, which is far from it: what the CPU asks for by itself are
 * the bytes that follow, and short runs are over before it does. (32, 256, 14, 14): backward 1.4 times faster.
 * Arrays of less than FAR_BYTES are in cache, where asking takes longer than waiting: 1.05 to 1.35 times. */
enum { TYPED(RUNS_AHEAD) = 3, TYPED(SHORT_RUN) = 1024, TYPED(FAR_BYTES) = 1 << 20 };

INLINE void TYPED(prefetch_run)(const batch_norm_args *a, view v, ptrdiff_t outer, ptrdiff_t channel, bool written)
{
    if ((size_t)(a->outer * a->channels * a->inner) * sizeof(real) < TYPED(FAR_BYTES))
        return;
    outer += TYPED(RUNS_AHEAD);
    if (outer >= a->outer) {
        outer -= a->outer;
        channel++;
    }
    if (a->inner > TYPED(SHORT_RUN) || v.inner_stride != 1 || outer >= a->outer || channel >= a->channels)
        return;
    const real *run = TYPED(at)(v, outer, channel);
    for (ptrdiff_t i = 0; i < a->inner; i += 64 / (ptrdiff_t)sizeof(real))
        if (written)
            __builtin_prefetch(run + i, 1);
        else
            __builtin_prefetch(run + i, 0);
}

/* sum += x - shift, squares += (x - shift)^2, in `lanes` lanes, to each of which come `rounds` times `group` values. */
INLINE void TYPED(add_moments)(const real *x, ptrdiff_t stride, int lanes, int rounds, int group, real shift,
                               double *restrict sum, double *restrict squares)
{
#pragma omp simd
    for (int l = 0; l < lanes; l++) {
        double total = sum[l], total_squares = squares[l];
        for (int r = 0; r < rounds; r++) {
            real s = 0, q = 0;
            for (int k = 0; k < group; k++) {
                real d = x[(l + (r * group + k) * LANES) * stride] - shift;
                s = k ? s + d : d;
                q = k ? q + d * d : d * d;
            }
            total += (double)s;
            total_squares += (double)q;
        }
        sum[l] = total;
        squares[l] = total_squares;
    }
}

/* The same for a run of any length, in pieces of constant length, which become vectors. */
INLINE void TYPED(add_run_moments)(const real *x, ptrdiff_t stride, ptrdiff_t n, real shift, double *restrict sum,
                                   double *restrict squares)
{
    const int lanes = LANES;
    for (; n >= TYPED(GROUP) * lanes; n -= TYPED(GROUP) * lanes, x += TYPED(GROUP) * lanes * stride)
        TYPED(add_moments)(x, stride, lanes, 1, TYPED(GROUP), shift, sum, squares);
    if (n >= 3 * lanes)
        TYPED(add_moments)(x, stride, lanes, 3, 1, shift, sum, squares);
    else if (n >= 2 * lanes)
        TYPED(add_moments)(x, stride, lanes, 2, 1, shift, sum, squares);
    else if (n >= lanes)
        TYPED(add_moments)(x, stride, lanes, 1, 1, shift, sum, squares);
    for (x += n / lanes * lanes * stride, n %= lanes; n >= 8; n -= 8, x += 8 * stride, sum += 8, squares += 8)
        TYPED(add_moments)(x, stride, 8, 1, 1, shift, sum, squares);
    TYPED(add_moments)(x, stride, (int)n, 1, 1, shift, sum, squares);
}

/* sum += g, product += g * (x - mean), in the same way. */
INLINE void TYPED(add_products)(const real *x, ptrdiff_t x_stride, const real *g, ptrdiff_t g_stride, int lanes,
                                int rounds, int group, TYPE(affine) c, double *restrict sum, double *restrict product)
{
#pragma omp simd
    for (int l = 0; l < lanes; l++) {
        double total = sum[l], total_product = product[l];
        for (int r = 0; r < rounds; r++) {
            real s = 0, q = 0;
            for (int k = 0; k < group; k++) {
                ptrdiff_t i = l + (r * group + k) * LANES;
                real gradient = g[i * g_stride], d = gradient * ((x[i * x_stride] - c.high) - c.low);
                s = k ? s + gradient : gradient;
                q = k ? q + d : d;
            }
            total += (double)s;
            total_product += (double)q;
        }
        sum[l] = total;
        product[l] = total_product;
    }
}

INLINE void TYPED(add_run_products)(const real *x, ptrdiff_t x_stride, const real *g, ptrdiff_t g_stride, ptrdiff_t n,
                                    TYPE(affine) c, double *restrict sum, double *restrict product)
{
    const int lanes = LANES, many = TYPED(GROUP) * lanes;
    for (; n >= many; n -= many, x += many * x_stride, g += many * g_stride)
        TYPED(add_products)(x, x_stride, g, g_stride, lanes, 1, TYPED(GROUP), c, sum, product);
    if (n >= 3 * lanes)
        TYPED(add_products)(x, x_stride, g, g_stride, lanes, 3, 1, c, sum, product);
    else if (n >= 2 * lanes)
        TYPED(add_products)(x, x_stride, g, g_stride, lanes, 2, 1, c, sum, product);
    else if (n >= lanes)
        TYPED(add_products)(x, x_stride, g, g_stride, lanes, 1, 1, c, sum, product);
    x += n / lanes * lanes * x_stride;
    g += n / lanes * lanes * g_stride;
    for (n %= lanes; n >= 8; n -= 8, x += 8 * x_stride, g += 8 * g_stride, sum += 8, product += 8)
        TYPED(add_products)(x, x_stride, g, g_stride, 8, 1, 1, c, sum, product);
    TYPED(add_products)(x, x_stride, g, g_stride, (int)n, 1, 1, c, sum, product);
}

/* The mean of the first values of a run x (n). */
INLINE real TYPED(shift_of_run)(const real *x, ptrdiff_t stride, ptrdiff_t n)
{
    double sum = 0;
    n = n < 16 ? n : 16;
    for (ptrdiff_t i = 0; i < n; i++)
        sum += (double)x[i * stride];
    return (real)TYPED(shift_of)((real)(sum / (double)n));
}

INLINE TYPE(moments) TYPED(channel_moments)(const batch_norm_args *a, ptrdiff_t channel, ptrdiff_t stride)
{
    TYPE(moments) total = {0, 0, 0};
    ptrdiff_t values = a->outer * a->inner;
    for (ptrdiff_t done = 0, o = 0, i = 0, count; done < values; done += count) {
        double sum[LANES], squares[LANES];
        real shift = 0;
        clear_lanes(sum);
        clear_lanes(squares);
        count = values - done < TYPED(BLOCK_VALUES) ? values - done : TYPED(BLOCK_VALUES);
        for (ptrdiff_t left = count, run; left > 0; left -= run) {
            const real *x = TYPED(at)(a->x, o, channel) + i * stride;
            run = a->inner - i < left ? a->inner - i : left;
            if (i == 0)
                TYPED(prefetch_run)(a, a->x, o, channel, false);
            if (left == count)
                shift = TYPED(shift_of_run)(x, stride, run);
            TYPED(add_run_moments)(x, stride, run, shift, sum, squares);
            i = i + run < a->inner ? i + run : 0;
            o += i == 0;
        }
        TYPE(moments) block = TYPED(moments_around)((double)shift, (double)count, sum_lanes(sum), sum_lanes(squares));
        total = total.count > 0 ? TYPED(merge)(total, block) : block;
    }
    return total;
}

/* `low`, a constant: whether the mean has a low part. */
INLINE void TYPED(normalize_run)(const real *x, ptrdiff_t x_stride, real *y, ptrdiff_t y_stride, ptrdiff_t n,
                                 TYPE(affine) c, bool low, bool bias)
{
    if (bias) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            real d = x[i * x_stride] - c.high;
            y[i * y_stride] = (low ? d - c.low : d) * c.scale + c.bias;
        }
    } else {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++) {
            real d = x[i * x_stride] - c.high;
            y[i * y_stride] = (low ? d - c.low : d) * c.scale;
        }
    }
}

/* `training` is a constant. In inference asking for y does not pay, as x is not in cache yet (0.9). */
INLINE void TYPED(normalize_channel)(const batch_norm_args *a, ptrdiff_t channel, TYPE(affine) c, ptrdiff_t x_stride,
                                     ptrdiff_t y_stride, bool training)
{
    bool around = y_stride == 1 && TYPED(use_nontemporal)(a, a->x, a->y), more = a->relu || a->mask;
    for (ptrdiff_t o = 0; o < a->outer; o++) {
        const real *x = TYPED(at)(a->x, o, channel);
        real *y = (real *)TYPED(at)(a->y, o, channel), tile[TYPED(TILE)];
        if (training && !around)
            TYPED(prefetch_run)(a, a->y, o, channel, true);
        if (!around && !more) {
            TYPED(normalize_run)(x, x_stride, y, y_stride, a->inner, c, training, a->bias != NULL);
            continue;
        }
        for (ptrdiff_t i = 0, n; i < a->inner; i += n) {
            real *target = around ? tile : y + i;
            n = a->inner - i < TYPED(TILE) ? a->inner - i : TYPED(TILE);
            TYPED(normalize_run)(x + i * x_stride, x_stride, target, 1, n, c, training, a->bias != NULL);
            TYPED(relu_dropout_tile_forward)(a, target, (o * a->channels + channel) * a->inner + i, n);
            if (around)
                copy_nontemporal(y + i, tile, (size_t)n * sizeof(real));
        }
    }
    if (around)
        finish_nontemporal();
}

INLINE void TYPED(gradient_run)(const real *x, ptrdiff_t x_stride, const real *g, ptrdiff_t g_stride, real *y,
                                ptrdiff_t y_stride, ptrdiff_t n, TYPE(gradient) c, bool training)
{
    if (!training) {
#pragma omp simd
        for (ptrdiff_t i = 0; i < n; i++)
            y[i * y_stride] = g[i * g_stride] * c.scale;
        return;
    }
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real d = (x[i * x_stride] - c.high) - c.low;
        y[i * y_stride] = ((g[i * g_stride] - c.average) - d * c.slope) * c.scale;
    }
}

INLINE void TYPED(gradient_channel)(const batch_norm_args *a, ptrdiff_t channel, ptrdiff_t x_stride, ptrdiff_t g_stride,
                                    ptrdiff_t y_stride)
{
    ptrdiff_t values = a->outer * a->inner;
    TYPE(affine) forward = TYPED(make_affine)(a, channel, a->mean[channel], a->rstd[channel]);
    double sum = 0, product = 0;
    for (ptrdiff_t done = 0, o = 0, i = 0, count; done < values; done += count) {
        double sums[LANES], products[LANES];
        real passed[TYPED(TILE)];
        clear_lanes(sums);
        clear_lanes(products);
        count = values - done < TYPED(BLOCK_VALUES) ? values - done : TYPED(BLOCK_VALUES);
        for (ptrdiff_t left = count, run; left > 0; left -= run) {
            const real *x = TYPED(at)(a->x, o, channel) + i * x_stride;
            const real *g = TYPED(at)(a->grad_y, o, channel) + i * g_stride;
            run = a->inner - i < left ? a->inner - i : left;
            if (i == 0) {
                TYPED(prefetch_run)(a, a->x, o, channel, false);
                TYPED(prefetch_run)(a, a->grad_y, o, channel, false);
            }
            for (ptrdiff_t k = 0, n; k < run; k += n) {
                n = a->mask && run - k > TYPED(TILE) ? TYPED(TILE) : run - k;
                if (a->mask) {
                    ptrdiff_t index = (o * a->channels + channel) * a->inner + i + k;
                    TYPED(relu_dropout_tile_backward)(a, g + k, index, n, passed);
                    TYPED(add_run_products)(x + k, 1, passed, 1, n, forward, sums, products);
                } else {
                    TYPED(add_run_products)(x, x_stride, g, g_stride, n, forward, sums, products);
                }
            }
            i = i + run < a->inner ? i + run : 0;
            o += i == 0;
        }
        sum += sum_lanes(sums);
        product += sum_lanes(products);
    }
    TYPE(gradient) c = TYPED(finish_sums)(a, channel, sum, product);
    bool around = y_stride == 1 && TYPED(use_nontemporal)(a, a->grad_y, a->grad_x);
    for (ptrdiff_t o = 0; o < a->outer; o++) {
        const real *x = TYPED(at)(a->x, o, channel), *g = TYPED(at)(a->grad_y, o, channel);
        real *y = (real *)TYPED(at)(a->grad_x, o, channel), tile[TYPED(TILE)], passed[TYPED(TILE)];
        if (!around)
            TYPED(prefetch_run)(a, a->grad_x, o, channel, true);
        if (!around && !a->mask) {
            TYPED(gradient_run)(x, x_stride, g, g_stride, y, y_stride, a->inner, c, a->training);
            continue;
        }
        for (ptrdiff_t i = 0, n; i < a->inner; i += n) {
            real *target = around ? tile : y + i;
            const real *from = a->mask ? passed : g + i * g_stride;
            n = a->inner - i < TYPED(TILE) ? a->inner - i : TYPED(TILE);
            if (a->mask)
                TYPED(relu_dropout_tile_backward)(a, g + i, (o * a->channels + channel) * a->inner + i, n, passed);
            TYPED(gradient_run)(x + i * x_stride, x_stride, from, a->mask ? 1 : g_stride, target, 1, n, c, a->training);
            if (around)
                copy_nontemporal(y + i, tile, (size_t)n * sizeof(real));
        }
    }
    if (around)
        finish_nontemporal();
}

static void TYPED(batch_norm_forward)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t x_stride = a->x.inner_stride, y_stride = a->y.inner_stride;
    for (ptrdiff_t c = begin; c < end; c++) {
        if (x_stride == 1 && y_stride == 1) {
            TYPE(affine) affine = TYPED(finish_moments)(a, c, TYPED(channel_moments)(a, c, 1));
            TYPED(normalize_channel)(a, c, affine, 1, 1, true);
        } else {
            TYPE(affine) affine = TYPED(finish_moments)(a, c, TYPED(channel_moments)(a, c, x_stride));
            TYPED(normalize_channel)(a, c, affine, x_stride, y_stride, true);
        }
    }
}

static void TYPED(batch_norm_inference)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t x_stride = a->x.inner_stride, y_stride = a->y.inner_stride;
    for (ptrdiff_t c = begin; c < end; c++) {
        if (x_stride == 1 && y_stride == 1)
            TYPED(normalize_channel)(a, c, TYPED(inference_affine)(a, c), 1, 1, false);
        else
            TYPED(normalize_channel)(a, c, TYPED(inference_affine)(a, c), x_stride, y_stride, false);
    }
}

static void TYPED(batch_norm_backward)(const batch_norm_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    ptrdiff_t x_stride = a->x.inner_stride, g_stride = a->grad_y.inner_stride, y_stride = a->grad_x.inner_stride;
    for (ptrdiff_t c = begin; c < end; c++) {
        if (x_stride == 1 && g_stride == 1 && y_stride == 1)
            TYPED(gradient_channel)(a, c, 1, 1, 1);
        else
            TYPED(gradient_channel)(a, c, x_stride, g_stride, y_stride);
    }
}
