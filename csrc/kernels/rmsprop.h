/* rmsprop_step: RMSProp (Tieleman and Hinton 2012), centered as in Graves 2013.
 *
 *   g = ...                                     (regularize.h)
 *   s = alpha * s + (1 - alpha) * g * g
 *   a = alpha * a + (1 - alpha) * g             (centered)
 *   u = g / (sqrt(s - a * a) + eps)             (without a * a if not centered)
 *   b = momentum * b + u                        (with momentum)
 *   p = p - lr * b                              (lr * u without; Nesterov: lr * (u + momentum * b))
 *
 * param p (n) in and out, grad g (n) in, square_avg s, grad_avg a, momentum_buffer b (n) in and out.
 * Bytes per element in float32: 20, and 8 more for each of centered and momentum. */

typedef struct {
    TYPE(scale) square_gain, gain, one, momentum, lr;
    real alpha, eps;
} TYPE(rmsprop_scalars);

INLINE void TYPED(rmsprop_range)(real *restrict p, const real *restrict g, real *restrict s, real *restrict a,
                                 real *restrict b, ptrdiff_t n, TYPE(regularizer) r, TYPE(rmsprop_scalars) k,
                                 bool centered, bool decays, bool has_momentum, bool nesterov)
{
    real momentum = k.momentum.factor;
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = r.grad_scale * g[i];
        if (decays)
            u += TYPED(scaled)(r.weight_decay, p[i]);
        real variance = TYPED(flush)(k.alpha * s[i] + TYPED(scaled_square)(k.square_gain, u));
        s[i] = variance;
        if (centered) {
            real average = TYPED(flush)(k.alpha * a[i] + TYPED(scaled)(k.gain, u));
            a[i] = average;
            variance -= TYPED(scaled_square)(k.one, average);
            variance = variance < REAL_TINY ? 0 : variance;
        }
        u /= SQRT(variance) + k.eps;
        if (has_momentum) {
            real velocity = momentum * b[i] + u;
            b[i] = TYPED(flush)(velocity);
            u = nesterov ? u + TYPED(scaled)(k.momentum, velocity) : velocity;
        }
        p[i] = p[i] * r.keep - TYPED(scaled)(k.lr, u);
    }
}

INLINE void TYPED(rmsprop_block)(real *restrict p, const real *restrict g, real *restrict s, real *restrict a,
                                 real *restrict b, ptrdiff_t n, TYPE(regularizer) r, TYPE(rmsprop_scalars) k,
                                 bool centered, bool decays, bool nesterov)
{
    if (!b)
        TYPED(rmsprop_range)(p, g, s, a, b, n, r, k, centered, decays, false, false);
    else if (nesterov)
        TYPED(rmsprop_range)(p, g, s, a, b, n, r, k, centered, decays, true, true);
    else
        TYPED(rmsprop_range)(p, g, s, a, b, n, r, k, centered, decays, true, false);
}

static void TYPED(rmsprop_step)(const rmsprop_args *o, ptrdiff_t begin, ptrdiff_t end)
{
    const tensor_list *t = &o->step.tensors;
    TYPE(regularizer) r = TYPED(make_regularizer)(&o->step, o->step.lr), rest = TYPED(rest_of)(r);
    TYPE(rmsprop_scalars) k = {
        .square_gain = TYPED(make_square_scale)(1 - o->alpha),
        .gain = TYPED(make_scale)(1 - o->alpha),
        .one = TYPED(make_square_scale)(1),
        .momentum = TYPED(make_scale)(o->momentum),
        .lr = TYPED(make_scale)(o->step.lr),
        .alpha = (real)o->alpha,
        .eps = (real)o->eps,
    };
    real buffer[REGULARIZE_BLOCK];
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        tensor_part part = part_of_tensor(t, i, begin, end), block;
        for (ptrdiff_t done = 0; done < part.size; done += block.size) {
            block = TYPED(block_of)(part, done, r);
            real *p = TYPED(array_from)(o->step.params, block);
            real *e = TYPED(array_from)(o->step.ema_params, block);
            const real *g = TYPED(array_from)(o->step.grads, block);
            g = TYPED(regularize_grads)(buffer, g, p, block.size, r);
            real *s = TYPED(array_from)(o->square_avgs, block);
            real *a = TYPED(array_from)(o->grad_avgs, block);
            real *b = TYPED(array_from)(o->momentum_buffers, block);
            if (a && rest.decays)
                TYPED(rmsprop_block)(p, g, s, a, b, block.size, rest, k, true, true, o->nesterov);
            else if (a)
                TYPED(rmsprop_block)(p, g, s, a, b, block.size, rest, k, true, false, o->nesterov);
            else if (rest.decays)
                TYPED(rmsprop_block)(p, g, s, a, b, block.size, rest, k, false, true, o->nesterov);
            else
                TYPED(rmsprop_block)(p, g, s, a, b, block.size, rest, k, false, false, o->nesterov);
            TYPED(regularize_params)(p, e, block.size, r);
        }
    }
}
