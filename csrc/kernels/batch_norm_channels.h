/* batch_norm_forward, batch_norm_inference, batch_norm_backward, one channel after the other: for
 * arrays whose inner axis is contiguous, such as (N, C, H, W); other strides work and are slower.
 * A job's parts are ranges of channels.
 *
 * Bytes per element in float32: inference 8; forward 8 and backward 12 if a channel stays in cache
 * between the pass that sums and the pass that writes, else 12 and 20. */

/* A sum is LANES running sums, one for every LANES-th value of a run: vectors of any width fit in, and
 * with more than 16 the compiler keeps the loop, to make vectors of it. A block is BLOCK_VALUES values of
 * the channel in the order of memory, in runs that end where the inner axis does. */
enum { TYPED(LANES) = 32, TYPED(BLOCK_VALUES) = 1024 };

INLINE const real *TYPED(at)(view v, ptrdiff_t outer, ptrdiff_t channel)
{
    return (const real *)v.data + outer * v.outer_stride + channel * v.channel_stride;
}

INLINE double TYPED(sum_lanes)(const double lanes[TYPED(LANES)])
{
    double half[TYPED(LANES)];
    memcpy(half, lanes, sizeof half);
    for (int n = TYPED(LANES) / 2; n > 0; n /= 2)
        for (int l = 0; l < n; l++)
            half[l] += half[l + n];
    return half[0];
}

/* sum += x - shift, squares += (x - shift)^2 */
INLINE void TYPED(add_moments)(const real *x, ptrdiff_t stride, int n, double shift, double *restrict sum,
                               double *restrict squares)
{
    for (int l = 0; l < n; l++) {
        double d = (double)x[l * stride] - shift;
        sum[l] += d;
        squares[l] += d * d;
    }
}

/* sum += g, product += g * (x - mean) */
INLINE void TYPED(add_products)(const real *x, ptrdiff_t x_stride, const real *g, ptrdiff_t g_stride, int n,
                                double mean, double *restrict sum, double *restrict product)
{
    for (int l = 0; l < n; l++) {
        double gradient = (double)g[l * g_stride];
        sum[l] += gradient;
        product[l] += gradient * ((double)x[l * x_stride] - mean);
    }
}

INLINE TYPED(moments) TYPED(channel_moments)(const batch_norm_args *a, ptrdiff_t channel, ptrdiff_t stride)
{
    const int lanes = TYPED(LANES);
    TYPED(moments) total = {0, 0, 0};
    ptrdiff_t values = a->outer * a->inner;
    for (ptrdiff_t done = 0, o = 0, i = 0, count; done < values; done += count) {
        double sum[TYPED(LANES)] = {0}, squares[TYPED(LANES)] = {0};
        double shift = TYPED(shift_of)(TYPED(at)(a->x, o, channel)[i * stride]);
        count = values - done < TYPED(BLOCK_VALUES) ? values - done : TYPED(BLOCK_VALUES);
        for (ptrdiff_t left = count, run; left > 0; left -= run) {
            const real *x = TYPED(at)(a->x, o, channel) + i * stride;
            ptrdiff_t k = 0;
            run = a->inner - i < left ? a->inner - i : left;
            for (; k + lanes <= run; k += lanes)
                TYPED(add_moments)(x + k * stride, stride, lanes, shift, sum, squares);
            TYPED(add_moments)(x + k * stride, stride, (int)(run - k), shift, sum, squares);
            i = i + run < a->inner ? i + run : 0;
            o += i == 0;
        }
        TYPED(moments) block =
            TYPED(moments_around)(shift, (double)count, TYPED(sum_lanes)(sum), TYPED(sum_lanes)(squares));
        total = total.count > 0 ? TYPED(merge)(total, block) : block;
    }
    return total;
}

INLINE void TYPED(normalize_channel)(const batch_norm_args *a, ptrdiff_t channel, TYPED(affine) c, ptrdiff_t x_stride,
                                     ptrdiff_t y_stride)
{
    for (ptrdiff_t o = 0; o < a->outer; o++) {
        const real *x = TYPED(at)(a->x, o, channel);
        real *y = (real *)TYPED(at)(a->y, o, channel);
        if (a->bias) {
#pragma omp simd
            for (ptrdiff_t i = 0; i < a->inner; i++)
                y[i * y_stride] = ((x[i * x_stride] - c.high) - c.low) * c.scale + c.bias;
        } else {
#pragma omp simd
            for (ptrdiff_t i = 0; i < a->inner; i++)
                y[i * y_stride] = ((x[i * x_stride] - c.high) - c.low) * c.scale;
        }
    }
}

