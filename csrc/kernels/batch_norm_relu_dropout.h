/* batch_norm_relu_dropout_forward, batch_norm_relu_dropout_backward: what the kernels of batch normalisation do
 * beside, where args->relu or args->mask is set.
 *
 *   y = dropout(max(y, 0))
 *   g = grad_y / (1 - p) where the mask's bit is 1, else 0
 *
 * To the bytes per element of batch normalisation comes the mask's bit. */

/* 32 bits of the mask from bit `shift` of its first word on, of which `n` are asked for. */
INLINE uint32_t TYPED(unaligned_word)(const uint32_t *mask, uint32_t shift, ptrdiff_t n)
{
    uint32_t first = __atomic_load_n(mask, __ATOMIC_RELAXED) >> shift;
    if ((ptrdiff_t)shift + n <= 32)
        return first;
    return first | __atomic_load_n(mask + 1, __ATOMIC_RELAXED) << (32 - shift);
}

/* ReLU and dropout of the 32 elements y, whose bits in the mask begin with number `bit`; the bits to be cleared are
 * added to `zeros`. */
INLINE void TYPED(finish_word)(real *y, const uint32_t *mask, ptrdiff_t bit, uint32_t *zeros, real scale, bool relu,
                               bool dropout)
{
    uint32_t word = TYPED(unaligned_word)(mask + bit / 32, (uint32_t)(bit % 32), 32);
    uint32_t kept = TYPED(forward_word)(y, NULL, y, word, scale, relu, dropout);
    uint64_t cleared = (uint64_t)(word & ~kept) << bit % 32;
    zeros[bit / 32] |= (uint32_t)cleared;
    zeros[bit / 32 + 1] |= (uint32_t)(cleared >> 32);
}

/* n < 32 elements in the same way. */
INLINE void TYPED(finish_part)(real *y, ptrdiff_t n, const uint32_t *mask, ptrdiff_t bit, uint32_t *zeros, real scale,
                               bool relu, bool dropout)
{
    real part[32] = {0};
    uint32_t word = TYPED(unaligned_word)(mask, (uint32_t)bit, n) & (((uint32_t)1 << n) - 1);
    memcpy(part, y, (size_t)n * sizeof *y);
    uint32_t kept = TYPED(forward_word)(part, NULL, part, word, scale, relu, dropout);
    memcpy(y, part, (size_t)n * sizeof *y);
    uint64_t cleared = (uint64_t)(word & ~kept) << bit;
    zeros[0] = (uint32_t)cleared;
    zeros[1] = (uint32_t)(cleared >> 32);
}

/* `relu` and `dropout` are constants. Where n is no multiple of 32, the last 32 elements overlap those before them,
 * which is faster than a part. */
INLINE void TYPED(finish_words)(const batch_norm_args *a, real *y, ptrdiff_t first, ptrdiff_t n, bool relu,
                                bool dropout)
{
    real scale = TYPED(dropout_scale)(a->p);
    uint32_t *mask = a->mask + first / 32, zeros[TYPED(TILE) / 32 + 2] = {0};
    ptrdiff_t bit = first % 32, end = bit + n, words = (end + 31) / 32;
    if (bit == 0 && n % 32 == 0) {
        for (ptrdiff_t i = 0; i < n; i += 32, mask++)
            *mask = TYPED(forward_word)(y + i, NULL, y + i, *mask, scale, relu, dropout);
        return;
    }
    if (n < 32) {
        TYPED(finish_part)(y, n, mask, bit, zeros, scale, relu, dropout);
    } else {
        real last[32];
        memcpy(last, y + n - 32, sizeof last);
        for (ptrdiff_t i = 0; i + 32 <= n; i += 32)
            TYPED(finish_word)(y + i, mask, bit + i, zeros, scale, relu, dropout);
        TYPED(finish_word)(last, mask, end - 32, zeros, scale, relu, dropout);
        memcpy(y + n - 32, last, sizeof last);
    }
    /* In a loop of its own: in those above, this condition would leave a scalar copy of them. */
    for (ptrdiff_t w = 0; relu && w < words; w++)
        if ((w > 0 || bit == 0) && (w + 1 < words || end % 32 == 0))
            mask[w] &= ~zeros[w];
        else /* other threads may change the rest of the word at the same time */
            __atomic_fetch_and(mask + w, ~zeros[w], __ATOMIC_RELAXED);
}

/* ReLU and dropout of n <= TILE elements in place, of which the first is number `first` in memory order. */
static void TYPED(relu_dropout_tile_forward)(const batch_norm_args *a, real *y, ptrdiff_t first, ptrdiff_t n)
{
    if (a->relu && a->p > 0)
        TYPED(finish_words)(a, y, first, n, true, true);
    else if (a->relu)
        TYPED(finish_words)(a, y, first, n, true, false);
    else if (a->p > 0)
        TYPED(finish_words)(a, y, first, n, false, true);
}

/* What comes back through dropout and ReLU of n elements of grad_y, of which the first is number `first`. */
static void TYPED(relu_dropout_tile_backward)(const batch_norm_args *a, const real *grad_y, ptrdiff_t first,
                                              ptrdiff_t n, real *g)
{
    real scale = TYPED(dropout_scale)(a->p);
    uint32_t shift = (uint32_t)(first % 32);
    const uint32_t *mask = a->mask + first / 32;
    ptrdiff_t i = 0;
    for (; i + 32 <= n; i += 32, mask++)
        TYPED(apply_word)(grad_y + i, g + i, TYPED(unaligned_word)(mask, shift, 32), 32, scale);
    if (i < n)
        TYPED(apply_word)(grad_y + i, g + i, TYPED(unaligned_word)(mask, shift, n - i), (int)(n - i), scale);
}
