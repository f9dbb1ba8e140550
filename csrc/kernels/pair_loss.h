/* The losses of pairs of elements: one loop for all. */

INLINE double TYPED(pair_term)(bool logits, real x, real t, real share, real *grad)
{
    return logits ? TYPED(bce_term)(x, t, share, grad) : TYPED(mse_term)(x, t, share, grad);
}

INLINE void TYPED(pair_loss)(const loss_args *a, ptrdiff_t begin, ptrdiff_t end, bool logits, real share)
{
    for (ptrdiff_t block = begin; block < end; block++) {
        ptrdiff_t first = block * a->block_rows, n = loss_block_end(a, block) - first, i = 0;
        const real *restrict x = (const real *)a->prediction + first, *restrict t = (const real *)a->target + first;
        real *restrict grad = (real *)a->grad + first;
        double lane[LOSS_LANES] = {0};
        for (; i + LOSS_LANES <= n; i += LOSS_LANES)
#pragma omp simd
            for (int l = 0; l < LOSS_LANES; l++)
                lane[l] += TYPED(pair_term)(logits, x[i + l], t[i + l], share, grad + i + l);
        for (int l = 0; l < n - i; l++)
            lane[l] += TYPED(pair_term)(logits, x[i + l], t[i + l], share, grad + i + l);
        a->partial[block] = sum_lanes(lane);
    }
}

/* By blocks of elements. */
static void TYPED(mse)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(pair_loss)(args, begin, end, false, (real)loss_share(args, 2));
}

static void TYPED(bce_with_logits)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    TYPED(pair_loss)(args, begin, end, true, (real)loss_share(args, 1));
}