INLINE void TYPED(gradient_channel)(const batch_norm_args *a, ptrdiff_t channel, ptrdiff_t x_stride, ptrdiff_t g_stride,
                                    ptrdiff_t y_stride)
{
    const int lanes = TYPED(LANES);
    ptrdiff_t values = a->outer * a->inner;
    double mean = a->mean[channel], sum = 0, product = 0;
    for (ptrdiff_t done = 0, o = 0, i = 0, count; done < values; done += count) {
        double sums[TYPED(LANES)] = {0}, products[TYPED(LANES)] = {0};
        count = values - done < TYPED(BLOCK_VALUES) ? values - done : TYPED(BLOCK_VALUES);
        for (ptrdiff_t left = count, run; left > 0; left -= run) {
            const real *x = TYPED(at)(a->x, o, channel) + i * x_stride;
            const real *g = TYPED(at)(a->grad_y, o, channel) + i * g_stride;
            ptrdiff_t k = 0;
            run = a->inner - i < left ? a->inner - i : left;
            for (; k + lanes <= run; k += lanes)
                TYPED(add_products)(x + k * x_stride, x_stride, g + k * g_stride, g_stride, lanes, mean, sums,
                                    products);
            TYPED(add_products)(x + k * x_stride, x_stride, g + k * g_stride, g_stride, (int)(run - k), mean, sums,
                                products);
            i = i + run < a->inner ? i + run : 0;
            o += i == 0;
        }
        sum += TYPED(sum_lanes)(sums);
        product += TYPED(sum_lanes)(products);
    }
    TYPED(gradient) c = TYPED(finish_sums)(a, channel, sum, product);
    for (ptrdiff_t o = 0; o < a->outer; o++) {
        const real *x = TYPED(at)(a->x, o, channel), *g = TYPED(at)(a->grad_y, o, channel);
        real *y = (real *)TYPED(at)(a->grad_x, o, channel);
        if (!a->training) {
#pragma omp simd
            for (ptrdiff_t i = 0; i < a->inner; i++)
                y[i * y_stride] = g[i * g_stride] * c.scale;
            continue;
        }
#pragma omp simd
        for (ptrdiff_t i = 0; i < a->inner; i++) {
            real d = (x[i * x_stride] - c.high) - c.low;
            y[i * y_stride] = ((g[i * g_stride] - c.average) - d * c.slope) * c.scale;
        }
    }
}

static void TYPED(batch_norm_forward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    ptrdiff_t x_stride = a->x.inner_stride, y_stride = a->y.inner_stride;
    for (ptrdiff_t c = begin; c < end; c++) {
        if (x_stride == 1 && y_stride == 1)
            TYPED(normalize_channel)(a, c, TYPED(finish_moments)(a, c, TYPED(channel_moments)(a, c, 1)), 1, 1);
        else
            TYPED(normalize_channel)(a, c, TYPED(finish_moments)(a, c, TYPED(channel_moments)(a, c, x_stride)),
                                     x_stride, y_stride);
    }
}

static void TYPED(batch_norm_inference)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    ptrdiff_t x_stride = a->x.inner_stride, y_stride = a->y.inner_stride;
    for (ptrdiff_t c = begin; c < end; c++) {
        if (x_stride == 1 && y_stride == 1)
            TYPED(normalize_channel)(a, c, TYPED(inference_affine)(a, c), 1, 1);
        else
            TYPED(normalize_channel)(a, c, TYPED(inference_affine)(a, c), x_stride, y_stride);
    }
}

static void TYPED(batch_norm_backward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const batch_norm_args *a = args;
    ptrdiff_t x_stride = a->x.inner_stride, g_stride = a->grad_y.inner_stride, y_stride = a->grad_x.inner_stride;
    for (ptrdiff_t c = begin; c < end; c++) {
        if (x_stride == 1 && g_stride == 1 && y_stride == 1)
            TYPED(gradient_channel)(a, c, 1, 1, 1);
        else
            TYPED(gradient_channel)(a, c, x_stride, g_stride, y_stride);
    }
}
