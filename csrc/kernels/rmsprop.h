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
    real alpha, gain, limit, average_limit, eps, momentum, lr;
    bool nesterov;
} TYPE(rmsprop_scalars);

typedef struct {
    real *p, *s, *a, *b, *e;
    const real *g;
} TYPE(rmsprop_arrays);

/* A block's gradients as they count, and what their roots are taken of; then the denominators. */
typedef struct {
    real u[STEP_BLOCK], d[STEP_BLOCK];
} TYPE(rmsprop_block);

INLINE void TYPED(rmsprop_moments)(const real *restrict p, const real *restrict g, real *restrict s, real *restrict a,
                                   TYPE(rmsprop_block) *restrict block, ptrdiff_t n, TYPE(regularizer) r,
                                   TYPE(rmsprop_scalars) k, bool centered, bool coupled)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = TYPED(zero_below)(coupled ? g[i] + r.weight_decay * p[i] : g[i], k.limit);
        real variance = TYPED(flush_positive)(k.alpha * s[i] + (k.gain * u) * u);
        s[i] = variance;
        if (centered) {
            real average = TYPED(zero_below)(k.alpha * a[i] + k.gain * u, k.average_limit);
            a[i] = average;
            variance -= average * average;
            variance = variance < REAL_TINY ? 0 : variance;
        }
        block->u[i] = u;
        block->d[i] = variance;
    }
}

INLINE void TYPED(rmsprop_denominators)(real *restrict d, ptrdiff_t n, TYPE(rmsprop_scalars) k)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++)
        d[i] = SQRT(d[i]) + k.eps;
}

INLINE void TYPED(rmsprop_quotients)(real *restrict p, real *restrict b, const TYPE(rmsprop_block) *restrict block,
                                     ptrdiff_t n, TYPE(regularizer) r, TYPE(rmsprop_scalars) k, bool decoupled,
                                     bool has_momentum, bool nesterov)
{
#pragma omp simd
    for (ptrdiff_t i = 0; i < n; i++) {
        real u = block->u[i] / block->d[i];
        if (has_momentum) {
            real velocity = TYPED(flush)(k.momentum * b[i] + u);
            b[i] = velocity;
            u = nesterov ? u + k.momentum * velocity : velocity;
        }
        p[i] = (decoupled ? p[i] * r.keep : p[i]) - k.lr * u;
    }
}

/* From element i on, as the next one. */
INLINE void TYPED(rmsprop_begin)(TYPE(rmsprop_arrays) a, TYPE(rmsprop_block) *block, ptrdiff_t i, ptrdiff_t n,
                                 TYPE(regularizer) r, TYPE(rmsprop_scalars) k)
{
    real buffer[STEP_BLOCK], *average = a.a ? a.a + i : a.a;
    const real *g = TYPED(regularize_grads)(buffer, a.g + i, a.p + i, n, r);
    bool coupled = TYPED(rest_of)(r).decay == COUPLED;
    if (average && coupled)
        TYPED(rmsprop_moments)(a.p + i, g, a.s + i, average, block, n, r, k, true, true);
    else if (average)
        TYPED(rmsprop_moments)(a.p + i, g, a.s + i, average, block, n, r, k, true, false);
    else if (coupled)
        TYPED(rmsprop_moments)(a.p + i, g, a.s + i, average, block, n, r, k, false, true);
    else
        TYPED(rmsprop_moments)(a.p + i, g, a.s + i, average, block, n, r, k, false, false);
}

