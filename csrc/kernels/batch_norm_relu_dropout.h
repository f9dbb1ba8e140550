/* batch_norm_relu_dropout_forward, batch_norm_relu_dropout_backward: what the kernels of batch normalisation do
 * beside, where args->relu or args->mask is set.
 *
 *   y = dropout(max(y, 0))
 *   g = grad_y / (1 - p) where the mask's bit is 1, else 0
 *
 * To the bytes per element of batch normalisation comes the mask's bit. */

/* n < 32 elements of one word of the mask, of which other threads may hold the rest. */
INLINE void TYPED(finish_part)(const batch_norm_args *a, real *y, ptrdiff_t first, ptrdiff_t n, real scale, bool relu,
                               bool dropout)
{
    uint32_t shift = (uint32_t)(first % 32), own = (((uint32_t)1 << n) - 1) << shift;
    uint32_t *shared = a->mask ? a->mask + first / 32 : NULL;
    uint32_t word = shared ? __atomic_load_n(shared, __ATOMIC_RELAXED) >> shift : 0xFFFFFFFF;
    real part[32] = {0};
    memcpy(part, y, (size_t)n * sizeof *y);
    word = TYPED(forward_word)(part, NULL, part, word, scale, relu, dropout);
    memcpy(y, part, (size_t)n * sizeof *y);
    if (shared && relu)
        __atomic_fetch_and(shared, word << shift | ~own, __ATOMIC_RELAXED);
}

/* `relu` and `dropout` are constants. */
INLINE void TYPED(finish_words)(const batch_norm_args *a, real *y, ptrdiff_t first, ptrdiff_t n, bool relu,
                                bool dropout)
{
    real scale = TYPED(dropout_scale)(a->p);
    ptrdiff_t i = -first & 31;
    i = i < n ? i : n;
    if (i > 0)
        TYPED(finish_part)(a, y, first, i, scale, relu, dropout);
    for (; i + 32 <= n; i += 32) {
        uint32_t all = 0xFFFFFFFF, *word = a->mask ? a->mask + (first + i) / 32 : &all;
        *word = TYPED(forward_word)(y + i, NULL, y + i, *word, scale, relu, dropout);
    }
    if (i < n)
        TYPED(finish_part)(a, y + i, first + i, n - i, scale, relu, dropout);
}

/* ReLU and dropout of n elements in place, of which the first is number `first` in memory order. */
static void TYPED(finish)(const batch_norm_args *a, real *y, ptrdiff_t first, ptrdiff_t n)
{
    if (a->relu && a->p > 0)
        TYPED(finish_words)(a, y, first, n, true, true);
    else if (a->relu)
        TYPED(finish_words)(a, y, first, n, true, false);
    else if (a->p > 0)
        TYPED(finish_words)(a, y, first, n, false, true);
}

/* What comes back through dropout and ReLU of n elements of grad_y, of which the first is number `first`. */
static void TYPED(pass_back)(const batch_norm_args *a, const real *grad_y, ptrdiff_t first, ptrdiff_t n, real *g)
{
    real scale = TYPED(dropout_scale)(a->p);
    uint32_t shift = (uint32_t)(first % 32);
    const uint32_t *mask = a->mask + first / 32;
    ptrdiff_t i = 0;
    for (; i + 32 <= n; i += 32, mask++) {
        uint32_t word = shift ? mask[0] >> shift | mask[1] << (32 - shift) : mask[0];
        TYPED(apply_word)(grad_y + i, g + i, word, 32, scale);
    }
    if (i < n) {
        bool two = (ptrdiff_t)shift + n - i > 32;
        uint32_t word = two ? mask[0] >> shift | mask[1] << (32 - shift) : mask[0] >> shift;
        TYPED(apply_word)(grad_y + i, g + i, word, (int)(n - i), scale);
    }
}
