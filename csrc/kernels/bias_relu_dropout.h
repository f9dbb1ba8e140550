/* bias_relu_dropout_forward, bias_relu_dropout_backward: what follows a matrix product, in one pass.
 *
 *   y = dropout(max(x + bias, 0))                                each of the three may be left out
 *   grad_x = grad_y / (1 - p) where the mask's bit is 1, else 0; grad_bias = sum of grad_x over the rows, as in bias.h
 *
 * x, y, grad_y, grad_x (rows, channels), bias, grad_bias (channels), mask as in dropout.h, its bits 0 where
 * max gave 0, too. Elements are taken by the word of the mask, wherever the rows begin: the bias is read from
 * a copy that goes on periodically for a word, and sums are kept in `period`, a multiple of the channels.
 * Bytes per element in float32: 8.125. */

/* A word of y; returns that of the mask, `kept` being the bits that dropout draws. */
INLINE uint32_t TYPED(forward_word)(const real *x, const real *bias, real *y, uint32_t kept, real scale, bool relu,
                                    bool dropout)
{
    uint32_t zeros = 0;
#pragma omp simd reduction(| : zeros)
    for (int j = 0; j < 32; j++) {
        real sum = bias ? x[j] + bias[j] : x[j];
        real positive = relu && sum <= 0 ? 0 : sum;
        zeros |= relu && sum <= 0 ? dropout_bit[j] : 0;
        y[j] = dropout ? TYPED(keep)(positive, kept, j, scale) : positive;
    }
    return kept & ~zeros;
}

/* n elements from `first` on, and their mask in place of what dropout draws; `bias`, `relu` and `dropout` are
 * constants. */
INLINE void TYPED(forward_block)(const bias_relu_dropout_args *a, real *y, uint32_t *mask, ptrdiff_t first, ptrdiff_t n,
                                 bool bias, bool relu, bool dropout)
{
    const real *x = (const real *)a->x + first, *periodic = a->bias;
    real scale = TYPED(dropout_scale)(a->p);
    ptrdiff_t channels = bias ? a->channels : 1, channel = first % channels, step = 32 % channels, i = 0;
    for (; i + 32 <= n; i += 32, mask++) {
        *mask = TYPED(forward_word)(x + i, bias ? periodic + channel : NULL, y + i, *mask, scale, relu, dropout);
        channel += channels > 32 ? 32 : step;
        channel -= channel >= channels ? channels : 0;
    }
    if (i < n) {
        real rest[32] = {0};
        size_t bytes = (size_t)(n - i) * sizeof *x;
        memcpy(rest, x + i, bytes);
        *mask = TYPED(forward_word)(rest, bias ? periodic + channel : NULL, rest, *mask, scale, relu, dropout);
        *mask &= ((uint32_t)1 << (n - i)) - 1;
        memcpy(y + i, rest, bytes);
    }
}

INLINE void TYPED(forward_any)(const bias_relu_dropout_args *a, real *y, uint32_t *mask, ptrdiff_t first, ptrdiff_t n)
{
    bool bias = a->bias, relu = a->relu, dropout = a->p > 0;
    if (bias && relu && dropout)
        TYPED(forward_block)(a, y, mask, first, n, true, true, true);
    else if (bias && relu)
        TYPED(forward_block)(a, y, mask, first, n, true, true, false);
    else if (bias)
        TYPED(forward_block)(a, y, mask, first, n, true, false, true);
    else if (relu && dropout)
        TYPED(forward_block)(a, y, mask, first, n, false, true, true);
    else if (relu)
        TYPED(forward_block)(a, y, mask, first, n, false, true, false);
    else if (dropout)
        TYPED(forward_block)(a, y, mask, first, n, false, false, true);
    else
        TYPED(forward_block)(a, y, mask, first, n, false, false, false);
}

/* By elements, in parts that begin at multiples of DROPOUT_GROUP. */
static void TYPED(bias_relu_dropout_forward)(const bias_relu_dropout_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    bool around_cache = a->x != a->y && (size_t)a->size * sizeof(real) >= nontemporal_bytes;
    for (ptrdiff_t first = begin; first < end; first += DROPOUT_GROUP) {
        ptrdiff_t n = end - first < DROPOUT_GROUP ? end - first : DROPOUT_GROUP;
        real *y = (real *)a->y, block[DROPOUT_TILE];
        uint32_t mask[DROPOUT_WORDS];
        if (a->p > 0)
            draw_mask(mask, first, first + n, 1 - a->p, a->seed, a->offset);
        else
            memset(mask, 0xFF, sizeof mask);
        for (ptrdiff_t i = 0; i < n; i += DROPOUT_TILE) {
            ptrdiff_t length = n - i < DROPOUT_TILE ? n - i : DROPOUT_TILE;
            TYPED(forward_any)(a, around_cache ? block : y + first + i, mask + i / 32, first + i, length);
            if (around_cache)
                copy_nontemporal(y + first + i, block, (size_t)length * sizeof *y);
        }
        if (a->mask)
            memcpy(a->mask + first / 32, mask, (size_t)((n + 31) / 32) * sizeof *mask);
    }
    if (around_cache)
        finish_nontemporal();
}

/* By blocks of BIAS_BLOCK_ROWS * period elements: partial[block] = sums of the block's elements that share a column. */
static void TYPED(bias_relu_dropout_backward)(const bias_relu_dropout_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const real *grad_y = a->x;
    real *grad_x = a->y, scale = TYPED(dropout_scale)(a->p);
    ptrdiff_t period = a->period, block = BIAS_BLOCK_ROWS * period;
    ptrdiff_t last = end * block < a->size ? end * block : a->size, masked = begin * block;
    memset(a->partial + begin * period, 0, (size_t)((end - begin) * period) * sizeof *a->partial);
    for (ptrdiff_t i = begin * block; i < last; i += BIAS_ROWS_AT_ONCE * period) {
        ptrdiff_t n = last - i < BIAS_ROWS_AT_ONCE * period ? last - i : BIAS_ROWS_AT_ONCE * period;
        /* By whole words, which may begin the rows that come next. */
        for (; masked + 32 <= last && masked < i + n; masked += 32)
            TYPED(apply_word)(grad_y + masked, grad_x + masked, a->mask[masked / 32], 32, scale);
        if (masked < i + n)
            TYPED(apply_word)(grad_y + masked, grad_x + masked, a->mask[masked / 32], (int)(last - masked), scale);
        TYPED(add_periods)(a->partial + i / block * period, grad_x + i, period, n);
    }
}