INLINE void TYPED(rmsprop_finish)(TYPE(rmsprop_arrays) a, const TYPE(rmsprop_block) *block, ptrdiff_t i, ptrdiff_t n,
                                  TYPE(regularizer) r, TYPE(rmsprop_scalars) k)
{
    real *velocity = a.b ? a.b + i : a.b;
    bool decoupled = r.decay == DECOUPLED;
    if (!velocity && decoupled)
        TYPED(rmsprop_quotients)(a.p + i, velocity, block, n, r, k, true, false, false);
    else if (!velocity)
        TYPED(rmsprop_quotients)(a.p + i, velocity, block, n, r, k, false, false, false);
    else if (k.nesterov && decoupled)
        TYPED(rmsprop_quotients)(a.p + i, velocity, block, n, r, k, true, true, true);
    else if (k.nesterov)
        TYPED(rmsprop_quotients)(a.p + i, velocity, block, n, r, k, false, true, true);
    else if (decoupled)
        TYPED(rmsprop_quotients)(a.p + i, velocity, block, n, r, k, true, true, false);
    else
        TYPED(rmsprop_quotients)(a.p + i, velocity, block, n, r, k, false, true, false);
    TYPED(regularize_params)(a.p + i, a.e ? a.e + i : a.e, n, r);
}

/* In blocks of a few vectors: one's quotients are taken after the moments of the next, and before its roots, so that
 * neither is waited for. */
INLINE void TYPED(rmsprop_part)(TYPE(rmsprop_arrays) a, ptrdiff_t n, TYPE(regularizer) r, TYPE(rmsprop_scalars) k)
{
    TYPE(rmsprop_block) blocks[2];
    ptrdiff_t i = 0;
    int now = 0;
    for (; i + STEP_BLOCK <= n; i += STEP_BLOCK, now = !now) {
        TYPED(rmsprop_begin)(a, &blocks[now], i, STEP_BLOCK, r, k);
        if (i > 0)
            TYPED(rmsprop_finish)(a, &blocks[!now], i - STEP_BLOCK, STEP_BLOCK, r, k);
        TYPED(rmsprop_denominators)(blocks[now].d, STEP_BLOCK, k);
    }
    if (i > 0)
        TYPED(rmsprop_finish)(a, &blocks[!now], i - STEP_BLOCK, STEP_BLOCK, r, k);
    TYPED(rmsprop_begin)(a, &blocks[now], i, n - i, r, k);
    TYPED(rmsprop_denominators)(blocks[now].d, n - i, k);
    TYPED(rmsprop_finish)(a, &blocks[now], i, n - i, r, k);
}

static void TYPED(rmsprop_step)(const rmsprop_args *o, ptrdiff_t begin, ptrdiff_t end)
{
    const tensor_list *t = &o->step.tensors;
    TYPE(regularizer) r = TYPED(make_regularizer)(&o->step, o->step.lr);
    TYPE(rmsprop_scalars) k = {
        .alpha = (real)o->alpha,
        .gain = (real)(1 - o->alpha),
        .limit = TYPED(square_limit)(1 - o->alpha),
        .average_limit = TYPED(square_limit)(1),
        .eps = TYPED(root_eps)(o->eps, 1),
        .momentum = (real)o->momentum,
        .lr = (real)o->step.lr,
        .nesterov = o->nesterov,
    };
    /* Gradients are scaled beforehand: one product more between roots and quotients is one too many. */
    r.plain = r.plain && r.grad_scale == 1;
    for (ptrdiff_t i = find_tensor(t, begin); i < t->count && t->offsets[i] < end; i++) {
        tensor_part part = part_of_tensor(t, i, begin, end);
        TYPE(rmsprop_arrays) arrays = {
            .p = TYPED(array_from)(o->step.params, part),
            .g = TYPED(array_from)(o->step.grads, part),
            .s = TYPED(array_from)(o->square_avgs, part),
            .a = TYPED(array_from)(o->grad_avgs, part),
            .b = TYPED(array_from)(o->momentum_buffers, part),
            .e = TYPED(array_from)(o->step.ema_params, part),
        };
        /* The commonest apart: the compiler then knows its options. */
        if (r.plain && r.decay == NO_DECAY && !arrays.a && !arrays.b) {
            r.plain = true, r.decay = NO_DECAY, arrays.a = arrays.b = arrays.e = NULL;
            TYPED(rmsprop_part)(arrays, part.size, r, k);
        } else
            TYPED(rmsprop_part)(arrays, part.size, r, k);
    }
}
