/* bias_relu_dropout_forward, bias_relu_dropout_backward: what follows a matrix product, in one pass.
 *
 *   y = dropout(max(x + bias, 0))                                each of the three may be left out
 *   grad_x = grad_y / (1 - p) where the mask's bit is 1, else 0; grad_bias = sum of grad_x over the rows
 *
 * x, y, grad_y, grad_x (rows, channels), bias, grad_bias (channels), mask as in dropout.h, its bits 0 where
 * max gave 0, too. Elements are taken by the word of the mask, wherever the rows begin: the bias is read from
 * a copy that goes on periodically for a word, and sums are kept in `lanes`, a multiple of the channels.
 * Bytes per element in float32: 8.125. */

/* y = x + bias, or x; returns the bits where y is not <= 0, all where `relu` is false. */
INLINE uint32_t TYPED(add_bias)(const real *x, const real *bias, real *restrict y, bool relu)
{
    BITS zeros = 0;
    for (int j = 0; j < 32; j++)
        y[j] = bias ? x[j] + bias[j] : x[j];
    if (!relu)
        return 0xFFFFFFFF;
    for (int j = 0; j < 32; j++)
        zeros |= y[j] <= 0 ? TYPED(bit)[j] : 0;
    return (uint32_t)~zeros;
}

/* A word of y, and of the mask if there is one: in it, `word` says what dropout keeps. */
INLINE void TYPED(forward_word)(const real *x, const real *bias, real *y, uint32_t *word, real scale, bool relu)
{
    real sum[32];
    uint32_t positive = TYPED(add_bias)(x, bias, sum, relu);
    if (word) {
        *word &= positive;
        TYPED(apply_word)(sum, y, *word, 32, scale);
    } else {
        memcpy(y, sum, sizeof sum);
    }
}

/* Elements [begin, end), of which `kept`, then the mask, holds the bits; `bias`, `relu` and `masked` are constants. */
INLINE void TYPED(forward_group)(const bias_relu_dropout_args *a, uint32_t *kept, ptrdiff_t begin, ptrdiff_t end,
                                 bool bias, bool relu, bool masked)
{
    const real *x = a->x, *periodic = a->bias;
    real *y = a->y, scale = TYPED(dropout_scale)(a->p);
    ptrdiff_t channels = bias ? a->channels : 1, channel = begin % channels, step = 32 % channels, i = begin;
    for (; i + 32 <= end; i += 32) {
        TYPED(forward_word)
        (x + i, bias ? periodic + channel : NULL, y + i, masked ? kept++ : NULL, scale, relu);
        channel += channels > 32 ? 32 : step;
        channel -= channel >= channels ? channels : 0;
    }
    if (i < end) {
        real last[32] = {0};
        size_t bytes = (size_t)(end - i) * sizeof *x;
        memcpy(last, x + i, bytes);
        TYPED(forward_word)(last, bias ? periodic + channel : NULL, last, masked ? kept : NULL, scale, relu);
        memcpy(y + i, last, bytes);
    }
}

/* By elements, in parts that begin at multiples of DROPOUT_GROUP. */
static void TYPED(bias_relu_dropout_forward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const bias_relu_dropout_args *a = args;
    for (ptrdiff_t first = begin; first < end; first += DROPOUT_GROUP) {
        ptrdiff_t last = end - first < DROPOUT_GROUP ? end : first + DROPOUT_GROUP;
        uint32_t kept[DROPOUT_WORDS];
        if (a->p > 0)
            draw_mask(kept, first, 1 - a->p, a->seed, a->offset);
        else
            memset(kept, 0xFF, sizeof kept);
        if (a->bias && a->relu)
            TYPED(forward_group)(a, kept, first, last, true, true, true);
        else if (a->bias && a->mask)
            TYPED(forward_group)(a, kept, first, last, true, false, true);
        else if (a->bias)
            TYPED(forward_group)(a, kept, first, last, true, false, false);
        else if (a->relu)
            TYPED(forward_group)(a, kept, first, last, false, true, true);
        else
            TYPED(forward_group)(a, kept, first, last, false, false, a->mask != NULL);
        if (a->mask) {
            if (last % 32)
                kept[(last - first) / 32] &= ((uint32_t)1 << last % 32) - 1;
            memcpy(a->mask + first / 32, kept, (size_t)((last - first + 31) / 32) * sizeof *kept);
        }
    }
}

INLINE void TYPED(add_to_lanes)(double *restrict sums, const real *y, ptrdiff_t n)
{
#pragma omp simd
    for (ptrdiff_t j = 0; j < n; j++)
        sums[j] += (double)y[j];
}

/* A word of n elements of grad_x, if there is a mask, and its share of the sums, the first in `lane`. */
INLINE void TYPED(backward_word)(const bias_relu_dropout_args *a, ptrdiff_t i, int n, real scale, double *sums,
                                 ptrdiff_t lane)
{
    const real *grad = (const real *)a->x + i;
    if (a->mask) {
        real *grad_x = (real *)a->y + i;
        TYPED(apply_word)(grad, grad_x, a->mask[i / 32], n, scale);
        grad = grad_x;
    }
    ptrdiff_t left = a->lanes - lane;
    if (n <= left) {
        TYPED(add_to_lanes)(sums + lane, grad, n);
    } else {
        TYPED(add_to_lanes)(sums + lane, grad, left);
        TYPED(add_to_lanes)(sums, grad + left, n - left);
    }
}

/* By blocks of BIAS_BLOCK_ROWS * lanes elements: partial[block] = sums of the block's elements that share a lane. */
static void TYPED(bias_relu_dropout_backward)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const bias_relu_dropout_args *a = args;
    real scale = TYPED(dropout_scale)(a->p);
    for (ptrdiff_t block = begin; block < end; block++) {
        double *sums = a->partial + block * a->lanes;
        ptrdiff_t i = block * BIAS_BLOCK_ROWS * a->lanes, last = i + BIAS_BLOCK_ROWS * a->lanes, lane = 0;
        last = last < a->size ? last : a->size;
        memset(sums, 0, (size_t)a->lanes * sizeof *sums);
        for (; i + 32 <= last; i += 32) {
            TYPED(backward_word)(a, i, 32, scale, sums, lane);
            lane += 32;
            lane -= lane >= a->lanes ? a->lanes : 0;
        }
        if (i < last)
            TYPED(backward_word)(a, i, (int)(last - i), scale, sums, lane);
    }
}

/* By channels: grad_bias from the blocks' sums. */
static void TYPED(bias_relu_dropout_merge_sums)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const bias_relu_dropout_args *a = args;
    double *restrict sum = a->partial;
    ptrdiff_t block = BIAS_BLOCK_ROWS * a->lanes, blocks = (a->size + block - 1) / block;
    for (ptrdiff_t row = 1; row < blocks * (a->lanes / a->channels); row++) {
        const double *restrict next = a->partial + row * a->channels;
#pragma omp simd
        for (ptrdiff_t c = begin; c < end; c++)
            sum[c] += next[c];
    }
    for (ptrdiff_t c = begin; c < end; c++)
        ((real *)a->grad_bias)[c] = (real)(blocks ? sum[c] : 0);
}
