/* sgd_step: stochastic gradient descent with momentum (Sutskever et al. 2013).
 *
 *   g = ...                                     (regularize.h)
 *   v = momentum * v + (1 - dampening) * g      (g itself at a tensor's first step)
 *   p = p - lr * v                              (Nesterov: lr * ((1 - dampening) * g + momentum * v))
 *
 * The running average has momentum as its dampening, and no exception at the first step.
 *
 * param p (n) in and out, grad g (n) in, momentum_buffer v (n) in and out.
 * Bytes per element in float32: 20; without momentum 12. */

typedef struct {
    real gain, momentum, lr;
    bool nesterov;
} TYPE(sgd_scalars);

INLINE void TYPED(sgd_range)(real *restrict p, const real *restrict g, real *restrict v, ptrdiff_t n,
                             TYPE(regularizer) r, TYPE(sgd_scalars) s, bool has_momentum, bool first)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = r.grad_scale * g[i];
        u = r.decay == COUPLED ? u + r.weight_decay * p[i] : u;
        if (has_momentum) {
            real gained = s.gain * u, velocity = TYPED(flush)(first ? u : s.momentum * v[i] + gained);
            v[i] = velocity;
            u = s.nesterov ? gained + s.momentum * velocity : velocity;
        }
        p[i] = (r.decay == DECOUPLED ? p[i] * r.keep : p[i]) - s.lr * u;
    }
}

static void TYPED(sgd_step)(const sgd_args *a, ptrdiff_t begin, ptrdiff_t end)
{
    const tensor_list *t = &a->step.tensors;
    TYPE(regularizer) r = TYPED(make_regularizer)(&a->step, a->step.lr), rest = TYPED(rest_of)(r);
    TYPE(sgd_scalars) s = {
        .gain = (real)(1 - (a->running_average ? a->momentum : a->dampening)),
        .momentum = (real)a->momentum,
        .lr = (real)a->step.lr,
        .nesterov = a->nesterov,
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
            real *v = TYPED(array_from)(a->momentum_buffers, block);
            if (!v)
                TYPED(sgd_range)(p, g, v, block.size, rest, s, false, false);
            else if (t->steps[i] == 1 && !a->running_average)
                TYPED(sgd_range)(p, g, v, block.size, rest, s, true, true);
            else
                TYPED(sgd_range)(p, g, v, block.size, rest, s, true, false);
            TYPED(regularize_params)(p, e, block.size, r);
        }
    }
}
