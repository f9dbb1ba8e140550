/* rmsprop_step: RMSProp (Tieleman and Hinton 2012), centered as in Graves 2013.
 *
 *   g = grad_scale * g                          (maximize: -grad_scale)
 *   g = g + weight_decay * p
 *   s = alpha * s + (1 - alpha) * g * g
 *   a = alpha * a + (1 - alpha) * g             (centered)
 *   u = g / (sqrt(s - a * a) + eps)             (without a * a if not centered)
 *   b = momentum * b + u                        (with momentum)
 *   p = p - lr * b                              (lr * u without)
 *
 * param p (n) in and out, grad g (n) in, square_avg s, grad_avg a, momentum_buffer b (n) in and out.
 * Bytes per element in float32: 20, and 8 more for each of centered and momentum. */

typedef struct {
    TYPED(scale) weight_decay, square_gain, gain, one, lr;
    real alpha, eps, momentum, grad_scale;
    bool decays;
} TYPED(rmsprop_scalars);

INLINE void TYPED(rmsprop_range)(real *restrict p, const real *restrict g, real *restrict s, real *restrict a,
                                 real *restrict b, ptrdiff_t n, TYPED(rmsprop_scalars) k, bool centered,
                                 bool has_momentum)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = k.grad_scale * g[i];
        u = k.decays ? u + TYPED(scaled)(k.weight_decay, p[i]) : u;
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
            u = k.momentum * b[i] + u;
            b[i] = TYPED(flush)(u);
        }
        p[i] -= TYPED(scaled)(k.lr, u);
    }
}

static void TYPED(rmsprop_step)(const void *args, ptrdiff_t begin, ptrdiff_t end)
{
    const rmsprop_args *r = args;
    const tensors *t = &r->tensors;
    TYPED(rmsprop_scalars) k = {
        .weight_decay = TYPED(make_scale)(r->weight_decay),
        .square_gain = TYPED(make_square_scale)(1 - r->alpha),
        .gain = TYPED(make_scale)(1 - r->alpha),
        .one = TYPED(make_square_scale)(1),
        .lr = TYPED(make_scale)(r->lr),
        .alpha = (real)r->alpha,
        .eps = (real)r->eps,
        .momentum = (real)r->momentum,
        .grad_scale = (real)(r->maximize ? -r->grad_scale : r->grad_scale),
        .decays = r->weight_decay != 0,
    };
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        tensor_part part = part_of_tensor(t, i, begin, end);
        real *p = TYPED(array_from)(r->params, part);
        real *g = TYPED(array_from)(r->grads, part);
        real *s = TYPED(array_from)(r->square_avgs, part);
        real *a = TYPED(array_from)(r->grad_avgs, part);
        real *b = TYPED(array_from)(r->momentum_buffers, part);
        if (a && b)
            TYPED(rmsprop_range)(p, g, s, a, b, part.size, k, true, true);
        else if (a)
            TYPED(rmsprop_range)(p, g, s, a, b, part.size, k, true, false);
        else if (b)
            TYPED(rmsprop_range)(p, g, s, a, b, part.size, k, false, true);
        else
            TYPED(rmsprop_range)(p, g, s, a, b, part.size, k, false, false);
    }
}
