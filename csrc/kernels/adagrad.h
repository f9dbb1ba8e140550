/* adagrad_step: Adagrad (Duchi, Hazan and Singer 2011).
 *
 *   g = ...                                     (regularize.h)
 *   s = s + g * g
 *   p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)
 *
 * param p (n) in and out, grad g (n) in, sum s (n) in and out.
 * Bytes per element in float32: 20. */

INLINE void TYPED(adagrad_range)(real *restrict p, const real *restrict g, real *restrict s, ptrdiff_t n,
                                 TYPE(regularizer) r, real lr, real eps)
{
    const real limit = TYPED(square_limit)(1);
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real scaled = r.grad_scale * g[i], exact = r.decay == COUPLED ? scaled + r.weight_decay * p[i] : scaled;
        real u = TYPED(zero_below)(exact, limit);
        /* That is u * u, which gcc would take of `exact`, and then select. */
        real sum = TYPED(flush_positive)(s[i] + u * exact);
        s[i] = sum;
        p[i] = (r.decay == DECOUPLED ? p[i] * r.keep : p[i]) - lr * (u / (SQRT(sum) + eps));
    }
}

static void TYPED(adagrad_step)(const adagrad_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const tensor_list *t = &a->step.tensors;
    real buffer[REGULARIZE_BLOCK];
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        double lr = a->step.lr / (1 + (double)(t->steps[i] - 1) * a->lr_decay);
        TYPE(regularizer) r = TYPED(make_regularizer)(&a->step, lr);
        tensor_part part = part_of_tensor(t, i, begin, end), block;
        for (ptrdiff_t done = 0; done < part.size; done += block.size) {
            block = TYPED(block_of)(part, done, r);
            real *p = TYPED(array_from)(a->step.params, block);
            real *e = TYPED(array_from)(a->step.ema_params, block);
            real *s = TYPED(array_from)(a->sums, block);
            const real *g = TYPED(array_from)(a->step.grads, block);
            g = TYPED(regularize_grads)(buffer, g, p, block.size, r);
            TYPED(adagrad_range)(p, g, s, block.size, TYPED(rest_of)(r), (real)lr, TYPED(root_eps)(a->eps, 1));
            TYPED(regularize_params)(p, e, block.size, r);
        }
    }
}
