/* sgd_step: stochastic gradient descent with momentum (Sutskever et al. 2013).
 *
 *   g = grad_scale * g                          (maximize: -grad_scale)
 *   g = g + weight_decay * p
 *   v = momentum * v + (1 - dampening) * g      (g itself at a tensor's first step)
 *   p = p - lr * v                              (Nesterov: lr * (g + momentum * v))
 *
 * param p (n) in and out, grad g (n) in, momentum_buffer v (n) in and out.
 * Bytes per element in float32: 20; without momentum 12. */

typedef struct {
    TYPED(scale) weight_decay, gain, momentum, lr;
    real grad_scale;
    bool decays, nesterov;
} TYPED(sgd_scalars);

INLINE void TYPED(sgd_range)(real *restrict p, const real *restrict g, real *restrict v, ptrdiff_t n,
                             TYPED(sgd_scalars) s, bool has_momentum, bool first)
{
    real momentum = s.momentum.factor;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = s.grad_scale * g[i];
        u = s.decays ? u + TYPED(scaled)(s.weight_decay, p[i]) : u;
        if (has_momentum) {
            /* What flush makes 0 is below every limit of a scale, too. */
            real velocity = first ? u : momentum * v[i] + TYPED(scaled)(s.gain, u);
            v[i] = TYPED(flush)(velocity);
            u = s.nesterov ? u + TYPED(scaled)(s.momentum, velocity) : velocity;
        }
        p[i] -= TYPED(scaled)(s.lr, u);
    }
}

static void TYPED(sgd_step)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const sgd_args *a = args;
    const tensors *t = &a->tensors;
    TYPED(sgd_scalars) s = {
        .weight_decay = TYPED(make_scale)(a->weight_decay),
        .gain = TYPED(make_scale)(1 - a->dampening),
        .momentum = TYPED(make_scale)(a->momentum),
        .lr = TYPED(make_scale)(a->lr),
        .grad_scale = (real)(a->maximize ? -a->grad_scale : a->grad_scale),
        .decays = a->weight_decay != 0,
        .nesterov = a->nesterov,
    };
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        tensor_part part = part_of_tensor(t, i, begin, end);
        real *p = TYPED(array_from)(a->params, part);
        real *g = TYPED(array_from)(a->grads, part);
        real *v = TYPED(array_from)(a->momentum_buffers, part);
        if (!v)
            TYPED(sgd_range)(p, g, v, part.size, s, false, false);
        else if (t->steps[i] == 1)
            TYPED(sgd_range)(p, g, v, part.size, s, true, true);
        else
            TYPED(sgd_range)(p, g, v, part.size, s, true, false);
    }
}
