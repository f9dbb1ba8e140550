/* lion_step: Lion (Chen et al. 2023), whose steps have one size.
 *
 *   g = ...                                (regularize.h)
 *   c = beta1 * m + (1 - beta1) * g
 *   m = beta2 * m + (1 - beta2) * g
 *   p = p - lr * sign(c)                   (sign(0) = 0)
 *
 * A gradient of which a share would be subnormal counts as 0: here both shares are all that there is of it.
 *
 * param p (n) in and out, grad g (n) in, exp_avg m (n) in and out. Bytes per element in float32: 20. */

typedef struct {
    real beta1, gain1, beta2, gain2, limit, lr;
} TYPE(lion_scalars);

INLINE void TYPED(lion_range)(real *restrict p, const real *restrict g, real *restrict m, ptrdiff_t n,
                              TYPE(regularizer) r, TYPE(lion_scalars) k)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = r.grad_scale * g[i];
        u = TYPED(zero_below)(r.decay == COUPLED ? u + r.weight_decay * p[i] : u, k.limit);
        real direction = k.beta1 * m[i] + k.gain1 * u;
        m[i] = TYPED(flush)(k.beta2 * m[i] + k.gain2 * u);
        real step = direction > 0 ? k.lr : direction - direction; /* 0 or NaN */
        step = direction < 0 ? -k.lr : step;
        p[i] = (r.decay == DECOUPLED ? p[i] * r.keep : p[i]) - step;
    }
}

static void TYPED(lion_step)(const lion_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const tensor_list *t = &a->step.tensors;
    TYPE(regularizer) r = TYPED(make_regularizer)(&a->step, a->step.lr), rest = TYPED(rest_of)(r);
    TYPE(lion_scalars) k = {
        .beta1 = (real)a->beta1,
        .gain1 = (real)(1 - a->beta1),
        .beta2 = (real)a->beta2,
        .gain2 = (real)(1 - a->beta2),
        .limit = (real)(REAL_TINY / (a->beta1 > a->beta2 ? 1 - a->beta1 : 1 - a->beta2)),
        .lr = (real)a->step.lr,
    };
    real buffer[REGULARIZE_BLOCK];
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        tensor_part part = part_of_tensor(t, i, begin, end), block;
        for (ptrdiff_t done = 0; done < part.size; done += block.size) {
            block = TYPED(block_of)(part, done, r);
            real *p = TYPED(array_from)(a->step.params, block);
            real *e = TYPED(array_from)(a->step.ema_params, block);
            const real *g = TYPED(array_from)(a->step.grads, block);
            g = TYPED(regularize_grads)(buffer, g, p, block.size, r);
            TYPED(lion_range)(p, g, TYPED(array_from)(a->exp_avgs, block), block.size, rest, k);
            TYPED(regularize_params)(p, e, block.size, r);
        }
    }
}
